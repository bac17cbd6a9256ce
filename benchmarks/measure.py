"""Timings and their tables, and the speed of the machine that a table is of."""

import gc
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

# The percentiles in a table of single calls, and the names of their columns.
PERCENTS = (50, 99, 99.9, 100)
COLUMNS = ("p50", "p99", "p99.9", "max")
_ADDITIONS = 20_000
_LOOPS = 50


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of one repeated call, in nanoseconds, in ascending order."""

    ordered_ns: tuple[int, ...]

    def percentile_ns(self, percent: float) -> int:
        """Return the nearest-rank percentile."""
        return self.ordered_ns[min(len(self.ordered_ns) - 1, int(len(self.ordered_ns) * percent / 100))]

    def cells(self) -> list[str]:
        """Return the cells of a table below COLUMNS."""
        return [format_ns(self.percentile_ns(percent)) for percent in PERCENTS]


def begin(doc: str, **flags: tuple[Any, str]) -> Namespace:
    """Parse the command line of the benchmark with the docstring ``doc``; print how fast this machine runs Python now.

    That line is the yardstick for the microseconds in a table. A flag is a default (a number, or a list of numbers) and
    a help text.
    """
    parser = ArgumentParser(prog=doc.split("``")[1], description=doc.split("\n\n", 1)[0])
    for name, (default, text) in flags.items():
        kind, nargs = (type(default[0]), "+") if isinstance(default, list) else (type(default), None)
        parser.add_argument(f"--{name}", type=kind, nargs=nargs, default=default, help=f"{text} (default: %(default)s)")
    options = parser.parse_args()

    def add(_: int) -> None:
        total = 0
        for number in range(_ADDITIONS):
            total += number

    p50 = format_ns(measure(add, _LOOPS, warm_up=_LOOPS // 5).percentile_ns(50))
    print(f"A Python loop of {_ADDITIONS:,} additions takes {p50} on this machine now.")
    return options


def measure(
    call: Callable[[int], None], repetitions: int, *, warm_up: int = 3, pause: Callable[[], None] = lambda: None
) -> Timing:
    """Time ``call(number)``; ``number`` counts up from 0 and includes the warm-up.

    ``pause`` runs before each timed call, and its time does not count.
    """
    for number in range(warm_up):
        call(number)
    gc.collect()
    durations = []
    for number in range(warm_up, warm_up + repetitions):
        pause()
        started = perf_counter_ns()
        call(number)
        durations.append(perf_counter_ns() - started)
    return Timing(tuple(sorted(durations)))


def format_ns(ns: float) -> str:
    """Return a duration with three digits and a unit.

    >>> format_ns(11_460), format_ns(2_500_000)
    ('11.5 us', '2.5 ms')
    """
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns / 1e3:.3g} us"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a markdown table under a title."""
    widths = [max(len(cells[i]) for cells in [columns, *rows]) for i in range(len(columns))]
    print(f"\n{title}\n")
    for cells in [columns, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")
