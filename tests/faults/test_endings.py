"""How a program ends while its logger is dead: within its deadline, and what it was promised stays in shared memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.diary import Returned, read_diary, read_last
from faults.oracle import Verdict, check
from faults.trainer_program import Plan
from faults.trainers import Trainers
from support.programs import LoggerProcess
from support.waiting import wait_until

from protocol.orphan import find_outboxes
from trainer.telemetry.__main__ import main

STEPS = 500
DRAIN_SECONDS = 1.0
# Beyond the deadline: the end of an interpreter that has torch in it, on a busy machine. A hang is much longer.
SLACK_SECONDS = 20.0
# How a process ends, and its exit code. The first two take a whole interpreter down.
WHOLE = {"leave": 0, "SIGINT": -signal.SIGINT}
AT_ONCE = {"os._exit": 3, "SIGTERM": -signal.SIGTERM}


class Program:
    """A trainer with an interpreter of its own."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faults.trainer_program", plan.encode()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def returned(self) -> Returned:
        """What it was promised."""
        returned = read_diary(self.plan.diary)
        assert returned is not None
        return returned


@pytest.fixture
def programs(logger: LoggerProcess, memory: Path, tmp_path: Path) -> Iterator[dict[str, Program]]:
    """Return one of each ending, started together: most of their time is the import of torch."""
    plan = {"steps": STEPS, "options": {"drain_seconds": DRAIN_SECONDS}}
    programs = {
        ending: Program(
            Plan("ending", logger.endpoint, memory / ending, tmp_path / f"{ending}.diary", ending=ending, **plan)
        )
        for ending in WHOLE
    }
    yield programs
    for program in programs.values():
        program.process.kill()
        program.process.communicate()


def test_interpreters_end_in_time_say_where_the_rest_is_and_leave_all_of_it(
    logger: LoggerProcess, programs: dict[str, Program], memory: Path
) -> None:
    for ending, program in programs.items():
        wait_until(lambda program=program: read_last(program.plan.diary) > STEPS, seconds=120, what=ending)  # type: ignore[misc]
    for ending, code in WHOLE.items():
        _, errors = programs[ending].process.communicate(timeout=DRAIN_SECONDS + SLACK_SECONDS)
        assert programs[ending].process.returncode == code, errors
        [outbox] = find_outboxes(memory / ending)
        assert f"python -m trainer.telemetry drain {outbox}" in errors
    logger.start()
    assert all(main(["drain", str(memory / ending), "--endpoint", logger.endpoint]) == 0 for ending in WHOLE)
    assert logger.stop() == 0
    print(check([program.returned for program in programs.values()], logger.recordings, logger.logdir))


@pytest.mark.parametrize("ending", AT_ONCE)
def test_processes_that_end_at_once_leave_all_of_it(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], ending: str
) -> None:
    trainer = trainers.start("ending", logger.endpoint, steps=STEPS, ending=ending)
    trainer.process.join(SLACK_SECONDS)
    assert trainer.process.exitcode == AT_ONCE[ending]
    logger.start()
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().replayed == STEPS + 1
