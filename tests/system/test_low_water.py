"""Full disks: the logger stops granting credit before a disk is full, and resumes when there is space."""

import json
import shutil
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.machine.sick_disks import FILLER, on_a_small_disk, seen_by
from support.machine.waiting import wait_until
from support.records.events import load_folder
from support.running.programs import LoggerProcess, free_port, run_command

pytestmark = pytest.mark.system

SECONDS = 90.0
MIB = 2**20
DISK_KIB, FREE_KIB, RESERVE_BYTES = 96 * 1024, 48 * 1024, 16 * MIB
TEXTS, TEXT_BYTES = 200, 200_000
# More than the free space beside the filler: 40 MB, with 32 MiB above the reserve.
TRAINER = f"""
import sys
from pathlib import Path
from tensorboard_sidecar import Telemetry
with Telemetry("run", endpoint=sys.argv[1], outbox_dir=Path(sys.argv[2]), strict=True, drain_seconds=120) as telemetry:
    for step in range({TEXTS}):
        telemetry.text(step, "captions", f"{{step:010d}}" * {TEXT_BYTES // 10})
"""


def on_small_disk(logger: LoggerProcess, folder: Path) -> None:
    """Put a folder of the logger on a separate disk, half full, with a reserve."""
    on_a_small_disk(logger, folder, size_kib=DISK_KIB, free_kib=FREE_KIB)
    logger.flags = ("--disk_reserve_bytes", str(RESERVE_BYTES))
    logger.health = f"127.0.0.1:{free_port()}"


def reasons(logger: LoggerProcess) -> list[str]:
    """Return the reasons why the logger is unhealthy."""
    connection = HTTPConnection(logger.health, timeout=SECONDS)
    connection.request("GET", "/healthz")
    found: list[str] = json.loads(connection.getresponse().read())["reasons"]
    connection.close()
    return found


def start_trainer(logger: LoggerProcess, memory: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", TRAINER, logger.endpoint, str(memory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(trainer: "subprocess.Popen[str]") -> None:
    _, said = trainer.communicate(timeout=SECONDS)
    assert trainer.returncode == 0, said
    assert "left" not in said


def test_credit_stops_before_the_journals_disk_is_full_and_nothing_is_lost(
    logger: LoggerProcess, memory: Path, tmp_path: Path
) -> None:
    on_small_disk(logger, logger.recordings)
    logger.start()
    disk = seen_by(logger, logger.recordings)
    with start_trainer(logger, memory) as trainer:
        wait_until(lambda: "trainers keep their records" in logger.log.read_text(), seconds=SECONDS)
        wait_until(lambda: any("recordings is nearly full" in reason for reason in reasons(logger)), seconds=SECONDS)
        assert RESERVE_BYTES // 2 < shutil.disk_usage(disk).free < RESERVE_BYTES
        assert trainer.poll() is None
        (disk / FILLER).unlink()
        finish(trainer)
    wait_until(lambda: reasons(logger) == [], seconds=SECONDS)
    shutil.copytree(disk / "run", tmp_path / "kept")
    assert logger.stop() == 0
    said = logger.log.read_text()
    assert (
        said.count("trainers keep their records") == said.count("there is room again, trainers send their records") == 1
    )
    assert "cannot be written" not in said
    assert run_command("verify", tmp_path / "kept").returncode == 0
    assert texts(logger.logdir) == TEXTS


def test_event_files_wait_for_room_and_are_whole(logger: LoggerProcess, memory: Path, tmp_path: Path) -> None:
    on_small_disk(logger, logger.logdir)
    logger.start()
    disk = seen_by(logger, logger.logdir)
    with start_trainer(logger, memory) as trainer:
        wait_until(lambda: "event files wait until there is room" in logger.log.read_text(), seconds=SECONDS)
        finish(trainer)
    wait_until(lambda: any("log directory is nearly full" in reason for reason in reasons(logger)), seconds=SECONDS)
    assert RESERVE_BYTES // 2 < shutil.disk_usage(disk).free < RESERVE_BYTES
    (disk / FILLER).unlink()
    wait_until(lambda: texts(disk) == TEXTS, seconds=SECONDS)
    wait_until(lambda: reasons(logger) == [], seconds=SECONDS)
    shutil.copytree(disk, tmp_path / "kept")
    assert logger.stop() == 0
    assert "is not projected" not in logger.log.read_text(), "no write failed"
    assert run_command("verify", tmp_path / "kept", logger.recordings).returncode == 0


def texts(logdir: Path) -> int:
    """Return the number of texts in the event files."""
    return sum(
        value.tag.startswith("captions") for event in load_folder(logdir / "run") for value in event.summary.value
    )
