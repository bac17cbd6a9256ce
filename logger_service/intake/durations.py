"""Histograms of durations, cheap enough to update for every message."""

from bisect import bisect_left
from typing import Final, NamedTuple

# The range reaches from an fdatasync on a local SSD to a disk that stalls.
BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DurationCounts(NamedTuple):
    """A snapshot: the count of each bucket of BOUNDS_SECONDS, then the count above the last bound; and the sum."""

    buckets: tuple[int, ...] = (0,) * (len(BOUNDS_SECONDS) + 1)
    sum_seconds: float = 0.0


class Durations:
    """Counts durations. Not thread-safe."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self._sum_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Durations of {sum(self._buckets)}, {self._sum_seconds:.3f} s in all>"

    def add(self, seconds: float) -> None:
        """Count one duration. A duration equal to a bound belongs to the bucket below."""
        self._buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self._sum_seconds += seconds

    def counts(self) -> DurationCounts:
        """Return a snapshot."""
        return DurationCounts(tuple(self._buckets), self._sum_seconds)
