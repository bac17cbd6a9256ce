"""Numbers by tag: host values unchanged, device values in one vector without loss of digits."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tensorboard_sidecar.telemetry.values.scalars import check_scalar, host_number, host_scalars, split_scalars

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


@pytest.mark.parametrize("value", [np.array([1.5]), np.array([[1.5]]), torch.tensor([[1.5]])])
def test_one_number_in_brackets_is_one_number(value: Any) -> None:
    """As with torch's writer."""
    assert host_scalars({"a": value}) == {"a": 1.5}
    assert check_scalar(value) == 1.5


@pytest.mark.parametrize(
    "value", [None, "word", 1j, np.ones(2), torch.ones(2), META.expand(2), META + 1j, torch.zeros(0, device="meta")]
)
def test_what_is_no_real_number_is_found_out_without_a_wait(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        check_scalar(value)


def test_scalars_of_a_device_are_one_vector_on_it_and_those_of_the_host_stay() -> None:
    split = split_scalars({"a": 1.5, "b": META, "c": 2.0, "e": META.reshape(1)})
    [vector] = split.on_device
    assert (vector.device.type, vector.dtype, vector.shape) == ("meta", torch.float32, (2,))
    merged = split.merge([np.array([7, 8], np.float32)])
    assert list(merged.items()) == [("a", 1.5), ("b", 7.0), ("c", 2.0), ("e", 8.0)]


def test_without_a_device_there_is_no_vector() -> None:
    split = split_scalars({"a": 1.5})
    assert (split.on_device, split.merge([])) == ([], {"a": 1.5})


def test_numbers_of_several_types_keep_their_tags_and_their_order() -> None:
    """The vector holds them type by type."""
    values = {"a": 1, "b": 0.5, "c": 2, "d": 0.25}
    tensors: dict[str, Any] = {tag: torch.tensor(value, device="meta") for tag, value in values.items()}
    split = split_scalars(tensors)
    by_tag = dict(zip(split.tags, [values[tag] for tag in split.tags], strict=True))
    assert list(split.merge([np.array(list(by_tag.values()), float)]).items()) == list(values.items())


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.float32, torch.bfloat16, torch.float16], torch.float32),
        ([torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.float32], torch.float32),
        ([torch.float32, torch.float64], torch.float64),
        ([torch.int64, torch.float16], torch.float64),
        ([torch.int32], torch.float64),
        ([torch.uint32], torch.float64),
    ],
)
def test_scalars_of_a_device_lose_no_digit(dtypes: list[torch.dtype], expected: torch.dtype) -> None:
    """123,456,789 is no float32, nor is a time of today."""
    numbers: dict[str, Any] = {str(dtype): torch.zeros((), dtype=dtype, device="meta") for dtype in dtypes}
    [vector] = split_scalars(numbers).on_device
    assert (vector.dtype, vector.shape) == (expected, (len(dtypes),))


@pytest.mark.parametrize(
    "value",
    [
        *(1.5, 1, True, np.float64(1.5), np.float32(1.5), np.float16(1.5), np.int64(2), np.int32(2), np.bool_(True)),
        *(torch.tensor(1.5), torch.tensor(2), torch.tensor(True), torch.tensor([1.5]), torch.tensor(1.5).bfloat16()),
        *(torch.tensor(1.5, requires_grad=True), torch.tensor(1.5).double(), math.inf, -0.0),
    ],
    ids=repr,
)
def test_a_common_number_is_that_of_host_scalars(value: Any) -> None:
    number = host_number(value)
    assert type(number) is float
    assert host_scalars({"a": value}) == {"a": number}


def test_a_nan_stays_one() -> None:
    for value in (math.nan, np.float32("nan"), torch.tensor(math.nan)):
        number = host_number(value)
        assert number is not None
        assert math.isnan(number)


class Floating:
    def __float__(self) -> float:
        raise AssertionError("code of a user ran")


@pytest.mark.parametrize(
    "value", [META, None, "1", 1j, torch.tensor(1j), np.array([1.5]), np.complex64(1), Floating(), [1.0]]
)
def test_other_values_are_no_common_number(value: Any) -> None:
    assert host_number(value) is None


@pytest.mark.parametrize("value", [10**400, torch.ones(2)])
def test_a_common_type_may_hold_no_number(value: Any) -> None:
    with pytest.raises((OverflowError, RuntimeError)):
        host_number(value)
