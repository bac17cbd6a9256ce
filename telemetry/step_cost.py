"""What telemetry costs the training thread, measured by itself."""

from collections import deque
from typing import Final

_STEPS_KEPT: Final = 1024


class StepCost:
    """Sums the time of all calls of a step and keeps the last 1,024; ``step`` is the one being summed, -1 at first."""

    def __init__(self) -> None:
        self.step = -1
        self._ns = 0
        self._finished_ns: deque[int] = deque(maxlen=_STEPS_KEPT)

    def add(self, step: int, ns: int) -> None:
        """Account for a call of ``ns`` nanoseconds that belongs to ``step``."""
        if step != self.step:
            if self._ns:
                self._finished_ns.append(self._ns)
            self.step, self._ns = step, 0
        self._ns += ns

    def percentile_us(self, percent: float) -> float:
        """Return a percentile over the finished steps in microseconds (nearest rank); 0.0 before there is one."""
        ordered = sorted(self._finished_ns)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] / 1000 if ordered else 0.0

    def health(self) -> dict[str, float]:
        """Return the median and the 99th percentile by tag."""
        return {f"telemetry/step_cost_us_p{percent}": self.percentile_us(percent) for percent in (50, 99)}
