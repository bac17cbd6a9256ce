"""Numbers by tag for one record, from host memory and from devices; and a cache of valid tags."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.names import check_tag

Scalar: TypeAlias = float | int | bool | Tensor | np.generic | npt.NDArray[Any]

# Dtypes whose values are all exact in float32.
_EXACT_IN_FLOAT32: Final = {
    *(torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.uint16),
}
# Types of numbers whose conversion to a float runs no code of a user.
_NUMBERS: Final = {float, int, bool, np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_}
_is_cpu = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_item: Callable[[Any], Any] = Tensor.item


def host_scalars(values: Mapping[str, Scalar]) -> dict[str, float] | None:
    """Return the values as floats, or None when any value is on a device (no value is fetched then).

    Raises TypeError or ValueError for a value that is no single real number.
    """
    if len(values) == 1:  # the case of ``add_scalar``: the code below for many values would cost more time
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
        # item() first: float() alone is slower, and warns about a tensor that requires grad.
        return dict(zip(values, map(float, map(_item, numbers)), strict=True))
    if not any(issubclass(kind, Tensor) for kind in types):
        return dict(zip(values, map(float, numbers), strict=True))
    if any(isinstance(number, Tensor) and not number.is_cpu for number in numbers):
        return None
    return {tag: float(number.item() if isinstance(number, Tensor) else number) for tag, number in values.items()}


def host_number(value: Any) -> float | None:
    """Return a number of a common type, or a tensor of one element in host memory, as a float; None for other values.

    Raises RuntimeError for a tensor of several elements, OverflowError for an int beyond the floats.
    """
    if type(value) is Tensor and value.is_cpu:
        value = value.item()
        if type(value) is float:
            return value
    return float(value) if type(value) in _NUMBERS else None


def check_scalar(value: Scalar) -> float | Tensor:
    """Return a host value as a float, a device tensor as given; of the latter only shape and dtype are checked.

    Raises TypeError or ValueError for a value that is no single real number.
    """
    if isinstance(value, Tensor) and not value.is_cpu:
        if value.numel() != 1 or value.is_complex():
            raise TypeError(f"{value.dtype} of shape {tuple(value.shape)} on {value.device}; expected one real number")
        return value
    return float(value.item() if isinstance(value, Tensor | np.ndarray) else value)


class SplitScalars(NamedTuple):
    """Values by tag, split by place.

    ``on_device`` holds the values of ``tags`` as one vector on a device; it is empty when no value is on a device.
    ``host`` has all tags in their original order, with 0.0 for values on a device.
    """

    on_device: Sequence[Tensor]
    tags: Sequence[str]
    host: Mapping[str, float]

    def merge(self, arrived: Sequence[npt.NDArray[Any]]) -> dict[str, float]:
        """Return all values by tag, given ``on_device`` as arrays in host memory."""
        numbers = arrived[0].tolist() if arrived else []
        return {**self.host, **dict(zip(self.tags, numbers, strict=True))}

    def message(self, arrived: Sequence[npt.NDArray[Any]]) -> Scalars:
        """Return the message with all values, as :meth:`merge`."""
        return Scalars(self.merge(arrived))


def split_scalars(values: Mapping[str, float | Tensor]) -> SplitScalars:
    """Split results of :func:`check_scalar` into floats and device tensors; waits for no device.

    Host values are never copied to a device, which may support float32 only. Device values become float32 where
    float32 is exact for all their dtypes, otherwise float64 (integers are exact up to 2**53). Apple's devices have no
    float64.
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
    """Return one vector of the numbers, grouped by dtype: converting each number alone would launch a kernel each."""
    device = groups[0][0].device
    exact = device.type != "mps" and any(numbers[0].dtype not in _EXACT_IN_FLOAT32 for numbers in groups)
    stacks = [
        torch.stack([number.to(device, non_blocking=True) for number in numbers]).to(
            torch.float64 if exact else torch.float32
        )
        for numbers in groups
    ]
    return stacks[0] if len(stacks) == 1 else torch.cat(stacks)


class CheckedTags(set[str]):
    """A set of valid tags of at most TAGS_MAX entries: a record whose tags are all in the set is within that limit."""

    def learn(self, tags: Iterable[str]) -> None:
        """Check tags and add them; clear the set first if it would exceed TAGS_MAX. Raises Malformed or TooLarge."""
        new = set(map(check_tag, tags))
        if len(new) > TAGS_MAX:
            raise TooLarge("tags in one record", len(new), TAGS_MAX)
        if len(new) + len(self) > TAGS_MAX:
            self.clear()
        self |= new
