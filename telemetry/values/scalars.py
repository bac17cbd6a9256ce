"""Numbers by tag, from host memory and from devices, on their way into one record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Scalar: TypeAlias = float | int | bool | Tensor | np.generic | npt.NDArray[Any]

# Whose every value is a float32.
_SINGLE: Final = {
    *(torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.uint16),
}
_is_cpu = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_item: Callable[[Any], Any] = Tensor.item


def host_scalars(values: Mapping[str, Scalar]) -> dict[str, float] | None:
    """Return the values as floats, or None when one of them is on a device (nothing is fetched then).

    Raises TypeError or ValueError for what is no single real number.
    """
    if len(values) == 1:  # as ``add_scalar`` calls it: setting up what follows would cost more than it saves
        [(tag, number)] = values.items()
        if isinstance(number, Tensor):
            if not number.is_cpu:
                return None
            number = number.item()
        elif isinstance(number, np.ndarray):
            number = number.item()
        return {tag: float(number)}
    numbers = values.values()
    types = set(map(type, numbers))
    if types == {Tensor}:
        if not all(map(_is_cpu, numbers)):
            return None
        # By item(): float() alone is slower, and warns of a tensor that is part of a graph.
        return dict(zip(values, map(float, map(_item, numbers)), strict=True))
    if not any(issubclass(kind, Tensor) for kind in types):
        return dict(zip(values, map(float, numbers), strict=True))
    if any(isinstance(number, Tensor) and not number.is_cpu for number in numbers):
        return None
    return {tag: float(number.item() if isinstance(number, Tensor) else number) for tag, number in values.items()}


def check_scalar(value: Scalar) -> float | Tensor:
    """Return a value that is one real number, as far as that can be told without waiting for a device.

    Raises TypeError or ValueError.
    """
    if isinstance(value, Tensor) and not value.is_cpu:
        if value.numel() != 1 or value.is_complex():
            raise TypeError(f"{value.dtype} of shape {tuple(value.shape)} on {value.device}; expected one real number")
        return value
    return float(value.item() if isinstance(value, Tensor | np.ndarray) else value)


class SplitScalars(NamedTuple):
    """Values by tag, of which some are on a device: those in one vector (or there is none), in the order of ``tags``.

    ``host`` has all tags in the order they were given in, with zeros where ``on_device`` has the value.
    """

    on_device: Sequence[Tensor]
    tags: Sequence[str]
    host: Mapping[str, float]

    def merge(self, arrived: Sequence[npt.NDArray[Any]]) -> dict[str, float]:
        """Return all values, now that those of the device have arrived."""
        numbers = arrived[0].tolist() if arrived else []
        return {**self.host, **dict(zip(self.tags, numbers, strict=True))}


def split_scalars(values: Mapping[str, float | Tensor]) -> SplitScalars:
    """Separate what :func:`check_scalar` returned on a device from what it returned as float, without waiting.

    Values of the host never see a device, which may have float32 alone. Those of a device become float32 where that
    holds all of them, else float64: integers are exact up to 2**53. On Apple's devices there is no float64.
    """
    host: dict[str, float] = {}
    groups: dict[torch.dtype, dict[str, Tensor]] = {}
    for tag, number in values.items():
        if isinstance(number, Tensor):
            groups.setdefault(number.dtype, {})[tag] = number.detach().reshape(())
        host[tag] = 0.0 if isinstance(number, Tensor) else number
    tags = [tag for group in groups.values() for tag in group]
    return SplitScalars([_vector([list(group.values()) for group in groups.values()])] if tags else [], tags, host)


def _vector(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return one vector of numbers grouped by dtype: to convert them one by one would launch a kernel for each."""
    device = groups[0][0].device
    exact = device.type != "mps" and any(numbers[0].dtype not in _SINGLE for numbers in groups)
    stacks = [
        torch.stack([number.to(device, non_blocking=True) for number in numbers]).to(
            torch.float64 if exact else torch.float32
        )
        for numbers in groups
    ]
    return stacks[0] if len(stacks) == 1 else torch.cat(stacks)
