"""The logger is not there, for the whole run or at first: training does not notice, and all is there in the end."""

from collections.abc import Callable
from time import sleep

from faults.harness.effort import rounds
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.running.programs import LoggerProcess, free_port

LATE_SECONDS = rounds(quick=3, full=60)
STEPS = 3000
# The median call without a logger against that of the same calls with one, in the same moments. Both take some twenty
# microseconds; only who waits for a logger takes so many times that.
SLOWER_MAX = 5.0


def test_training_is_as_fast_without_a_logger_as_with_one(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    logger.start()
    nobody = f"tcp://127.0.0.1:{free_port()}"
    plan = {"steps": STEPS, "ending": "wait", "options": {"drain_seconds": 0.2}}
    absent, served = (trainers.start(run, to, **plan) for run, to in (("absent", nobody), ("served", logger.endpoint)))
    for trainer in (absent, served):
        trainer.wait_for_call(STEPS + 1)
    typical = {trainer.plan.run: trainer.returned.typical_seconds for trainer in (absent, served)}
    print(typical)
    assert typical["absent"] < SLOWER_MAX * typical["served"]
    assert [trainer.finish() for trainer in (absent, served)] == [0, 0]
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().replayed == 2 * (STEPS + 2)


def test_a_logger_that_comes_late(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    trainer = trainers.start("late", logger.endpoint)
    sleep(LATE_SECONDS)
    before = trainer.returned.last
    assert before > LATE_SECONDS * 10, "training goes on without"
    logger.start()
    trainer.wait_returned(200)
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge()
