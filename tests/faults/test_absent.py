"""The logger is not there, for the whole run or at first: training does not notice, and all is there in the end."""

from collections.abc import Callable
from time import sleep

from faults.effort import rounds
from faults.oracle import Verdict
from faults.trainers import Trainers
from support.programs import LoggerProcess

LATE_SECONDS = rounds(quick=3, full=60)
STEPS = 3000
# A call takes some twenty microseconds whether there is a logger or not; only a call that waits for one takes this.
TYPICAL_MAX_SECONDS = 0.001


def test_no_logger_for_the_whole_run(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    trainer = trainers.start("absent", logger.endpoint, steps=STEPS, options={"drain_seconds": 0.2})
    assert trainer.finish() == 0
    assert trainer.returned.typical_seconds < TYPICAL_MAX_SECONDS
    logger.start()
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().replayed == STEPS + 2


def test_a_logger_that_comes_late(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    trainer = trainers.start("late", logger.endpoint)
    sleep(LATE_SECONDS)
    before = trainer.returned.last
    assert before > LATE_SECONDS * 10, "training goes on without"
    logger.start()
    trainer.wait_returned(200)
    assert trainer.finish() == 0
    assert trainer.returned.typical_seconds < TYPICAL_MAX_SECONDS
    assert logger.stop() == 0
    judge()
