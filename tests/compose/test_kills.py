"""Containers killed, stopped and removed in mid-run: the run goes on, nothing is lost, nothing comes twice."""

import re
from pathlib import Path

import pytest
from compose.judge import check
from support.running.compose import Compose

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

ENDLESS = 1_000_000


def end_soon(compose: Compose) -> int:
    """Set a few more epochs than are done; return how many that are. The next ``up`` takes note."""
    done = re.findall(r"epoch +(\d+)/", compose("logs", "trainer"))
    epochs = max(map(int, done), default=0) + 3
    compose.set(EPOCHS=epochs)
    return epochs


def test_logger_tensorboard_and_trainer_are_killed_in_turn(compose: Compose, tmp_path: Path) -> None:
    compose.set(EPOCHS=ENDLESS)
    compose.up()
    for service in ("logger", "tensorboard", "trainer"):
        compose.wait_for_growth()
        compose.kill_9(service)
    compose.wait_for_growth()
    epochs = end_soon(compose)
    compose.up()
    compose.wait_for_end()
    check(compose, tmp_path, epochs=epochs, attempts=3)


def test_down_in_mid_epoch_and_up_again_goes_on(compose: Compose, tmp_path: Path) -> None:
    compose.set(EPOCHS=ENDLESS)
    compose.up()
    compose.wait_for_growth()
    epochs = end_soon(compose)
    compose("down")
    compose.up()
    compose.wait_for_end()
    check(compose, tmp_path, epochs=epochs, attempts=2)


def test_a_killed_and_removed_trainer_leaves_its_records_to_the_logger(compose: Compose, tmp_path: Path) -> None:
    """Its outbox lies on a volume: what it could not send any more is found there."""
    compose.set(EPOCHS=ENDLESS)
    compose("run", "--rm", "keys")
    compose.up("--no-deps", "trainer")
    compose.wait_for_log("trainer", "epoch ")
    epochs = end_soon(compose)
    compose("kill", "trainer")
    compose("rm", "--force", "trainer")
    compose.up()
    compose.wait_for_end()
    check(compose, tmp_path, epochs=epochs, attempts=2)
