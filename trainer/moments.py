"""Mean and standard deviation of a series of device scalars, without copying a scalar to the host."""

import torch
from torch import Tensor


class RunningMoments:
    """Sums 0-d values in float64 on their device; the results are 0-d tensors on that device."""

    def __init__(self, device: torch.device) -> None:
        self.count = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, value: Tensor) -> None:
        """Add a value to the sums."""
        double = value.detach().double()
        self._sums += torch.stack((double, double * double))
        self.count += 1

    def mean(self) -> Tensor:
        """Return the mean; NaN without values."""
        return self._sums[0] / self.count

    def std(self) -> Tensor:
        """Return the population standard deviation (divisor N); NaN without values."""
        return (self._sums[1] / self.count - self.mean().square()).clamp(min=0).sqrt()
