"""The logger is killed and started again while a trainer runs: nothing is lost, nothing comes twice."""

import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
from support.events import load_folder, values_by_tag
from support.programs import LoggerProcess, run_module

pytestmark = pytest.mark.system

LOOP = """
import sys, time, torch
from trainer.telemetry import Telemetry
with Telemetry("killed", endpoint=sys.argv[1], strict=True, drain_seconds=60) as telemetry:
    for step in range(int(sys.argv[2])):
        telemetry.scalars(step, {"loss/a": torch.tensor(float(step)), "loss/b": 2.0 * step})
        if step % 100 == 0:
            telemetry.matrix(step, "similarity/a", torch.rand(8, 8) * 2 - 1, value_range=(-1.0, 1.0))
            telemetry.summaries(step, {"weights/a": torch.rand(50), "weights/b": torch.rand(50)})
        time.sleep(0.002)
"""
STEPS = 3000
KILLS = 5


@pytest.fixture
def logger(tmp_path: Path) -> LoggerProcess:
    return LoggerProcess(tmp_path)


def test_logger_killed_again_and_again_in_mid_run_loses_and_doubles_nothing(
    logger: LoggerProcess, tmp_path: Path
) -> None:
    logger.start()
    trainer = subprocess.Popen(
        [sys.executable, "-c", LOOP, logger.endpoint, str(STEPS)], stderr=subprocess.PIPE, text=True
    )
    for _ in range(KILLS):
        wait_for_growth(logger.recordings)
        logger.kill()
        logger.start()
    _, said = trainer.communicate(timeout=120)
    assert trainer.returncode == 0, said
    assert logger.stop() == 0

    shown = shown_losses(logger)
    assert shown == [float(step) for step in range(STEPS)]
    verified = run_module("logger_service", "verify", logger.recordings, logger.logdir)
    assert verified.returncode == 0, verified.stdout

    replayed = run_module("logger_service", "replay", logger.recordings, "--logdir", tmp_path / "replayed")
    assert replayed.returncode == 0, replayed.stderr
    live, again = load_folder(logger.logdir / "killed"), load_folder(tmp_path / "replayed" / "killed")
    assert [event.SerializeToString() for event in live] == [event.SerializeToString() for event in again]


def shown_losses(logger: LoggerProcess) -> list[float]:
    """Return the points of one curve as they lie in the event files."""
    return [value.simple_value for _, value in values_by_tag(logger.logdir / "killed")["loss/a"]]


def wait_for_growth(folder: Path) -> None:
    """Wait until the recordings under ``folder`` are larger than they are now."""

    def size() -> int:
        return sum(path.stat().st_size for path in folder.rglob("*.segment"))

    before, deadline = size(), monotonic() + 30
    while size() <= before and monotonic() < deadline:
        sleep(0.02)


def test_trainer_first_logger_later_shows_everything(logger: LoggerProcess) -> None:
    trainer = subprocess.Popen([sys.executable, "-c", LOOP, logger.endpoint, "200"], stderr=subprocess.PIPE, text=True)
    sleep(0.5)
    logger.start()
    _, said = trainer.communicate(timeout=120)
    assert trainer.returncode == 0, said
    assert logger.stop() == 0
    shown = shown_losses(logger)
    assert shown == [float(step) for step in range(200)]
