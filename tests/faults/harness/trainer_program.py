"""A training loop with nothing in it but telemetry, which writes down each call that came back.

Call number n has sequence n, and is n - 1 steps behind the first, so that a record tells which call it was: whoever
reads it needs no other key.
It is started in a process forked from one that has imported torch already, since tests kill hundreds of it.

    python -m faults.harness.trainer_program '{"run": "r", "endpoint": "tcp://...", "memory": "...", "diary": "..."}'

is the same as a program of its own, for tests of how an interpreter ends.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, Final

import torch
from faults.harness import disk_shim
from faults.harness.diary import TAG, Diary
from faults.harness.disk_shim import install
from faults.harness.stopwatch import Stopwatch

from tensorboard_sidecar import Telemetry

# The config makes two events of the record that begins a run.
OPTIONS: Final = {"strict": True, "drain_seconds": 60.0, "config": {"lr": 0.001, "name": "faults"}}
# What an end may take beyond its deadline, when a disk stalls.
STALL_SECONDS: Final = 2.0
_CHECK_STOP_EVERY: Final = 16


@dataclass(frozen=True)
class Plan:
    """What a trainer does: ``steps`` calls, or as many as it can until the file ``stop`` is there (0).

    ``memory`` takes the place of /dev/shm, and of the disk behind it. Every so many calls one is a matrix, a text, or
    summaries (0: none).
    ``options`` go to Telemetry as they are; where they leave little room it ``may_refuse``. ``ending`` is how it ends:
    "close", or a way that does not. ``disk`` is a plan of :mod:`faults.harness.disk_shim` for folders of the trainer's.
    """

    run: str
    endpoint: str | None
    memory: Path
    diary: Path
    steps: int = 0
    first_step: int = 0
    interval_seconds: float = 0.001
    matrix_every: int = 499
    text_every: int = 31
    summaries_every: int = 331
    matrix_side: int = 8
    ending: str = "close"
    may_refuse: bool = False
    disk: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stop(self) -> Path:
        """The file that ends a trainer of no fixed number of steps."""
        return self.diary.with_suffix(".stop")

    def encode(self) -> str:
        """Return this as an argument of the program."""
        return json.dumps(asdict(self), default=str)


def train(plan: Plan) -> None:
    """Do as planned. Runs in a process of its own, whose outboxes lie in ``plan.memory`` alone."""
    torch.set_num_threads(1)
    if plan.disk is not None:
        install(disk_shim.Plan(**plan.disk))
    diary = Diary(plan.diary)
    options = {**OPTIONS, "first_step": plan.first_step, "outbox_dir": plan.memory, **plan.options}
    watch = Stopwatch()
    started: list[Telemetry] = []
    seconds = watch.time(lambda: started.append(Telemetry(plan.run, endpoint=plan.endpoint, **options)))
    [telemetry] = started
    diary.begin(telemetry._pipeline.outbox.stream.id)
    diary.line(1, seconds)  # the start of the run
    sequence = 1
    while not _ended(plan, sequence):
        sequence += 1
        diary.line(sequence, watch.time(_call(plan, telemetry, sequence)))
        if plan.interval_seconds:
            sleep(plan.interval_seconds)
    _end(plan, telemetry, watch, lambda seconds: diary.line(sequence + 1, seconds))


def _ended(plan: Plan, sequence: int) -> bool:
    if plan.steps:
        return sequence > plan.steps
    return sequence % _CHECK_STOP_EVERY == 0 and plan.stop.exists()


def _call(plan: Plan, telemetry: Telemetry, number: int) -> Callable[[], None]:
    """Return the call of a number; which kind it is depends on the number alone."""
    step = plan.first_step + number - 1
    if plan.matrix_every and number % plan.matrix_every == 0:
        matrix = torch.full((plan.matrix_side, plan.matrix_side), number / 2**20)
        return lambda: telemetry.matrix(step, "fault/matrix", matrix, value_range=(0.0, 1.0))
    if plan.summaries_every and number % plan.summaries_every == 0:
        weights = {"weights/a": torch.arange(50.0), "weights/b": torch.arange(50.0)}
        return lambda: telemetry.summaries(step, weights)
    if plan.text_every and number % plan.text_every == 0:
        return lambda: telemetry.text(step, "fault/text", f"call {number}")
    if number % 2:  # the same record in the short way, once the tag is known
        return lambda: telemetry.writer.add_scalar(TAG, float(number), step)
    return lambda: telemetry.scalars(step, {TAG: float(number)})


def _end(plan: Plan, telemetry: Telemetry, watch: Stopwatch, ended: Callable[[float], None]) -> None:
    """End as planned; ``ended`` is told by how much an end in order passed its deadline."""
    match plan.ending:
        case "os._exit":
            os._exit(3)
        case "SIGTERM" | "SIGINT":
            os.kill(os.getpid(), signal.Signals[plan.ending])
            sleep(60)  # the signal ends it
        case "leave":  # to the interpreter's own end
            sys.exit(0)
        case "wait":
            while not plan.stop.exists():
                sleep(0.01)
    drain_seconds: float = {**OPTIONS, **plan.options}["drain_seconds"]
    ended(max(0.0, watch.time(telemetry.close) - drain_seconds - STALL_SECONDS))


def main() -> None:
    """Train as the argument says."""
    fields = json.loads(sys.argv[1])
    train(Plan(**{**fields, "memory": Path(fields["memory"]), "diary": Path(fields["diary"])}))


if __name__ == "__main__":
    main()
