"""Which attempt of a run is the earlier one: the order that their events have in a folder, live and replayed.

Clocks alone do not tell it (one that was set back puts a resumed attempt before the one it goes on from), and numbers
alone neither (they begin again with every fresh start). So: fresh starts, number 0, follow each other by their clocks.
A resumed attempt belongs to the last fresh start before it, or, where a clock was so wrong that there is none, to the
first; those of one fresh start follow each other by number.
"""

from bisect import bisect_right
from collections.abc import Collection
from typing import NamedTuple


class Attempt(NamedTuple):
    """One attempt of a run by one process: when it began, which start of the run it is, and its stream's id."""

    start_seconds: float
    number: int
    stream: str


def in_order(attempts: Collection[Attempt]) -> list[Attempt]:
    """Return the attempts of one run, and one rank, the earliest first."""
    fresh = sorted(attempt.start_seconds for attempt in attempts if attempt.number == 0)

    def key(attempt: Attempt) -> tuple[float, int, float, str]:
        place = max(0, bisect_right(fresh, attempt.start_seconds) - 1)
        return fresh[place] if fresh else 0.0, attempt.number, attempt.start_seconds, attempt.stream

    return sorted(attempts, key=key)
