"""Values of users to plain Python values: whole numbers, durations, ranges, cells.

No function reads a tensor on a device: the training thread would wait for the device.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

T = TypeVar("T")


def on_host(name: str, value: T) -> T:
    """Return ``value``, which can be read without waiting. Raises TypeError for a tensor on a device."""
    if isinstance(value, Tensor) and not value.is_cpu:
        raise TypeError(f"{name} is a tensor on {value.device}, which the loop would wait for; give a Python value")
    return value


def whole(name: str, value: Any) -> int:
    """Return a whole number of any type (numpy, a tensor in host memory) as an int. Raises TypeError."""
    on_host(name, value)
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} {value!r:.80}; expected a whole number") from None


def seconds(name: str, value: Any) -> float:
    """Return a duration in seconds. Raises TypeError; ValueError for a negative or infinite duration."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} {value!r:.80}; expected seconds")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} {value}; expected 0 or more")
    return float(value)


def plain_range(value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return both ends of a range as floats, None for None. Raises TypeError or ValueError otherwise."""
    if value_range is None:
        return None
    low, high = (float(on_host("value_range", end)) for end in value_range)
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(f"value_range {low}, {high}; expected finite low < high")
    return low, high


def cells(column: Iterable[Any]) -> list[str]:
    """Return a column of metadata as texts; a tensor gives its elements. Raises TypeError for tensors on a device."""
    values = on_host("metadata", column)
    values = values.tolist() if isinstance(values, Tensor) else values
    return [str(value.tolist() if isinstance(on_host("metadata", value), Tensor) else value) for value in values]
