"""The time that telemetry takes from the training thread, measured by telemetry itself."""

from collections import deque
from typing import Final

_STEPS_KEPT: Final = 1024


class StepCost:
    """Sums the time of all calls of a step and keeps the sums of the last 1,024 steps.

    ``step`` is the step whose calls are being summed, ``highest_step`` the highest so far; -1 before the first call.
    """

    def __init__(self) -> None:
        self.step = self.highest_step = -1
        self._ns = 0
        self._finished_ns: deque[int] = deque(maxlen=_STEPS_KEPT)

    def add(self, step: int, ns: int) -> None:
        """Add a call of ``ns`` nanoseconds to the sum of ``step``."""
        if step != self.step:
            if self._ns:
                self._finished_ns.append(self._ns)
            self.step, self._ns = step, 0
            self.highest_step = max(self.highest_step, step)
        self._ns += ns

    def percentile_us(self, percent: float) -> float:
        """Return a percentile (nearest rank) over the finished steps, in microseconds; 0.0 without a finished step."""
        ordered = sorted(self._finished_ns)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] / 1000 if ordered else 0.0

    def health(self) -> dict[str, float]:
        """Return the median and the 99th percentile in microseconds, by tag."""
        return {f"telemetry/step_cost_us_p{percent}": self.percentile_us(percent) for percent in (50, 99)}
