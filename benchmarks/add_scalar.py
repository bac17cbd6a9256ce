"""``python -m benchmarks.add_scalar``: what 19 calls of ``add_scalar`` a step take from the training thread.

A script that changes the import of its SummaryWriter makes these calls. The same numbers go to this project (a logger
runs on the same machine), to torch's SummaryWriter and to tensorboardX, in one run: in a tight loop, and behind a real
training step, which leaves the caches cold. Behind a step, the libraries take turns from step to step. Aims, as ratios
of p50 with floats: torch's SummaryWriter takes 40 times as long in a tight loop, and 15 times behind a step. This
project's p99 behind a step is at most 10 times its p50. With the default flags the four tables take about a minute on
two idle cores.
"""

import gc
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any, Final, TypeAlias

import tensorboardX
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from benchmarks.loads import SCALARS
from benchmarks.loggers import running_logger
from benchmarks.measure import COLUMNS, Timing, begin, measure, print_table
from benchmarks.step_inflation import Training
from tensorboard_sidecar import Telemetry

Call: TypeAlias = Callable[[int], None]
"""Logs 19 scalars, at a step."""

# Between two tight loops: background work of the first one ends.
_SETTLE_SECONDS: Final = 1.0
_WARM_UP: Final = 20


def _step(writer: Any, values: Mapping[str, float | Tensor]) -> Call:
    def call(number: int) -> None:
        for tag, value in values.items():
            writer.add_scalar(tag, value, number)

    return call


def _in_turns(calls: Mapping[str, Call], steps: int, train: Callable[[], object]) -> dict[str, Timing]:
    """Time each call behind a training step of its own; the first steps do not count."""
    durations: dict[str, list[int]] = {name: [] for name in calls}
    gc.collect()
    for number in range(_WARM_UP + steps):
        for name, call in calls.items():
            train()
            started = perf_counter_ns()
            call(number)
            durations[name].append(perf_counter_ns() - started)
    return {name: Timing(tuple(sorted(taken[_WARM_UP:]))) for name, taken in durations.items()}


def _tight(calls: Mapping[str, Call], steps: int) -> dict[str, Timing]:
    timings = {}
    for name, call in calls.items():
        timings[name] = measure(call, steps, warm_up=_WARM_UP)
        sleep(_SETTLE_SECONDS)
    return timings


def _print(title: str, timings: Mapping[str, Timing]) -> None:
    own_ns = next(iter(timings.values())).percentile_ns(50)
    rows = []
    for name, timing in timings.items():
        p50_ns, p99_ns = timing.percentile_ns(50), timing.percentile_ns(99)
        rows.append([name, f"{p50_ns / own_ns:.1f}", f"{p99_ns / p50_ns:.1f}", *timing.cells()])
    print_table(title, ["", "ratio of p50", "p99 / p50", *COLUMNS], rows)


def _tell(work: str) -> None:
    """Say what is measured now: a table takes some ten seconds, many more on a busy machine."""
    print(f"\n{work} ...", flush=True)


def main() -> None:
    """Measure and print the tables."""
    options = begin(
        __doc__, steps=(120, "steps behind training, for each library"), loops=(600, "steps in a tight loop")
    )
    logging.getLogger("tensorboardX").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    floats = {tag: number / 7 for number, tag in enumerate(SCALARS)}
    tensors = {tag: torch.tensor(value) for tag, value in floats.items()}
    training = Training()
    with tempfile.TemporaryDirectory() as name, running_logger(Path(name)) as (endpoint, _):
        telemetry = Telemetry("benchmark/add-scalar", endpoint=endpoint, strict=True, drain_seconds=60)
        writers = {
            "tensorboard-sidecar": telemetry.writer,
            "torch SummaryWriter": SummaryWriter(f"{name}/torch"),
            "tensorboardX": tensorboardX.SummaryWriter(f"{name}/x"),
        }
        for kind, values in (("floats", floats), ("0-d tensors", tensors)):
            calls = {library: _step(writer, values) for library, writer in writers.items()}
            _tell(f"{options.steps:,} steps with 19 {kind} behind a training step, for each of {len(calls)} libraries")
            _print(f"19 {kind} behind a training step", _in_turns(calls, options.steps, training.step))
            _tell(f"{options.loops:,} steps with 19 {kind} in a tight loop, for each of {len(calls)} libraries")
            _print(f"19 {kind} in a tight loop", _tight(calls, options.loops))
        for writer in writers.values():
            writer.close()


if __name__ == "__main__":
    main()
