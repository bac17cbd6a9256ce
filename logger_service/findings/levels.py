"""How high a curve usually is: statistics of its last values that do not depend on how its points arrive."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

# A curve's usual level is never below this part of the highest median that it had: a loss near zero has no ratios.
_FLOOR: Final = 0.05
# A curve is usually below this multiple of its level. Noisy curves, whose 90th percentile is above, have a higher one.
_NOISE: Final = 1.5
# Values between two times at which the level is taken anew: sorting a window costs as much as a hundred values.
_EVERY_MIN: Final = 20
_RECENT: Final = 20


class Piece(NamedTuple):
    """Values ``[begin, end)`` of the points taken last, and the usual level of the values before them, 0.0 at first."""

    begin: int
    end: int
    usual: float


class Renewal(NamedTuple):
    """The level as it was taken anew after value ``last`` of the points taken last, and the median of 20 values."""

    last: int
    usual: float
    recent: float


class Level:
    """The usual level of a curve of values above zero, over its last ``size`` values.

    The level is the largest of the median, the 90th percentile over 1.5, and 5 % of the highest median so far. It is
    taken anew whenever 10 % more values have come, 20 at least and ``size`` at most, from ``least`` values on;
    ``usual`` is 0.0 until then. ``pieces`` and ``renewals`` are of the points taken last. A curve that was below zero
    once is ``signed``: its values have no ratios, and it has no pieces any more; ``turned`` tells that it had a level,
    and the points taken last turned it.
    """

    def __init__(self, size: int, least: int) -> None:
        self.usual = 0.0
        self.signed = self.turned = False
        self.pieces: list[Piece] = []
        self.renewals: list[Renewal] = []
        self._window: deque[float] = deque(maxlen=size)
        self._least = least
        self._count, self._left = 0, _EVERY_MIN
        self._highest = 0.0

    def take(self, values: Sequence[float]) -> None:
        """Take points."""
        self.pieces, self.renewals, self.turned = [], [], False
        if self.signed or min(values) < 0:
            self.turned, self.signed = not self.signed and self.usual > 0, True
            return
        begin, count = 0, len(values)
        while begin < count:
            end = min(begin + self._left, count)
            self.pieces.append(Piece(begin, end, self.usual))
            self._window.extend(values[begin:end])
            self._left -= end - begin
            self._count += end - begin
            if self._left == 0:
                self._left = min(max(self._count // 10, _EVERY_MIN), self._window.maxlen or 0)
                self._renew(end - 1)
            begin = end

    def _renew(self, last: int) -> None:
        count = len(self._window)
        if count >= self._least:
            values = list(self._window)
            recent = sorted(values[-_RECENT:])[_RECENT // 2]
            values.sort()
            middle = values[count // 2]
            self._highest = max(self._highest, middle)
            self.usual = max(middle, values[count * 9 // 10] / _NOISE, _FLOOR * self._highest)
            self.renewals.append(Renewal(last, self.usual, recent))
