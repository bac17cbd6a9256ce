"""A fake device, on top of torch's meta device, whose copies arrive on demand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tensorboard_sidecar.telemetry.values.device_copy import DeviceCopy, SnapshotCopy


class SlowCopy:
    """A copy of ``values``: ready after :meth:`arrive`, raises after :meth:`fail`."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._values = values
        self._ready = False
        self._error: Exception | None = None

    def arrive(self) -> None:
        """Make the copy ready."""
        self._ready = True

    def fail(self, error: Exception) -> None:
        """Make the device fail as CUDA does: every later call raises."""
        self._error = error

    def ready(self) -> bool:
        """Tell whether the copy is ready."""
        if self._error is not None:
            raise self._error
        return self._ready

    def array(self) -> npt.NDArray[Any]:
        """Return the values."""
        assert self.ready(), "the values were read before they were ready"
        return self._values


class SlowDevice:
    """A fake device: ``start_copy`` takes a meta tensor, and ``compute`` gives the values."""

    def __init__(self, compute: Callable[[Tensor], npt.NDArray[Any]] | None = None) -> None:
        self.copies: list[SlowCopy] = []
        self._compute = compute or (lambda tensor: np.full(tensor.shape, len(self.copies) + 1, np.float32))

    def start_copy(self, tensor: Tensor) -> DeviceCopy:
        """Start a copy; without ``compute``, all values of the n-th copy (from 1) are n. Host tensors need no copy."""
        if tensor.is_cpu:
            return SnapshotCopy(tensor)
        self.copies.append(SlowCopy(self._compute(tensor)))
        return self.copies[-1]
