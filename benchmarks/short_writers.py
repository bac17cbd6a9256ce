"""``python -m benchmarks.short_writers``: what a short script pays for its ``SummaryWriter``.

Each writer logs ten scalars and is closed; ``close`` returns when the event files are on disk. Aims: below 3 s for the
first writer, with no helper yet; below 0.3 s for the next one; below 60 s for 1,000 writers one after the other.
"""

import os
import tempfile
from pathlib import Path
from time import perf_counter_ns

from benchmarks.measure import COLUMNS, Timing, begin, format_ns, print_table
from tensorboard_sidecar import SummaryWriter

_SCALARS = 10


def _durations_ns(folder: Path) -> tuple[int, int]:
    """Make, use and close a writer; return how long the constructor and the close take."""
    started = perf_counter_ns()
    writer = SummaryWriter(folder)
    made = perf_counter_ns()
    for step in range(_SCALARS):
        writer.add_scalar("loss", 0.5, step)
    logged = perf_counter_ns()
    writer.close()
    return made - started, perf_counter_ns() - logged


def main() -> None:
    """Measure and print the table."""
    options = begin(__doc__, writers=(200, "writers one after the other"))
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_RUNTIME_DIR"] = name  # a helper of its own
        first, second = (sum(_durations_ns(Path(name, "runs", each))) for each in ("first", "second"))
        print(f"\nThe first writer takes {format_ns(first)}, with no helper yet; the second {format_ns(second)}.")
        started = perf_counter_ns()
        taken = [_durations_ns(Path(name, "runs", str(number))) for number in range(options.writers)]
        total = format_ns((perf_counter_ns() - started) / options.writers * 1000)
        made, closed = (Timing(tuple(sorted(durations))) for durations in zip(*taken, strict=True))
        rows = [["constructor", *made.cells()], ["close", *closed.cells()]]
        print_table(f"{options.writers:,} writers, {total} for each 1,000", ["", *COLUMNS], rows)


if __name__ == "__main__":
    main()
