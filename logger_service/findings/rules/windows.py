"""How high a curve usually is: statistics of its last values that do not depend on how its points arrive."""

from collections import deque
from collections.abc import Iterator
from statistics import median
from typing import Final

from tensorboard_sidecar.logger_service.findings.samples import Points

# A curve's usual level is never below this part of the highest median that it had: a loss near zero has no ratios.
_FLOOR: Final = 0.05
# A curve is usually below this multiple of its level. Noisy curves, whose 90th percentile is above, have a higher one.
_NOISE: Final = 1.5
# Values between two times at which the level is taken anew: sorting a window costs as much as a hundred values.
_EVERY_MIN: Final = 20
_EVERY_MAX: Final = 100


class Level:
    """The usual level of a curve of values above zero, over its last ``size`` values.

    The level is the largest of the median, the 90th percentile over 1.5, and 5 % of the highest median so far. It is
    taken anew whenever 5 % more values have come, 20 at least and 100 at most, from ``least`` values on; ``usual`` is
    0.0 until then, and ``is_new`` tells that no value has come since. A curve that was below zero once is ``signed``:
    its values have no ratios, and ``usual`` stays 0.0.
    """

    def __init__(self, size: int, least: int) -> None:
        self.signed = False
        self.usual = 0.0
        self.is_new = False
        self._window: deque[float] = deque(maxlen=size)
        self._least = least
        self._count = 0
        self._left = _EVERY_MIN
        self._highest = 0.0

    def pieces(self, points: Points) -> Iterator[tuple[list[int], list[float]]]:
        """Yield the points in pieces of steps and values, each before the level takes them in."""
        steps, values = points.steps, points.values
        if min(values) < 0:
            self.signed, self.usual = True, 0.0
        while values and not self.signed:
            left = self._left
            piece = values[:left]
            yield steps[:left], piece
            self._window.extend(piece)
            self._count += len(piece)
            self._left -= len(piece)
            self.is_new = self._left == 0
            if self.is_new:
                self._left = min(max(self._count // 20, _EVERY_MIN), _EVERY_MAX)
                self._renew()
            steps, values = steps[left:], values[left:]

    def recent(self, count: int) -> float:
        """Return the median of the last ``count`` values."""
        window = self._window
        return median([window[index] for index in range(-min(count, len(window)), 0)])

    def _renew(self) -> None:
        count = len(self._window)
        if count >= self._least:
            ordered = sorted(self._window)
            middle = ordered[count // 2]
            self._highest = max(self._highest, middle)
            self.usual = max(middle, ordered[count * 9 // 10] / _NOISE, _FLOOR * self._highest)
