"""Values on their way from a device to host memory.

The only place that may wait for a device, and it never does so on the training thread.
"""

from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Any, Final, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

# How long a copy may be on its way before its device is asked whether it is broken.
_ASK_INTERVAL_SECONDS: Final = 2.0


class DeviceCopy(Protocol):
    """A copy that was started; ``ready`` and ``array`` are called on the sender thread."""

    def ready(self) -> bool:
        """Tell whether :meth:`array` returns at once, or may wait off the training thread."""

    def array(self) -> npt.NDArray[Any]:
        """Return the values in host memory."""


class Arrival:
    """Whether a device has written to ``flag``, which was zero; ``ask`` it when it takes long: it may be broken.

    A look at the flag is no call to the device. One from this thread could break a graph that the training thread
    captures at that moment, and would set up the first GPU for a process that uses another.
    """

    def __init__(self, flag: npt.NDArray[Any], ask: Callable[[], bool], clock: Callable[[], float] = monotonic) -> None:
        self._flag, self._ask, self._clock = flag, ask, clock
        self._ask_at = clock() + _ASK_INTERVAL_SECONDS

    def seen(self) -> bool:
        """Tell whether it has; raise what the device answers."""
        if self._flag[0]:
            return True
        now = self._clock()
        if now < self._ask_at:
            return False
        self._ask_at = now + _ASK_INTERVAL_SECONDS
        return self._ask()


class CudaCopy:
    """A non-blocking copy into pinned memory, and behind it, on the same stream, one of a flag that it is done.

    Raises RuntimeError while a graph is captured: the values would be those of its replays, at any time.
    """

    def __init__(self, tensor: Tensor) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("values on a device cannot be logged while a CUDA graph is captured; log them outside")
        self._stream = torch.cuda.current_stream(tensor.device)
        flag = torch.zeros(1, dtype=torch.uint8, device="cpu", pin_memory=True)
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        self._host.copy_(tensor.detach(), non_blocking=True)
        flag.copy_(_done(self._stream), non_blocking=True)
        self._arrival = Arrival(flag.numpy(), self._ask)
        self._source: Tensor | None = tensor  # its memory must not be used again before the copy is done

    def ready(self) -> bool:
        """Tell whether the copy is done."""
        return self._arrival.seen()

    def array(self) -> npt.NDArray[Any]:
        """Return the copied values."""
        self._source = None
        return self._host.numpy()

    def _ask(self) -> bool:
        with torch.cuda.device(self._stream.device):
            return self._stream.query()


@lru_cache(maxsize=64)
def _done(stream: torch.cuda.Stream) -> Tensor:
    """Return what is copied to a flag; one for each stream, so that whoever copies it comes behind who made it."""
    return torch.ones(1, dtype=torch.uint8, device=stream.device)


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
