"""The logger or a trainer is stopped for a while, as by a debugger or a machine that swaps, and goes on."""

import signal
from collections.abc import Callable
from pathlib import Path
from time import sleep

from faults.effort import rounds
from faults.oracle import Verdict
from faults.trainers import Trainers
from support.programs import LoggerProcess
from support.spoken import read_said

from protocol.messages import RunEnd

# Longer than a trainer waits for an answer, and, in a soak, than a logger waits for a trainer that says nothing.
FROZEN_SECONDS = rounds(quick=7, full=30)
# What a process may need more after it was frozen; what gathers meanwhile lies in the outbox, which has its bound.
GROWTH_MAX_BYTES = 64 * 2**20
OUTBOX_BYTES = 8 * 2**20


def resident_bytes(pid: int) -> int:
    """Return what a process holds of memory that is its own."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def test_logger_frozen(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    logger.start()
    trainer = trainers.start("frozen", logger.endpoint, options={"outbox_bytes": OUTBOX_BYTES})
    assert logger.process is not None
    assert trainer.process.pid is not None
    trainer.wait_returned(500)
    held_logger, held_trainer = resident_bytes(logger.process.pid), resident_bytes(trainer.process.pid)
    logger.process.send_signal(signal.SIGSTOP)
    sleep(FROZEN_SECONDS)
    trainer.wait_returned(100)
    assert resident_bytes(trainer.process.pid) - held_trainer < GROWTH_MAX_BYTES
    logger.process.send_signal(signal.SIGCONT)
    assert trainer.finish() == 0
    assert resident_bytes(logger.process.pid) - held_logger < GROWTH_MAX_BYTES
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
