"""Values of users to plain Python values; no value is read from a device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tensorboard_sidecar.telemetry.values.python_values import (
    cells,
    on_host,
    plain_range,
    seconds,
    whole,
)

META = torch.zeros((), device="meta")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_whatever_is_a_whole_number_is_an_int(value: Any) -> None:
    found = whole("step", value)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [2e6, None, "1", np.float32(1), torch.tensor(1.5), np.array([1, 2]), torch.ones(2)])
def test_what_is_no_whole_number_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"outbox_bytes .*; expected a whole number"):
        whole("outbox_bytes", value)


@pytest.mark.parametrize(
    "read",
    [
        lambda value: on_host("here", value),
        lambda value: whole("here", value),
        lambda value: plain_range((0.0, value)),
        cells,
        lambda value: cells([value]),
    ],
)
def test_a_tensor_on_a_device_is_refused_and_not_waited_for(read: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="is a tensor on meta, which the loop would wait for"):
        read(META)


def test_a_duration_is_a_finite_number_of_seconds() -> None:
    assert [seconds("drain_seconds", value) for value in (0, 1.5, np.float32(2))] == [0.0, 1.5, 2.0]
    with pytest.raises(ValueError, match="drain_seconds -1; expected 0 or more"):
        seconds("drain_seconds", -1)
    with pytest.raises(TypeError, match="drain_seconds '5'; expected seconds"):
        seconds("drain_seconds", "5")


def test_a_range_is_two_floats_or_none() -> None:
    found = plain_range((np.float32(0), torch.tensor(1)))  # type: ignore[arg-type]
    assert found == (0.0, 1.0)
    assert list(map(type, found or ())) == [float, float]
    assert plain_range(None) is None


@pytest.mark.parametrize(
    "column", [[1, 2], np.array([1, 2]), torch.tensor([1, 2]), [torch.tensor(1), torch.tensor(2)], ("1", "2")]
)
def test_cells_are_texts_of_what_they_hold(column: Any) -> None:
    assert cells(column) == ["1", "2"]
