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

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple, Self

_HELP: Final = "help"
_TYPE: Final = "type"


def counter(help_text: str) -> Any:
    """Declare a field that only grows, from 0."""
    return field(default=0, metadata={_HELP: help_text, _TYPE: "counter"})


def gauge(help_text: str) -> Any:
    """Declare a field that grows and shrinks, from 0."""
    return field(default=0, metadata={_HELP: help_text, _TYPE: "gauge"})


class Number(NamedTuple):
    """A declared number with its present value."""

    name: str
    type: Literal["counter", "gauge"]
    help_text: str
    value: float


def declared(numbers: Any) -> Iterator[Number]:
    """Yield the counters and gauges of a dataclass instance in the order of declaration; skip other fields."""
    for found in fields(numbers):
        if _HELP in found.metadata:
            yield Number(found.name, found.metadata[_TYPE], found.metadata[_HELP], getattr(numbers, found.name))


@dataclass(slots=True)
class Counters:
    """Base of dataclasses that hold counters only."""

    def __str__(self) -> str:
        """Return the counters that are not 0, or "nothing"."""
        counted = [f"{number.value:,} {number.name.replace('_', ' ')}" for number in declared(self) if number.value]
        return ", ".join(counted) or "nothing"

    def __add__(self, other: Self) -> Self:
        return type(self)(**{mine.name: mine.value + getattr(other, mine.name) for mine in declared(self)})
