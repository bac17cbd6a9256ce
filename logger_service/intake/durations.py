"""How long something takes, counted in buckets: plain numbers, cheap enough for every message."""

from bisect import bisect_left
from typing import Final, NamedTuple

# From a local SSD's fdatasync to a disk that stalls.
BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DurationCounts(NamedTuple):
    """A copy of what was counted: how many in each bucket of ``BOUNDS_SECONDS`` and beyond, and their sum."""

    buckets: tuple[int, ...]
    sum_seconds: float


class Durations:
    """Counts durations; used by one thread."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self._sum_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Durations of {sum(self._buckets)}, {self._sum_seconds:.3f} s in all>"

    def add(self, seconds: float) -> None:
        """Count one; a bucket holds what is not above its bound."""
        self._buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self._sum_seconds += seconds

    def counts(self) -> DurationCounts:
        """Return what was counted so far."""
        return DurationCounts(tuple(self._buckets), self._sum_seconds)
