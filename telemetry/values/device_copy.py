"""Copies of values from a device to host memory.

The only module that may wait for a device, on the sender thread and never on the training thread.
"""

from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Any, Final, TypeAlias

import numpy.typing as npt
import torch
from torch import Tensor

# A copy that takes longer: query the device, which may have failed.
_QUERY_INTERVAL_SECONDS: Final = 2.0


class ArrivalFlag:
    """A flag in host memory, zero at first, that the device sets behind a copy.

    ``is_set`` reads the flag only: a CUDA call on the sender thread could break a graph capture on the training thread,
    and would initialize the first GPU in a process that uses another. When the flag stays zero for
    ``_QUERY_INTERVAL_SECONDS``, ``query`` asks the device, which may have failed.
    """

    def __init__(
        self, flag: npt.NDArray[Any], query: Callable[[], bool], clock: Callable[[], float] = monotonic
    ) -> None:
        self._flag, self._query, self._clock = flag, query, clock
        self._query_at = clock() + _QUERY_INTERVAL_SECONDS

    def is_set(self) -> bool:
        """Tell whether the copy is done. Raises the error of ``query``."""
        if self._flag[0]:
            return True
        now_seconds = self._clock()
        if now_seconds < self._query_at:
            return False
        self._query_at = now_seconds + _QUERY_INTERVAL_SECONDS
        return self._query()


class CudaCopy:
    """A non-blocking copy into pinned memory, followed on the same CUDA stream by a copy that sets the flag.

    Raises RuntimeError during the capture of a CUDA graph: each replay of the graph would overwrite the values.
    """

    def __init__(self, tensor: Tensor) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("values on a device cannot be logged while a CUDA graph is captured; log them outside")
        self._stream = torch.cuda.current_stream(tensor.device)
        flag = torch.zeros(1, dtype=torch.uint8, device="cpu", pin_memory=True)
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        self._host.copy_(tensor.detach(), non_blocking=True)
        flag.copy_(_flag_value(self._stream), non_blocking=True)
        self._arrived = ArrivalFlag(flag.numpy(), self._query)
        self._source: Tensor | None = tensor  # keeps the allocator from reusing its memory before the copy is done

    def ready(self) -> bool:
        """Tell whether :meth:`array` may be called. Raises RuntimeError when the device has failed."""
        return self._arrived.is_set()

    def array(self) -> npt.NDArray[Any]:
        """Return the copied values."""
        self._source = None
        return self._host.numpy()

    def _query(self) -> bool:
        with torch.cuda.device(self._stream.device):
            return self._stream.query()


@lru_cache(maxsize=64)
def _flag_value(stream: torch.cuda.Stream) -> Tensor:
    """Return the source of the copies to flags: a 1, made on the same stream, therefore before each copy of it."""
    return torch.ones(1, dtype=torch.uint8, device=stream.device)


class SnapshotCopy:
    """For devices without pinned memory: a snapshot on the device, which the sender thread fetches."""

    def __init__(self, tensor: Tensor) -> None:
        self._snapshot = tensor.detach().clone()

    def ready(self) -> bool:
        """Return True: :meth:`array` waits for the device, on the sender thread."""
        return True

    def array(self) -> npt.NDArray[Any]:
        """Fetch the values; waits for the device."""
        return self._snapshot.cpu().numpy()


DeviceCopy: TypeAlias = CudaCopy | SnapshotCopy
"""A started copy; ``ready`` and ``array`` are called on the sender thread."""


def start_copy(tensor: Tensor) -> DeviceCopy:
    """Start the copy of a device tensor as the tensor is now: later changes do not affect the copy."""
    return CudaCopy(tensor) if tensor.is_cuda else SnapshotCopy(tensor)
