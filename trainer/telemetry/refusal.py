"""What a full outbox refuses, and the account it keeps of that."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from protocol.messages import Gap
from protocol.record import Kind

# The share of the capacity up to which a kind is taken: what is large and can be missed goes first.
CAPACITY_SHARES: Final[Mapping[int, float]] = {
    Kind.MATRIX: 0.70,
    Kind.IMAGES: 0.70,
    Kind.AUDIO: 0.70,
    Kind.EMBEDDING: 0.80,
    Kind.TENSOR_SUMMARIES: 0.80,
    Kind.TEXT: 0.80,
    Kind.SCALARS: 0.95,
}


def capacity_limits(capacity_bytes: int) -> list[float]:
    """Return, by kind, how many bytes may be in use when a record of that kind has been taken."""
    return [capacity_bytes * CAPACITY_SHARES.get(kind, 1.0) for kind in range(max(Kind) + 1)]


class Refusals:
    """Counts refused records; those since the last :meth:`told` are open, not yet told to anybody."""

    def __init__(self) -> None:
        self.total = 0
        self._open: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._open)

    def add(self, kind: int) -> None:
        """Count one refused record."""
        self.total += 1
        self._open[Kind(kind).name.lower()] += 1

    def gap(self) -> Gap:
        """Return the message that tells the open refusals."""
        return Gap("the outbox was full", dict(self._open))

    def told(self) -> None:
        """Account for a gap that was kept."""
        self._open.clear()
