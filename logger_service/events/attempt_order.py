"""Which attempt of a run is the earlier one: the order that their events have in a folder, live and replayed.

Clocks alone do not tell it (one that was set back puts a resumed attempt before the one it goes on from), and numbers
alone neither (they begin again with every fresh start). So: fresh starts follow each other by their clocks. A resumed
attempt belongs with the last one of a lower number that began before it. Where there is none, a clock was wrong, or
those before were recorded elsewhere; then it belongs with the first of a lower number that was *seen* before it, for
all are seen by one clock, the logger's. Those that belong together follow each other by number.
"""

from collections.abc import Collection
from typing import NamedTuple


class Attempt(NamedTuple):
    """One attempt of a run by one process: when it began by its clock, which start of the run it is, its stream's id.

    ``seen`` tells which of two the logger saw first: a time, or a place.
    """

    start_seconds: float
    number: int
    stream: str
    seen: float


def in_order(attempts: Collection[Attempt]) -> list[Attempt]:
    """Return the attempts of one run, and one rank, the earliest first."""
    begins: dict[Attempt, float] = {}
    for attempt in sorted(attempts, key=lambda one: one.number):
        lower = [one for one in begins if one.number < attempt.number]
        before = [one for one in lower if one.start_seconds <= attempt.start_seconds]
        seen = [one for one in lower if one.seen <= attempt.seen]
        if before or seen:
            begins[attempt] = begins[max(before) if before else min(seen)]
        else:
            begins[attempt] = attempt.start_seconds
    return sorted(attempts, key=lambda one: (begins[one], one.number, one.start_seconds, one.stream))
