"""Trainer and logger on two boxes: who is let in, what the others are told, and what a third one sees on the cable."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from network.boxes import BoxedLogger, Boxes, two_boxes, why_no_boxes
from network.trainer_program import RUN, TAG, TEXT
from support.logger.key_ring import KeyRing
from support.machine.waiting import wait_until
from support.running.main_programs import MainProgram

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader

STEPS = 300
CANARY = "a canary that the sniffer has to see"

pytestmark = [
    pytest.mark.skipif(bool(why := why_no_boxes()), reason=why or "-"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def boxes() -> Iterator[Boxes]:
    with two_boxes() as boxes:
        yield boxes


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    folder = tmp_path / "outbox"
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def logger_with(
    boxes: Boxes, folder: Path, ring: KeyRing, module: str = "tensorboard_sidecar"
) -> Iterator[BoxedLogger]:
    """Have a logger in its box that knows the keys in ``ring``."""
    logger = BoxedLogger(folder, boxes, ("--keys", ring.logger), module)
    logger.start()
    try:
        yield logger
    finally:
        logger.stop()


def start_trainer(
    boxes: Boxes,
    logger: BoxedLogger,
    outbox: Path,
    *keys: str | Path,
    steps: int = STEPS,
    drain_seconds: float = 0.0,
    program: str = "network.trainer_program",
) -> MainProgram:
    arguments = (logger.endpoint, outbox, str(steps), str(drain_seconds), *keys)
    return MainProgram(outbox.with_name("said"), program, *arguments, network=boxes.trainer)


def train(
    boxes: Boxes, logger: BoxedLogger, outbox: Path, *keys: str | Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    return start_trainer(boxes, logger, outbox, *keys, **options).wait(120)


def drain(boxes: Boxes, logger: BoxedLogger, outbox: Path, ring: KeyRing, client: Path) -> str:
    arguments = ["--endpoint", logger.endpoint, "--server_key", ring.server_key, "--client_key", client]
    done = boxes.run(boxes.trainer, "tensorboard_sidecar", "drain", outbox, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def steps_in(logger: BoxedLogger) -> list[int]:
    """Return the steps that are in the journal."""
    steps = []
    for folder in {path.parent for path in logger.recordings.glob(f"{RUN}/*/*.segment")}:
        with closing(RecordingReader(folder)) as reader:
            while records := reader.read():
                said = [(record.step, decode_message(record)) for record in records]
                steps += [step for step, message in said if isinstance(message, Scalars) and TAG in message.values]
    return steps


def refused_by(logger: BoxedLogger) -> int:
    """Return the count of refused connections, as the logger said it last."""
    return max(
        map(int, re.findall(r"connection refused: .* \((\d+) refused so far\)", logger.log.read_text())), default=0
    )


def test_with_keys_everything_arrives_and_nothing_can_be_read_on_the_way(
    boxes: Boxes, ring: KeyRing, tmp_path: Path, outbox: Path
) -> None:
    ring.make_trainer()
    captured = tmp_path / "captured"
    with (
        logger_with(boxes, tmp_path, ring) as logger,
        boxes.running(boxes.trainer, "network.sniffer_program", boxes.cable, captured) as sniffer,
    ):
        assert sniffer.stdout is not None
        assert sniffer.stdout.readline() == "ready\n"
        trained = train(boxes, logger, outbox, ring.server_key, ring.client_key(), drain_seconds=60)
        assert (trained.returncode, trained.stderr) == (0, ""), trained.stderr
        boxes.say_in_clear(CANARY)
        wait_until(lambda: CANARY.encode() in captured.read_bytes(), what="the sniffer has seen all before")
    assert sorted(steps_in(logger)) == list(range(STEPS))
    seen = captured.read_bytes()
    assert b"CURVE" in seen
    assert len(seen) > 10 * STEPS
    for secret in (RUN, TAG, TAG.rpartition("/")[2], TEXT, ring.server_secret.read_text().split()[1], "tensorboard"):
        assert secret.encode() not in seen


def test_without_a_key_a_trainer_does_not_start_and_says_what_to_type(
    boxes: Boxes, ring: KeyRing, tmp_path: Path, outbox: Path
) -> None:
    with logger_with(boxes, tmp_path, ring) as logger:
        trained = train(boxes, logger, outbox)
        assert trained.returncode == 2
        assert "tensorboard-sidecar keys create DIR --name NAME" in trained.stderr
        intruder = boxes.run(boxes.trainer, "network.keyless_program", logger.endpoint)
        assert (intruder.returncode, intruder.stdout) == (0, "no answer\n")
        wait_until(lambda: refused_by(logger) >= 1)
    assert list(logger.recordings.glob("*/*")) == []


def test_with_a_wrong_key_it_trains_on_says_why_and_nothing_is_lost(
    boxes: Boxes, ring: KeyRing, tmp_path: Path, outbox: Path
) -> None:
    ring.make_trainer(let_in=False)
    with logger_with(boxes, tmp_path, ring) as logger:
        trained = train(boxes, logger, outbox, ring.server_key, ring.client_key())
        assert (trained.returncode, trained.stdout) == (0, f"trained {STEPS} steps\n")
        assert "keys allow NAME PUBLIC_KEY" in trained.stderr
        assert "is shipped; the rest waits" in trained.stderr
        wait_until(lambda: refused_by(logger) >= 1)
        assert steps_in(logger) == []
        ring.let_in()
        assert "shipped" in drain(boxes, logger, outbox, ring, ring.client_key())
    assert sorted(steps_in(logger)) == list(range(STEPS))


def test_with_a_wrong_server_key_it_trains_on_and_says_why(
    boxes: Boxes, ring: KeyRing, tmp_path: Path, outbox: Path
) -> None:
    ring.make_trainer()
    other = KeyRing(tmp_path / "other")
    with logger_with(boxes, tmp_path, ring) as logger:
        trained = train(boxes, logger, outbox, other.server_public, ring.client_key())
        assert (trained.returncode, trained.stdout) == (0, f"trained {STEPS} steps\n")
        assert "--server_key is not its public key" in trained.stderr
        wait_until(lambda: refused_by(logger) >= 1)
    assert steps_in(logger) == []


def test_with_a_revoked_key_it_trains_on_and_says_why(
    boxes: Boxes, ring: KeyRing, tmp_path: Path, outbox: Path
) -> None:
    """Revoked in mid-run, by the command; what it sent before is kept, and the rest comes with its next key."""
    ring.make_trainer()
    with logger_with(boxes, tmp_path, ring) as logger:
        trainer = start_trainer(boxes, logger, outbox, ring.server_key, ring.client_key(), steps=1000)
        wait_until(lambda: steps_in(logger), seconds=60, what="records arrive")
        revoked = boxes.run(boxes.logger, "tensorboard_sidecar", "keys", "revoke", "gpu-box", "--keys", ring.logger)
        assert revoked.returncode == 0, revoked.stderr
        trained = trainer.wait(120)
        assert (trained.returncode, trained.stdout) == (0, "trained 1000 steps\n")
        assert "keys allow NAME PUBLIC_KEY" in trained.stderr
        wait_until(lambda: refused_by(logger) >= 1)
        before = steps_in(logger)
        assert 0 < len(before) < 1000
        ring.let_in()
        drain(boxes, logger, outbox, ring, ring.client_key())
    assert sorted(steps_in(logger)) == list(range(1000))


def test_with_a_dead_authenticator_nobody_is_let_in(boxes: Boxes, ring: KeyRing, tmp_path: Path, outbox: Path) -> None:
    """The handshake hangs: a trainer of 300 steps is through before its link gives up, so this trainer drains."""
    ring.make_trainer()
    with logger_with(boxes, tmp_path, ring, "network.dead_authenticator_program") as logger:
        hasty = "network.hasty_trainer_program"
        trained = train(boxes, logger, outbox, ring.server_key, ring.client_key(), drain_seconds=4, program=hasty)
        assert (trained.returncode, trained.stdout) == (0, f"trained {STEPS} steps\n")
        assert "its authenticator is dead" in trained.stderr
        wait_until(lambda: refused_by(logger) >= 1)
    assert steps_in(logger) == []


def test_beyond_this_machine_a_logger_without_keys_does_not_start(boxes: Boxes, tmp_path: Path) -> None:
    arguments = ("serve", "--bind", f"tcp://{boxes.logger_address}:5555", "--recordings", tmp_path / "recordings")
    refused = boxes.run(boxes.logger, "tensorboard_sidecar", *arguments, "--logdir", tmp_path / "runs")
    assert refused.returncode == 2
    command = re.search(r"tensorboard-sidecar (keys create )KEYS", refused.stderr)
    assert command is not None
    made = boxes.run(boxes.logger, "tensorboard_sidecar", *shlex.split(command[1]), tmp_path / "keys")
    assert made.returncode == 0, made.stderr
