"""``python -m benchmarks.step_tail``: the slowest thousandth of the steps, in many runs.

A thousandth of 20,000 steps is twenty steps, and chance decides how long the scheduler delays twenty steps. This
benchmark therefore repeats the row "up" of :mod:`benchmarks.training_thread`, each time with a new logger that has been
up for some seconds.
"""

import tempfile
from pathlib import Path
from statistics import median
from time import sleep

from benchmarks.loads import SCALAR_CALLS, Load, make_load
from benchmarks.loggers import running_logger
from benchmarks.measure import COLUMNS, PERCENTS, Timing, begin, format_ns, measure, print_table
from tensorboard_sidecar import Telemetry

_SETTLE_SECONDS = 3.0


def _run(load: Load) -> Timing:
    with tempfile.TemporaryDirectory() as name, running_logger(Path(name)) as (endpoint, _):
        telemetry = Telemetry("benchmark/tail", endpoint=endpoint, strict=True)
        sleep(_SETTLE_SECONDS)
        timing = measure(lambda step: telemetry.scalars(step, load.scalars), SCALAR_CALLS)
        telemetry.close(60)
    return timing


def main() -> None:
    """Measure and print a table."""
    options = begin(__doc__, runs=(24, "runs of 20,000 steps"))
    load = make_load()
    timings = [_run(load) for _ in range(options.runs)]
    rows = [
        [name, *(format_ns(choose(timing.percentile_ns(percent) for timing in timings)) for percent in PERCENTS)]
        for name, choose in (("best run", min), ("median run", median), ("worst run", max))
    ]
    print_table(f"A logged step, {options.runs} runs", ["", *COLUMNS], rows)
    within = sum(timing.percentile_ns(99.9) <= 500_000 for timing in timings)
    print(f"\np99.9 within 500 us: {within} of {options.runs}")


if __name__ == "__main__":
    main()
