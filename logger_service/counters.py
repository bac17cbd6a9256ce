"""Numbers that the logger publishes. Each is declared once: a dataclass field with its help text.

The metrics page, the projection's report and the log lines are made from these fields. A new counter is one line:

>>> from dataclasses import dataclass
>>> @dataclass(slots=True)
... class Pages(Counters):
...     drawn: int = counter("pages drawn")
...     drawing_failures: int = counter("pages that could not be drawn")
>>> pages = Pages(drawn=1_200)
>>> str(pages)
'1,200 drawn'
>>> [(number.name, number.help_text) for number in declared(pages)]
[('drawn', 'pages drawn'), ('drawing_failures', 'pages that could not be drawn')]
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple, Self

# From an fdatasync on a local SSD to a disk that stalls.
BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def counter(help_text: str) -> Any:
    """Declare a field that only grows, from 0."""
    return field(default=0, metadata={"help": help_text, "type": "counter"})


def gauge(help_text: str) -> Any:
    """Declare a field that grows and shrinks, from 0."""
    return field(default=0, metadata={"help": help_text, "type": "gauge"})


class Number(NamedTuple):
    """A declared number with its present value."""

    name: str
    type: Literal["counter", "gauge"]
    help_text: str
    value: float


def declared(numbers: Any) -> Iterator[Number]:
    """Yield the counters and gauges of a dataclass instance in the order of declaration; skip other fields."""
    for found in fields(numbers):
        if "help" in found.metadata:
            yield Number(found.name, found.metadata["type"], found.metadata["help"], getattr(numbers, found.name))


@dataclass(slots=True)
class Counters:
    """Base of dataclasses that hold counters only."""

    def __str__(self) -> str:
        """Return the counters that are not 0, or "nothing"."""
        counted = [f"{number.value:,} {number.name.replace('_', ' ')}" for number in declared(self) if number.value]
        return ", ".join(counted) or "nothing"

    def __add__(self, other: Self) -> Self:
        return type(self)(**{mine.name: mine.value + getattr(other, mine.name) for mine in declared(self)})


class DurationCounts(NamedTuple):
    """A snapshot: the count of each bucket of BOUNDS_SECONDS, then the count above the last bound; and the sum."""

    buckets: tuple[int, ...] = (0,) * (len(BOUNDS_SECONDS) + 1)
    sum_seconds: float = 0.0


class Durations:
    """A histogram of durations, cheap enough to update for every message. Not thread-safe."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self._sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration. A duration equal to a bound belongs to the bucket below."""
        self._buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self._sum_seconds += seconds

    def counts(self) -> DurationCounts:
        """Return a snapshot."""
        return DurationCounts(tuple(self._buckets), self._sum_seconds)
