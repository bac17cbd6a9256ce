"""The journal's disk is full, fails or stalls: nothing is acknowledged that is not there, nobody waits, all goes on."""

import random
import shutil
from collections.abc import Callable
from time import sleep

from faults.oracle import Verdict
from faults.trainers import Trainers
from support.programs import LoggerProcess
from support.sick_disks import FILLER, injected, on_a_small_disk, seen_by, wait_for_log

STALL_SECONDS = 2


def test_a_full_disk(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    """No space is left, without a mark that would warn of it; then somebody deletes a file."""
    on_a_small_disk(logger, logger.recordings, size_kib=16_384, free_kib=64)
    logger.flags = ("--disk_reserve_bytes", "0")
    logger.start()
    trainer = trainers.start("full", logger.endpoint)
    wait_for_log(logger, "No space left on device; nothing is acknowledged until it can")
    trainer.wait_returned(300)
    (seen_by(logger, logger.recordings) / FILLER).unlink()
    wait_for_log(logger, "run full, attempt 0, rank 0: the journal is written again")
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
    wait_for_log(logger, "Input/output error; nothing is acknowledged until it can")
    wait_for_log(logger, "run failing, attempt 0, rank 0: the journal is written again")
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
