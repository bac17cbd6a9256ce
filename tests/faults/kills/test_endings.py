"""How a program ends while its logger is dead: within its deadline, and what it was promised stays in shared memory."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import time

import pytest
from faults.harness.oracle import Verdict, check
from faults.harness.trainer_process import TrainerProcess
from faults.harness.trainer_program import Plan
from faults.harness.trainers import Trainers
from support.running.programs import LoggerProcess

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes

STEPS = 500
DRAIN_SECONDS = 1.0
# Beyond the deadline: two seconds for a disk that stalls, and the end of an interpreter with torch on a slow machine.
SLACK_SECONDS = 15.0
# How a process ends, and its exit code. The first two take a whole interpreter down.
WHOLE = {"leave": 0, "SIGINT": -signal.SIGINT}
AT_ONCE = {"os._exit": 3, "SIGTERM": -signal.SIGTERM}


@pytest.fixture
def programs(logger: LoggerProcess, memory: Path, tmp_path: Path) -> Iterator[dict[str, TrainerProcess]]:
    """Return one of each ending, started together: most of their time is the import of torch."""
    plan = {"steps": STEPS, "options": {"drain_seconds": DRAIN_SECONDS}}
    with ExitStack() as running:
        yield {
            ending: running.enter_context(
                TrainerProcess(
                    Plan(
                        "ending", logger.endpoint, memory / ending, tmp_path / f"{ending}.diary", ending=ending, **plan
                    )
                )
            )
            for ending in WHOLE
        }


def test_interpreters_end_in_time_say_where_the_rest_is_and_leave_all_of_it(
    logger: LoggerProcess, programs: dict[str, TrainerProcess], memory: Path
) -> None:
    for program in programs.values():
        program.wait_for_call(STEPS + 1)
    for ending, program in programs.items():
        assert program.finish() == WHOLE[ending], program.said()
        print(f"{ending}: {program.ending_seconds:.2f} s after the last call")
        assert program.ending_seconds < DRAIN_SECONDS + SLACK_SECONDS
        [outbox] = find_outboxes(memory / ending)
        assert f"tensorboard-sidecar drain {outbox}" in program.said()
    logger.start()
    assert all(main(["drain", str(memory / ending), "--endpoint", logger.endpoint]) == 0 for ending in WHOLE)
    assert logger.stop() == 0
    print(check([program.returned for program in programs.values()], logger.recordings, logger.logdir))


@pytest.mark.parametrize("ending", AT_ONCE)
def test_processes_that_end_at_once_leave_all_of_it(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], ending: str
) -> None:
    trainer = trainers.start("ending", logger.endpoint, steps=STEPS, ending=ending)
    trainer.process.join(60)
    seconds = time() - trainer.plan.diary.stat().st_mtime
    assert trainer.process.exitcode == AT_ONCE[ending]
    assert seconds < SLACK_SECONDS
    logger.start()
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().replayed == STEPS + 1
