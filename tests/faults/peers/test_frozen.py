"""The logger or a trainer is stopped for a while, as by a debugger or a machine that swaps, and goes on."""

import signal
from collections.abc import Callable
from time import sleep

from faults.harness.effort import rounds
from faults.harness.growth import Growth
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.running.programs import LoggerProcess
from support.running.spoken import read_said

from tensorboard_sidecar.protocol.messages import RunEnd

# Longer than a trainer waits for an answer, and, in a soak, than a logger waits for a trainer that says nothing.
FROZEN_SECONDS = rounds(quick=7, full=30)
OUTBOX_BYTES = 8 * 2**20


def test_logger_frozen(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    logger.start()
    trainer = trainers.start("frozen", logger.endpoint, options={"outbox_bytes": OUTBOX_BYTES})
    assert logger.process is not None
    trainer.wait_returned(500)
    growth = Growth(logger.process.pid, trainer.process.pid)
    logger.process.send_signal(signal.SIGSTOP)
    sleep(FROZEN_SECONDS)
    trainer.wait_returned(100)
    growth.check()
    logger.process.send_signal(signal.SIGCONT)
    trainer.wait_returned(500)
    logger.wait_recorded()
    growth.check()
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge()


def test_trainer_frozen(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    logger.start()
    trainer = trainers.start("frozen", logger.endpoint)
    trainer.wait_returned(500)
    trainer.signal(signal.SIGSTOP)
    sleep(FROZEN_SECONDS)
    trainer.signal(signal.SIGCONT)
    trainer.wait_returned(200)
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge(call_max_seconds=FROZEN_SECONDS + 5)
    [folder] = (logger.recordings / "frozen").iterdir()
    ends = [said for said in read_said(folder) if isinstance(said.message, RunEnd)]
    assert len(ends) == 1, "a trainer that says nothing has not ended"
