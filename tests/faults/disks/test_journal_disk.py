"""The journal's disk is full, fails or stalls: nothing is acknowledged that is not there, nobody waits, all goes on."""

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest
from faults.harness.disk_shim import Plan
from faults.harness.effort import SOAKING
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.machine.sick_disks import FILLER, injected, on_a_small_disk, seen_by, wait_for_log
from support.running.programs import LoggerProcess

STALL_SECONDS = 2
CANNOT = "; nothing is acknowledged until the journal can"
AGAIN = "attempt 0, rank 0: the journal is written again"


def test_a_full_disk(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    """No space is left, without a mark that would warn of it; then somebody deletes a file."""
    on_a_small_disk(logger, logger.recordings, size_kib=16_384, free_kib=64)
    logger.flags = ("--disk_reserve_bytes", "0")
    logger.start()
    trainer = trainers.start("full", logger.endpoint)
    wait_for_log(logger, f"No space left on device{CANNOT}")
    trainer.wait_returned(300)
    (seen_by(logger, logger.recordings) / FILLER).unlink()
    wait_for_log(logger, f"run full, {AGAIN}")
    assert trainer.finish() == 0
    shutil.copytree(seen_by(logger, logger.recordings), logger.recordings, dirs_exist_ok=True)
    assert logger.stop() == 0
    judge()


def test_syncs_that_fail(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, judge: Callable[..., Verdict]
) -> None:
    first = chance.randint(1, 8)
    injected(logger, "fdatasync", f"error=EIO:when={first}..{first + 1}")
    logger.start()
    trainer = trainers.start("failing", logger.endpoint)
    wait_for_log(logger, f"Input/output error{CANNOT}")
    wait_for_log(logger, f"run failing, {AGAIN}")
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge()


@pytest.mark.parametrize("error", ["EDQUOT", "EROFS", "ENOSPC", "EIO"] if SOAKING else ["EDQUOT", "EROFS"])
def test_disks_of_journal_and_event_files_that_take_nothing_for_a_while(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], tmp_path: Path, error: str
) -> None:
    """A quota is used up, or a file system was made read-only by its kernel: both disks, at once."""
    sign = tmp_path / "sick"
    logger.program = Plan(str(logger.recordings), sick_while=str(sign), error=error).command()
    logger.start()
    trainer = trainers.start("sick", logger.endpoint)
    logger.wait_recorded()
    sign.touch()
    wait_for_log(logger, f"{os.strerror(getattr(errno, error))}{CANNOT}")
    trainer.wait_returned(300)
    sign.unlink()
    wait_for_log(logger, f"run sick, {AGAIN}")
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge()


def test_syncs_that_take_long(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, judge: Callable[..., Verdict]
) -> None:
    first = chance.randint(1, 8)
    injected(logger, "fdatasync", f"delay_enter={STALL_SECONDS * 10**6}:when={first}..{first + 1}")
    logger.start()
    trainer = trainers.start("stalled", logger.endpoint)
    sleep(2 * STALL_SECONDS + 0.5)
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge()
