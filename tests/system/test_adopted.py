"""Killed trainers: the logger of their machine adopts their outboxes, once."""

import signal
import sys
from pathlib import Path

import pytest
from support.logger.key_ring import KeyRing
from support.machine.waiting import wait_until
from support.records.events import values_by_tag
from support.running.forked import ForkedProgram
from support.running.programs import LoggerProcess, run_command
from support.running.spoken import read_recording

from tensorboard_sidecar.logger_service.intake.journal import OWNER_NAME

pytestmark = pytest.mark.system

SECONDS = 60.0
TRAINER = """
import sys
from pathlib import Path
from tensorboard_sidecar import Telemetry
keys = dict(zip(("server_key", "client_key"), sys.argv[3:]))
telemetry = Telemetry("killed", endpoint=sys.argv[1], outbox_dir=Path(sys.argv[2]), strict=True, **keys)
step = 0
while True:
    telemetry.scalars(step, {"loss": float(step)})
    print(step, flush=True)
    step += 1
"""
# A logger with shorter waits: it looks for outboxes every 0.2 s, not 2 s, and their owners are gone for 0.5 s, not 3 s.
HASTY = """
import sys
from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.intake import orphan_intake
orphan_intake.LOOK_SECONDS, orphan_intake.GRACE_SECONDS = 0.2, 0.5
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def logger(logger: LoggerProcess, memory: Path) -> LoggerProcess:
    logger.adopt = str(memory)
    return logger


@pytest.fixture
def hasty(logger: LoggerProcess) -> LoggerProcess:
    logger.program = [sys.executable, "-c", HASTY]
    return logger


def killed_trainer(where: str | Path, memory: Path, steps: int, *keys: str | Path, program: str = TRAINER) -> int:
    """Kill a trainer after at least ``steps`` steps; return the last step whose call had returned."""
    with ForkedProgram(program, where, memory, *keys) as trainer:
        while int(trainer.stdout.readline()) < steps:
            continue
        trainer.kill()
        said = trainer.stdout.read().rpartition("\n")[0].splitlines()
    return int(said[-1]) if said else steps


def wait_adopted(memory: Path) -> None:
    wait_until(lambda: not list(memory.rglob("*.segment")), seconds=SECONDS, what="an adopted outbox")


def assert_everything_is_there_once(logger: LoggerProcess, last_step: int) -> None:
    assert logger.stop() == 0
    shown = [int(value.simple_value) for _, value in values_by_tag(logger.logdir / "killed")["loss"]]
    assert shown == list(range(len(shown)))
    assert len(shown) > last_step
    assert run_command("verify", logger.recordings, logger.logdir).returncode == 0
    assert logger.log.read_text().count("records its trainer left") == 1


def test_a_logger_that_runs_adopts_what_a_killed_trainer_left(logger: LoggerProcess, memory: Path) -> None:
    logger.start()
    assert logger.process is not None
    with ForkedProgram(TRAINER, logger.endpoint, memory) as trainer:
        while int(trainer.stdout.readline()) < 100:
            continue
        wait_until(lambda: list(logger.recordings.rglob("*.segment")), seconds=SECONDS, what="a journal")
        logger.process.send_signal(signal.SIGSTOP)  # so that something is left
        step = int(trainer.stdout.readline())
        while int(trainer.stdout.readline()) < step + 2000:
            continue
        trainer.kill()
        last_step = int(trainer.stdout.read().rpartition("\n")[0].splitlines()[-1])
    logger.process.send_signal(signal.SIGCONT)
    wait_adopted(memory)
    assert_everything_is_there_once(logger, last_step)


def test_a_logger_that_is_started_later_adopts_it(hasty: LoggerProcess, memory: Path) -> None:
    last_step = killed_trainer(hasty.endpoint, memory, 2000)
    assert list(memory.rglob("*.segment"))
    hasty.start()
    wait_adopted(memory)
    assert_everything_is_there_once(hasty, last_step)


def test_a_logger_that_is_killed_while_it_adopts_goes_on_with_it(hasty: LoggerProcess, memory: Path) -> None:
    last_step = killed_trainer(hasty.endpoint, memory, 30_000)
    hasty.start()
    wait_until(lambda: list(hasty.recordings.rglob("*.segment")), seconds=SECONDS, what="a journal")
    hasty.kill()
    hasty.start()
    wait_adopted(memory)
    assert_everything_is_there_once(hasty, last_step)


def test_two_loggers_on_one_machine_adopt_it_once(hasty: LoggerProcess, memory: Path, tmp_path: Path) -> None:
    last_step = killed_trainer(hasty.endpoint, memory, 2000)
    (tmp_path / "other").mkdir()
    other = LoggerProcess(tmp_path / "other")
    other.adopt, other.program = hasty.adopt, hasty.program
    both = (hasty, other)
    for one in both:
        one.start()
    wait_adopted(memory)
    assert [one.stop() for one in both] == [0, 0]
    (one,) = [one for one in both if (one.recordings / "killed").exists()]
    assert len(values_by_tag(one.logdir / "killed")["loss"]) > last_step
    assert sum(one.log.read_text().count(" adopted: ") for one in both) == 1


def test_with_keys_what_trainers_left_is_adopted_from_those_that_are_allowed(
    hasty: LoggerProcess, memory: Path, tmp_path: Path
) -> None:
    ring = KeyRing(tmp_path)
    for name in ("allowed", "revoked"):
        ring.make_trainer(name)
    last_step = killed_trainer(hasty.endpoint, memory, 2000, ring.server_key, ring.client_key("allowed"))
    killed_trainer(hasty.endpoint, memory, 1000, ring.server_key, ring.client_key("revoked"))
    ring.shut_out("revoked")
    hasty.flags = ("--keys", str(ring.logger))
    hasty.start()
    for said in (" is not adopted: its trainer's key ", "records its trainer left"):
        wait_until(lambda said=said: said in hasty.log.read_text(), seconds=SECONDS, what=said)
    [owner] = hasty.recordings.rglob(OWNER_NAME)
    assert owner.read_text() == "allowed"
    assert_everything_is_there_once(hasty, last_step)


def test_what_is_recorded_alone_comes_to_no_logger(hasty: LoggerProcess, memory: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    program = TRAINER.replace("endpoint=sys.argv[1]", "endpoint=None, record=Path(sys.argv[1])")
    last_recorded = killed_trainer(recorded, memory, 2000, program=program)
    hasty.start()
    last_sent = killed_trainer(hasty.endpoint, memory, 100)
    wait_until(lambda: " adopted: " in hasty.log.read_text(), seconds=SECONDS, what="what is for the logger")
    [left] = {path.parent for path in memory.rglob("*.segment")}
    assert run_command("drain", memory).returncode == 0
    assert not list(memory.rglob("*.segment"))
    assert str(left) not in hasty.log.read_text()
    assert_everything_is_there_once(hasty, last_sent)
    assert len(read_recording(recorded)) >= last_recorded + 2
