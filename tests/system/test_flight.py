"""The flight recorder with real processes: a trainer that is killed, a loss that is not finite; seen in event files."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from support.machine.waiting import wait_until
from support.records.events import folder_bytes, values_by_tag
from support.running.forked import ForkedProgram
from support.running.programs import LoggerProcess, run_command
from support.running.tensorboard import running_tensorboard

pytestmark = pytest.mark.system

SECONDS = 60.0
KEPT = 50
PRELUDE = """
import sys
from pathlib import Path
from time import sleep
from tensorboard_sidecar import Telemetry
def make(**options):
    return Telemetry("run", outbox_dir=Path(sys.argv[2]), strict=True, flight_recorder=50, **options)
"""
KILLED = """
telemetry = make(**{where})
step = 0
while True:
    telemetry.flight(step, {{"loss": float(step)}})
    if step % 10 == 0:
        telemetry.scalars(step, {{"loss": float(step)}})
    print(step, flush=True)
    step += 1
"""
SICK = """
telemetry = make(endpoint=sys.argv[1])
try:
    with telemetry:
        for step in range(400):
            loss = float("nan") if step == 200 else float(step)
            telemetry.flight(step, {"loss": loss})
            if step % 10 == 5:
                telemetry.scalars(step, {"train": 1.0})
            sleep(0.002)
        raise ValueError("the data are at an end")
except ValueError:
    print("failed", flush=True)
"""
# As in test_adopted: a logger with shorter waits.
HASTY = """
import sys
from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.intake import orphan_intake
orphan_intake.LOOK_SECONDS, orphan_intake.GRACE_SECONDS = 0.2, 0.5
sys.exit(main(sys.argv[1:]))
"""


def kill_after(program: ForkedProgram, steps: int) -> int:
    """Kill a program that prints its steps; return the last step whose calls had returned."""
    while (said := int(program.stdout.readline())) < steps:
        continue
    program.kill()
    return int([str(said), *program.stdout.read().rpartition("\n")[0].splitlines()][-1])


def shown(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(step, value.simple_value) for step, value in values_by_tag(folder).get(tag, [])]


def reasons(folder: Path) -> list[tuple[int, str]]:
    """Return the texts that say why bursts were shipped."""
    found: list[tuple[int, Any]] = values_by_tag(folder).get("flight/reason", [])
    return [(step, value.tensor.string_val[0].decode()) for step, value in found]


def assert_the_last_steps_are_shown(folder: Path, last_step: int) -> None:
    points = shown(folder, "flight/loss")
    assert len(points) == KEPT
    assert points == [(step, float(step)) for step in range(points[0][0], points[0][0] + KEPT)]
    assert points[-1][0] in (last_step, last_step + 1)
    [(step, text)] = reasons(folder)
    assert step == points[-1][0]
    assert text.startswith("`the process ended without closing its telemetry: it was killed, or it crashed`: steps ")
    loss = shown(folder, "loss")
    assert loss == [(10 * n, 10.0 * n) for n in range(len(loss))]
    assert loss[-1][0] in (points[-1][0] // 10 * 10, points[-1][0] // 10 * 10 - 10)


def test_a_killed_trainer_leaves_its_last_steps_to_the_logger(
    logger: LoggerProcess, memory: Path, tmp_path: Path
) -> None:
    logger.adopt, logger.program = str(memory), [sys.executable, "-c", HASTY]
    logger.start()
    program = PRELUDE + KILLED.format(where="{'endpoint': sys.argv[1]}")
    with ForkedProgram(program, logger.endpoint, memory) as trainer:
        last_step = kill_after(trainer, 2000)
    wait_until(lambda: not [*memory.rglob("owner.lock")], seconds=SECONDS, what="an adopted outbox")
    assert logger.stop() == 0
    assert_the_last_steps_are_shown(logger.logdir / "run", last_step)
    assert not [*memory.rglob("flight.ring")]
    assert run_command("verify", logger.recordings, logger.logdir).returncode == 0
    assert run_command("replay", logger.recordings, "--logdir", tmp_path / "again").returncode == 0
    assert folder_bytes(tmp_path / "again" / "run") == folder_bytes(logger.logdir / "run")


def test_a_killed_trainer_without_a_logger_leaves_its_last_steps_to_drain(memory: Path, tmp_path: Path) -> None:
    program = PRELUDE + KILLED.format(where="{'endpoint': None, 'record': sys.argv[1]}")
    with ForkedProgram(program, tmp_path / "recorded", memory) as trainer:
        last_step = kill_after(trainer, 500)
    assert run_command("drain", memory).returncode == 0
    assert not [*memory.rglob("flight.ring")]
    assert run_command("replay", tmp_path / "recorded", "--logdir", tmp_path / "events").returncode == 0
    assert_the_last_steps_are_shown(tmp_path / "events" / "run", last_step)


def test_a_nan_and_then_an_exception_are_two_bursts_and_tensorboard_shows_every_point(
    logger: LoggerProcess, memory: Path, tmp_path: Path
) -> None:
    logger.start()
    with ForkedProgram(PRELUDE + SICK, logger.endpoint, memory) as trainer:
        assert trainer.stdout.readline() == "failed\n"
        assert trainer.wait(SECONDS) == 0
    assert logger.stop() == 0
    folder = logger.logdir / "run"
    points = shown(folder, "flight/loss")
    steps = [step for step, _ in points]
    assert steps == sorted(set(steps))
    assert steps[: KEPT + 1] == [*range(150, 201)], "the 50 steps before the NaN, and the NaN"
    assert steps[-KEPT:] == [*range(350, 400)], "the last 50 steps before the exception"
    assert [step for step, value in points if math.isnan(value)] == [200]
    texts = reasons(folder)
    assert texts[0][1].startswith("`loss is nan at step 200")
    assert texts[-1][0] == 399
    assert "ValueError: the data are at an end`: steps " in texts[-1][1]
    assert len(shown(folder, "train")) == 40, "other records go on as ever"
    with running_tensorboard(logger.logdir, tmp_path / "tb") as tensorboard:
        tensorboard.wait_for("the bursts", lambda tb: "flight/loss" in tb.get("plugin/scalars/tags").get("run", {}))
        kept = tensorboard.get("plugin/scalars/scalars", run="run", tag="flight/loss")
    assert [step for _, step, _ in kept] == steps
