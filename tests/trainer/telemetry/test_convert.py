"""From what people hold to what is sent."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainer.telemetry.convert import (
    as_tensor,
    clip_to_int16,
    host_scalars,
    pictures_to_uint8,
    plain_parameters,
    stack_scalars,
    thumbnails_to_uint8,
)

META = torch.zeros((), device="meta")


@pytest.mark.parametrize(
    "value",
    [
        *(1.5, 1, True, np.float32(1.5), np.int64(2), np.bool_(True), Decimal("1.5"), Fraction(3, 2)),
        *(torch.tensor(1.5), torch.tensor(2), torch.tensor(True), torch.tensor([1.5]), torch.tensor(1.5).bfloat16()),
        *(torch.tensor(1.5, requires_grad=True), nn.Parameter(torch.tensor(1.5)), torch.tensor(1.5).double()),
    ],
    ids=repr,
)
def test_whatever_is_one_real_number_is_a_scalar(value: Any) -> None:
    expected = {"a": float(value.item() if isinstance(value, Tensor) else value), "b": 0.5}
    assert host_scalars({"a": value, "b": 0.5}) == expected
    assert host_scalars({"a": value, "b": torch.tensor(0.5)}) == expected
    assert {type(number) for number in (host_scalars({"a": value}) or {}).values()} == {float}


def test_numbers_that_are_not_finite_stay_so() -> None:
    found = host_scalars({"a": math.inf, "b": torch.tensor(-math.inf), "c": torch.tensor(math.nan)})
    assert found is not None
    assert (found["a"], found["b"]) == (math.inf, -math.inf)
    assert math.isnan(found["c"])


@pytest.mark.parametrize("value", [1j, None, "word", [1.0], torch.zeros(2), torch.tensor(1j), object(), 10**400, {}])
@pytest.mark.parametrize("other", [0.5, torch.tensor(0.5)])
def test_what_is_no_real_number_is_an_error(value: Any, other: Any) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError, OverflowError)):
        host_scalars({"a": other, "b": value})


@pytest.mark.parametrize("others", [{}, {"b": 0.5}, {"b": torch.tensor(0.5)}, {"b": nn.Parameter(torch.tensor(0.5))}])
def test_one_scalar_on_a_device_is_enough_to_fetch_none(others: dict[str, Any]) -> None:
    assert host_scalars({**others, "a": META}) is None


def test_no_scalars_are_no_scalars() -> None:
    assert host_scalars({}) == {}


def test_scalars_are_stacked_on_the_device_that_holds_one_of_them() -> None:
    stacked = stack_scalars({"a": 1.5, "b": META, "c": torch.tensor(2), "d": np.float64(2.5), "e": META.reshape(1)})
    assert (stacked.device.type, stacked.dtype, stacked.shape) == ("meta", torch.float32, (5,))


@pytest.mark.parametrize("value", ["word", torch.zeros(2, device="meta"), torch.zeros((), device="meta") + 1j])
def test_what_is_no_real_number_is_not_stacked(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        stack_scalars({"a": META, "b": value})


def test_parameters_are_plain_values() -> None:
    given = {"a": True, "b": 1, "c": 1.5, "d": "x", "e": np.float64(2.5), "f": np.int32(3), "g": np.bool_(False)}
    plain = plain_parameters(given)
    assert plain == {"a": True, "b": 1, "c": 1.5, "d": "x", "e": 2.5, "f": 3, "g": False}
    assert [type(value) for value in plain.values()] == [bool, int, float, str, float, int, bool]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, 1j, b"x", torch.tensor(1), np.complex64(1)])
def test_a_parameter_of_another_type_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match="parameter 'lr' is"):
        plain_parameters({"good": 1, "lr": value})


def test_a_parameter_without_a_name_is_an_error() -> None:
    with pytest.raises(TypeError, match="parameter 5 is"):
        plain_parameters({5: 1})  # type: ignore[dict-item]


def test_tensors_and_arrays_are_used_as_they_lie_in_memory() -> None:
    tensor, array = torch.zeros(3, requires_grad=True), np.zeros(3, np.float32)
    assert as_tensor(tensor).data_ptr() == tensor.data_ptr()
    assert not as_tensor(tensor).requires_grad
    assert as_tensor(array).data_ptr() == array.ctypes.data


def test_arrays_that_torch_does_not_take_are_copied() -> None:
    """A picture turned around with ``[::-1]``, and memory that may not be written."""
    turned = np.arange(6)[::-1]
    assert as_tensor(turned).tolist() == [5, 4, 3, 2, 1, 0]
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    assert as_tensor(fixed).tolist() == [0.0, 1.0, 2.0]
    assert as_tensor(np.array(1.5)).shape == ()


@pytest.mark.parametrize("values", [torch.zeros(2, dtype=torch.complex64), np.zeros(2, np.complex128)])
def test_complex_numbers_are_not_cut_in_half_silently(values: Any) -> None:
    with pytest.raises(TypeError, match="expected real numbers"):
        as_tensor(values)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("NCHW", (2, 3, 4, 5)), ("NHWC", (2, 4, 5, 3)), ("CHW", (3, 4, 5)), ("HWC", (4, 5, 3)), ("HW", (4, 5))],
)
def test_pictures_of_any_layout_become_one(layout: str, shape: tuple[int, ...]) -> None:
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8)
    found = pictures_to_uint8(pictures, layout)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert found.shape == (2 if "N" in layout else 1, 4, 5, 3 if "C" in layout else 1)
    dimensions = [layout.index(name) for name in "NHWC" if name in layout]
    expected = pictures.numpy().transpose(dimensions).reshape(found.shape)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(("shape", "layout"), [((2, 3, 4, 5), "NCHW"), ((3, 4, 5), "CHW"), ((4, 5), "HW")])
def test_the_layout_follows_from_the_number_of_dimensions(shape: tuple[int, ...], layout: str) -> None:
    pictures = torch.rand(shape)
    assert torch.equal(pictures_to_uint8(pictures), pictures_to_uint8(pictures, layout))


@pytest.mark.parametrize(
    ("shape", "layout"), [((4,), ""), ((1,) * 5, ""), ((4, 5), "CHW"), ((3, 4, 5), "WHC"), ((), ""), ((4, 5), "ab")]
)
def test_other_shapes_are_no_pictures(shape: tuple[int, ...], layout: str) -> None:
    with pytest.raises(ValueError, match="expected NCHW, NHWC, CHW, HWC, HW"):
        pictures_to_uint8(torch.zeros(shape), layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_rounded_and_clipped_and_do_not_wrap_around(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, 0.25, 0.5, 1.0, 1.5, -0.5, math.nan, math.inf, -math.inf, 300.0]], dtype=dtype)
    assert pictures_to_uint8(values).flatten().tolist() == [0, 64, 128, 255, 255, 0, 0, 255, 0, 255]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_integers_are_clipped(dtype: torch.dtype) -> None:
    assert pictures_to_uint8(torch.tensor([[-3, 0, 7, 255, 300]], dtype=dtype)).flatten().tolist() == [
        0,
        0,
        7,
        255,
        255,
    ]


def test_masks_are_black_and_white() -> None:
    assert pictures_to_uint8(torch.tensor([[True, False]])).flatten().tolist() == [255, 0]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 8, 6), (2, 8, 6, 3)),
        ((2, 1, 8, 6), (2, 8, 6, 3)),
        ((2, 4, 8, 6), (2, 8, 6, 3)),
        ((2, 3, 128, 64), (2, 64, 32, 3)),
        ((1, 3, 640, 2), (1, 64, 1, 3)),
    ],
)
def test_thumbnails_are_small_and_in_colour(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    found = thumbnails_to_uint8(torch.rand(shape))
    assert (found.shape, found.dtype, found.is_contiguous()) == (expected, torch.uint8, True)


def test_a_thumbnail_is_the_mean_of_its_picture() -> None:
    pictures = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    pictures[:, :, :, ::2] = 100
    assert set(thumbnails_to_uint8(pictures).flatten().tolist()) == {50}


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (torch.tensor([0.0, 0.5, 1.0, -1.0, 2.0, -3.0]), [[0], [16384], [32767], [-32767], [32767], [-32767]]),
        (torch.tensor([math.nan, math.inf]), [[0], [32767]]),
        (torch.tensor([[0.0, 1.0], [1.0, -1.0]], dtype=torch.float64), [[0, 32767], [32767, -32767]]),
        (torch.tensor([5, -7], dtype=torch.int16), [[5], [-7]]),
        (np.array([[1, 2, 3]], np.int16), [[1], [2], [3]]),
        (torch.tensor([0.5], dtype=torch.bfloat16), [[16384]]),
    ],
)
def test_clips_become_frames_of_16_bits(clip: Tensor, expected: list[list[int]]) -> None:
    found = clip_to_int16(clip)
    assert (found.dtype, found.is_contiguous()) == (torch.int16, True)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "clip", [torch.zeros(()), torch.zeros(1, 2, 3), torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.bool)]
)
def test_what_is_no_clip_is_an_error(clip: Tensor) -> None:
    with pytest.raises(ValueError, match="expected float or int16"):
        clip_to_int16(clip)
