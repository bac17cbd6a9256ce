"""Timing, and tables of it."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

# What tables of single calls show: percentiles, and the names of their columns.
PERCENTS = (50, 99, 99.9, 100)
COLUMNS = ("p50", "p99", "p99.9", "max")


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of one call, repeated; nanoseconds, ascending."""

    ordered_ns: tuple[int, ...]

    def percentile_ns(self, percent: float) -> int:
        """Return the nearest-rank percentile."""
        return self.ordered_ns[min(len(self.ordered_ns) - 1, int(len(self.ordered_ns) * percent / 100))]


def measure(call: Callable[[int], None], repetitions: int, *, warm_up: int, pause: Callable[[], None]) -> Timing:
    """Time ``call(number)``; numbers go on growing from the warm-up. ``pause`` runs untimed before each call."""
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
    """Return a duration for people: three digits and a unit."""
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
