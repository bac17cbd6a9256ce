"""Arrays of users to arrays of messages."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tensorboard_sidecar.telemetry.values.arrays import (
    as_tensor,
    clip_to_int16,
    matrix_to_floats,
    pictures_to_uint8,
    thumbnails_to_uint8,
)


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


def test_arrays_do_not_go_by_way_of_a_default_device() -> None:
    with torch.device("meta"):
        assert as_tensor(np.ones(2)).tolist() == [1.0, 1.0]
        assert pictures_to_uint8(np.ones((2, 2), np.uint8)).flatten().tolist() == [1, 1, 1, 1]


def test_lists_are_arrays_unless_they_hold_what_is_on_a_device() -> None:
    """Torch would fetch each tensor and wait for each."""
    assert as_tensor([1, 2.5]).tolist() == [1.0, 2.5]  # type: ignore[arg-type]
    assert as_tensor([torch.ones(()), torch.zeros(())]).tolist() == [1.0, 0.0]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="meta"):
        as_tensor([torch.zeros((), device="meta")])  # type: ignore[arg-type]


def test_a_view_with_its_sign_turned_is_read_with_its_sign() -> None:
    """Torch negates ``conj().imag`` lazily, and numpy would see the wrong sign."""
    values = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert values.is_neg()
    assert as_tensor(values).numpy().tolist() == [-2.0, 4.0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "None; expected a tensor or an array"),
        (torch.eye(3).to_sparse(), "sparse, nested or quantized"),
        (
            torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
            "sparse, nested or quantized",
        ),
        ("word", "numpy.str_"),
        (np.array([object()]), "numpy.object_"),
    ],
)
def test_what_is_no_plain_tensor_is_said(values: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        as_tensor(values)


@pytest.mark.parametrize("values", [torch.zeros(2, dtype=torch.complex64), np.zeros(2, np.complex128)])
def test_complex_numbers_are_not_cut_in_half_silently(values: Any) -> None:
    with pytest.raises(TypeError, match="expected real numbers"):
        as_tensor(values)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        *(("NCHW", (2, 3, 4, 5)), ("NHWC", (2, 4, 5, 3)), ("CHW", (3, 4, 5)), ("HWC", (4, 5, 3)), ("HW", (4, 5))),
        *(("WH", (5, 4)), ("WHC", (5, 4, 3)), ("CWH", (3, 5, 4)), ("HWN", (4, 5, 2)), ("WNCH", (5, 2, 3, 4))),
    ],
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
    assert torch.equal(pictures_to_uint8(pictures), pictures_to_uint8(pictures, layout.lower()))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((4,), ""), ((1,) * 5, ""), ((4, 5), "CHW"), ((3, 4, 5), "WHH"), ((3, 4, 5), "NCH"), ((), ""), ((4, 5), "ab")],
)
def test_other_shapes_are_no_pictures(shape: tuple[int, ...], layout: str) -> None:
    with pytest.raises(ValueError, match="expected one letter a dimension, of H, W and perhaps N, C"):
        pictures_to_uint8(torch.zeros(shape), layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_rounded_and_clipped_and_do_not_wrap_around(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, 0.25, 0.5, 1.0, 1.5, -0.5, math.nan, math.inf, -math.inf, 300.0]], dtype=dtype)
    assert pictures_to_uint8(values).flatten().tolist() == [0, 64, 128, 255, 255, 0, 0, 255, 0, 255]


@pytest.mark.parametrize(
    "values",
    [
        *(torch.tensor([[-3, 0, 7, 255, 300]], dtype=dtype) for dtype in (torch.int64, torch.int32, torch.int16)),
        *(np.array([[0, 0, 7, 255, 300]], dtype) for dtype in ("u4", "u8", ">i4", ">u4")),
    ],
)
def test_integers_are_clipped(values: Any) -> None:
    assert pictures_to_uint8(values).flatten().tolist() == [0, 0, 7, 255, 255]


@pytest.mark.parametrize(
    ("value_range", "dtype"),
    [
        ((-1.0, 1.0), torch.float16),
        ((0.0, 1024.0), torch.float16),
        ((-1024.0, -512.0), torch.float16),
        ((0.0, 2.0**-8), torch.float16),
        ((0.0, 2000.0), torch.float32),
        ((0.0, 1e-7), torch.float32),
        ((1000.0, 1001.0), torch.float32),
        ((0.9, 1.0), torch.float32),
        ((1.0, -1.0), torch.float32),
        ((0.0, math.nan), torch.float32),
        (None, torch.float32),
    ],
)
def test_a_matrix_is_small_only_where_that_shows_every_colour(
    value_range: tuple[float, float] | None, dtype: torch.dtype
) -> None:
    assert matrix_to_floats(torch.rand(3, 3), value_range).dtype == dtype
    assert matrix_to_floats(torch.rand(3, 3).double(), value_range).dtype == torch.float32
    if dtype == torch.float16 and value_range is not None:
        spacing = np.spacing(np.float16(max(map(abs, value_range))))
        assert spacing * 500 < value_range[1] - value_range[0]


@pytest.mark.parametrize(
    ("values", "value_range", "expected"),
    [
        (torch.tensor([1e5, -1e9, 0.5]), (0.0, 1.0), [65504.0, -65504.0, 0.5]),
        (torch.tensor([1e5, -1e9, 0.5]).bfloat16(), (0.0, 1.0), [65504.0, -65504.0, 0.5]),
        (torch.tensor([100_000, -70_000, 3]), (0.0, 4.0), [65504.0, -65504.0, 3.0]),
        (torch.tensor([1e300, -1e300], dtype=torch.float64), None, [3.4028234663852886e38, -3.4028234663852886e38]),
        (np.array([70_000, 1], np.uint32), (0.0, 1.0), [65504.0, 1.0]),
        (torch.tensor([True, False]), (0.0, 1.0), [1.0, 0.0]),
    ],
)
def test_a_finite_value_of_a_matrix_stays_finite(
    values: Any, value_range: tuple[float, float] | None, expected: list[float]
) -> None:
    """As infinity, the value would be drawn as not finite."""
    assert matrix_to_floats(values, value_range).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_what_is_not_finite_in_a_matrix_stays_so(dtype: torch.dtype) -> None:
    values = torch.tensor([math.inf, -math.inf, math.nan], dtype=dtype)
    for found in (matrix_to_floats(values, (0.0, 1.0)), matrix_to_floats(values, None)):
        assert found.tolist()[:2] == [math.inf, -math.inf]
        assert found[2].isnan()


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
    ("clip", "reason"),
    [
        (torch.zeros(()), r"expected \[F\] or \[C, F\]"),
        (torch.zeros(1, 2, 3), r"expected \[F\] or \[C, F\]"),
        (torch.zeros(1, 1, 1), r"expected \[F\] or \[C, F\]"),
        (torch.zeros(3, dtype=torch.int64), "expected float or int16"),
        (torch.zeros(3, dtype=torch.bool), "expected float or int16"),
    ],
)
def test_what_is_no_clip_is_an_error(clip: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        clip_to_int16(clip)


def test_a_clip_of_many_rows_and_few_columns_has_its_frames_first() -> None:
    """Soundfile and scipy return frames first."""
    clip = torch.rand(100, 2)
    assert torch.equal(clip_to_int16(clip), clip_to_int16(clip.T))
    assert torch.equal(clip_to_int16(clip[:8]), clip_to_int16(clip[:8].T).T), "up to 8 rows are channels"


def test_grey_with_alpha_is_shown_with_its_alpha() -> None:
    pictures = torch.tensor([[[10, 20]], [[30, 40]]], dtype=torch.uint8)
    assert pictures_to_uint8(pictures).tolist() == [[[[10, 10, 10, 30], [20, 20, 20, 40]]]]


def test_a_hidden_colour_does_not_show_in_a_thumbnail() -> None:
    pictures = torch.tensor([[255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 128]], dtype=torch.uint8)[:, :, None, None]
    assert thumbnails_to_uint8(pictures).flatten().tolist() == [255] * 3 + [0] * 3 + [127] * 3
    assert thumbnails_to_uint8(pictures[:, 2:]).shape == (3, 1, 1, 3)


def test_a_list_of_pictures_is_a_batch() -> None:
    pictures = torch.rand(3, 3, 4, 5, requires_grad=True)
    expected = pictures_to_uint8(pictures)
    assert torch.equal(pictures_to_uint8(list(pictures)), expected)
    assert torch.equal(pictures_to_uint8([*pictures.detach().numpy()]), expected)
    assert torch.equal(pictures_to_uint8(list(pictures), "NCHW"), expected)
    assert torch.equal(pictures_to_uint8([picture.permute(1, 2, 0) for picture in pictures], "HWC"), expected)
    assert torch.equal(pictures_to_uint8(tuple(pictures[:, 0])), pictures_to_uint8(pictures[:, :1]))
    assert torch.equal(pictures_to_uint8(list(pictures[0]), "CHW"), expected[:1]), "the letters name the whole"
    assert pictures_to_uint8([torch.zeros(3, 4, 5, device="meta")] * 2).shape == (2, 4, 5, 3)


@pytest.mark.parametrize(
    "pictures",
    [
        [torch.rand(3, 4, 5), torch.rand(3, 5, 4)],
        [torch.rand(3, 4, 5), torch.ones(3, 4, 5, dtype=torch.uint8)],
        [Image.new("L", (4, 5)), torch.ones(5, 4, dtype=torch.uint8), Image.new("RGB", (4, 5))],
    ],
)
def test_a_list_of_unequal_pictures_is_no_batch(pictures: Any) -> None:
    """Torch would join 0..255 and 0..1 to floats."""
    with pytest.raises(ValueError, match=r"a list of unequal pictures, .*; expected one dtype and one shape"):
        pictures_to_uint8(pictures)


@pytest.mark.parametrize("layout", ["", "CHW", "HWC", "NCHW"])
def test_an_image_of_pillow_names_its_own_dimensions(layout: str) -> None:
    image = Image.new("RGB", (5, 4), (1, 2, 3))
    assert pictures_to_uint8(image, layout).tolist() == [[[[1, 2, 3]] * 5] * 4]
    assert pictures_to_uint8([image, image], layout).shape == (2, 4, 5, 3)


def test_a_palette_or_inks_of_pillow_become_colours() -> None:
    red = Image.new("RGB", (5, 4), (255, 0, 0))
    for mode in ("P", "CMYK", "YCbCr", "HSV"):
        assert pictures_to_uint8(red.convert(mode))[0, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert pictures_to_uint8(red.convert("1").convert("1"))[0, 0, :2].flatten().tolist().count(255) <= 2


def test_users_memory_is_not_changed() -> None:
    for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.uint16):
        values = torch.tensor([[0, 1, 1]]).to(dtype)
        before = values.clone()
        pictures_to_uint8(values)
        matrix_to_floats(values, (0.0, 1.0))
        assert torch.equal(values, before)
    clip = torch.tensor([2.0, math.nan])
    clip_to_int16(clip)
    assert clip[0] == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint16, torch.uint8, torch.bool])
def test_a_mask_on_a_device_is_decided_there(dtype: torch.dtype) -> None:
    """A meta tensor raises when a value of it is read."""
    assert pictures_to_uint8(torch.zeros(2, 3, 4, 5, device="meta", dtype=dtype)).shape == (2, 4, 5, 3)
    with torch.device("meta"):
        assert pictures_to_uint8(np.ones((2, 2), np.int64)).flatten().tolist() == [255] * 4


ALL_DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)


@pytest.mark.filterwarnings("ignore:.*(ComplexHalf|BComplex32|quantize).*:UserWarning")
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_every_dtype_of_torch_has_a_scale_or_is_refused_for_its_dtype(dtype: torch.dtype) -> None:
    values = torch.empty(2, 3, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    if name == "bool" or re.fullmatch(r"u?int(8|16|32|64)|b?float(16|32|64)|float8_\w+", name):
        values = torch.ones(2, 3).to(dtype)
        assert set(pictures_to_uint8(values).flatten().tolist()) == {1 if dtype == torch.uint8 else 255}
        assert set(matrix_to_floats(values, None).flatten().tolist()) == {1.0}
        assert set(matrix_to_floats(values, (0.0, 1.0)).flatten().tolist()) == {1.0}
        return
    for convert in (pictures_to_uint8, as_tensor, clip_to_int16):
        with pytest.raises(TypeError, match=f"a tensor of {re.escape(str(dtype))}"):
            convert(values)
