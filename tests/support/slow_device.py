"""A device whose copies arrive when a test says so, in front of torch's meta device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tensorboard_sidecar.telemetry.values.device_copy import DeviceCopy, LaterCopy


class SlowCopy:
    """A copy of ``values``: not ready before :meth:`arrive`; :meth:`fail` makes it raise."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._values = values
        self._ready = False
        self._error: Exception | None = None

    def arrive(self) -> None:
        """Let the values be there."""
        self._ready = True

    def fail(self, error: Exception) -> None:
        """Let the device break, as CUDA does: every later question raises."""
        self._error = error

    def ready(self) -> bool:
        """Tell whether the values are there."""
        if self._error is not None:
            raise self._error
        return self._ready

    def array(self) -> npt.NDArray[Any]:
        """Return the values."""
        assert self.ready(), "asked for before it was there"
        return self._values


class SlowDevice:
    """Stands for a device: ``start_copy`` takes a meta tensor, and the values it would have from ``compute``."""

    def __init__(self, compute: Callable[[Tensor], npt.NDArray[Any]] | None = None) -> None:
        self.copies: list[SlowCopy] = []
        self._compute = compute or (lambda tensor: np.full(tensor.shape, len(self.copies) + 1, np.float32))

    def start_copy(self, tensor: Tensor) -> DeviceCopy:
        """Start a copy; the n-th, from 1, is all n unless there is a ``compute``. Host tensors are there at once."""
        if tensor.is_cpu:
            return LaterCopy(tensor)
        self.copies.append(SlowCopy(self._compute(tensor)))
        return self.copies[-1]
