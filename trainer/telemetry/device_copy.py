"""Values on their way from a device to host memory.

The only place that may wait for a device, and it never does so on the training thread.
"""

from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor


class DeviceCopy(Protocol):
    """A copy that was started; ``ready`` and ``array`` are called on the sender thread."""

    def ready(self) -> bool:
        """Tell whether :meth:`array` returns at once, or may wait off the training thread."""

    def array(self) -> npt.NDArray[Any]:
        """Return the values in host memory."""


class CudaCopy:
    """One non-blocking copy into pinned memory, and an event behind it on the current stream."""

    def __init__(self, tensor: Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        self._host.copy_(tensor.detach(), non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(tensor.device))
        self._source = tensor  # its memory must not be used again before the copy is done

    def ready(self) -> bool:
        """Tell whether the copy is done."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def array(self) -> npt.NDArray[Any]:
        """Return the copied values."""
        return self._host.numpy()


class LaterCopy:
    """For devices without pinned copies: a snapshot on the device, fetched by the sender thread."""

    def __init__(self, tensor: Tensor) -> None:
        self._snapshot = tensor.detach().clone()

    def ready(self) -> bool:
        """Tell that :meth:`array` may be called; it waits for the device, on the sender thread."""
        return True

    def array(self) -> npt.NDArray[Any]:
        """Fetch the values."""
        return self._snapshot.cpu().numpy()


def start_copy(tensor: Tensor) -> DeviceCopy:
    """Start copying a device tensor; the tensor may change afterwards."""
    return CudaCopy(tensor) if tensor.is_cuda else LaterCopy(tensor)
