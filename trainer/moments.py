"""Mean and deviation of a series of device scalars, without reading any of them."""

import torch
from torch import Tensor


class RunningMoments:
    """Sums 0-d values in float64 on their device; mean and deviation are 0-d tensors there."""

    def __init__(self, device: torch.device) -> None:
        self.count = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, value: Tensor) -> None:
        """Count one more value."""
        double = value.detach().double()
        self._sums += torch.stack((double, double * double))
        self.count += 1

    def mean(self) -> Tensor:
        """Return the mean; NaN without values."""
        return self._sums[0] / self.count

    def std(self) -> Tensor:
        """Return the standard deviation of the values themselves (not an estimate for others)."""
        return (self._sums[1] / self.count - self.mean().square()).clamp(min=0).sqrt()
