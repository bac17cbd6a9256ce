"""Real processes that spill, and are killed at any moment of it."""

import os
import re
import signal
from pathlib import Path
from typing import Final

import pytest
from support.logger.fake_logger import unpack_records
from support.machine.children import start, wait_for
from support.machine.waiting import wait_until
from support.running.forked import ForkedProgram
from support.running.programs import free_port, running_logger
from support.running.spoken import read_recording

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Text
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.backlog import Storage

RECORDS: Final = 2000
# 20 MB through 1 MiB of memory, as fast as the disk takes it.
TRAINER: Final = """
import sys
from time import sleep
from tensorboard_sidecar import Telemetry
folder, endpoint = sys.argv[1:]
telemetry = Telemetry("run", endpoint=endpoint, outbox_dir=folder, outbox_bytes=2**20, strict=True)
for step in range(2000):
    telemetry.text(step, "tag", f"{step:<10000}")
    while telemetry.health()["telemetry/outbox_bytes"] > 600_000:
        sleep(0.001)
health = telemetry.health()
print(int(health["telemetry/refused"]), int(health["telemetry/spilled_bytes"]), flush=True)
sleep(1000)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Return the place of the outbox of a trainer that found no logger, spilled, and was killed."""
    with ForkedProgram(TRAINER, tmp_path / "volume", f"tcp://127.0.0.1:{free_port()}") as trainer:
        refused, spilled = map(int, trainer.stdout.readline().split())
        trainer.kill()
    assert refused == 0
    assert spilled > 18_000_000
    return tmp_path / "volume"


@pytest.mark.system
def test_what_a_killed_trainer_had_spilled_reaches_a_logger_whole(
    killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(killed)]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert re.search(r"is gone, run run for tcp://127\.0\.0\.1:\d+, records 1 to 2,001", line)
    with running_logger(tmp_path) as logger:
        assert main(["drain", str(killed), "--endpoint", logger.endpoint]) == 0
        wait_until(lambda: len(list(logger.recordings.rglob("*.segment"))))
        records = read_recording(logger.recordings)
    assert "run run, 2,001 records shipped" in capsys.readouterr().out
    assert [record.sequence for record in records] == list(range(1, RECORDS + 2))
    assert [decode_message(record) for record in records[1:]] == [
        Text("tag", f"{step:<10000}") for step in range(RECORDS)
    ]
    assert find_outboxes(killed) == []
    assert list(killed.rglob("*.segment")) == []


def log_for_ever(volume: Path, said: int) -> None:
    """Be a trainer, and its sender, that tells each number when its call has returned, and spills all the while."""
    backlog = Storage(2**20, volume).make(Stream("killed"), wall_time_ns=1)
    for step in range(10**9):
        sequence = backlog.outbox.append(Kind.SCALARS, step, step, b"%d" % step * 500)
        os.write(said, b"%d\n" % sequence)
        while backlog.step(0.0):
            backlog.outbox.prepare(step)


@pytest.mark.parametrize("kill", range(8))
def test_what_had_returned_before_a_kill_is_recovered_once_and_in_order(tmp_path: Path, kill: int) -> None:
    """Wherever it hits: in the copy, between disk and memory, or while the outbox is made larger."""
    heard, said = os.pipe()
    trainer = start(lambda: log_for_ever(tmp_path / "volume", said))
    os.close(said)
    returned = b""
    while returned.count(b"\n") < 400 + 217 * kill:
        more = os.read(heard, 97)
        assert more, "the trainer ended by itself"
        returned += more
    os.kill(trainer, signal.SIGKILL)
    while rest := os.read(heard, 4096):
        returned += rest
    os.close(heard)
    assert wait_for(trainer) == -signal.SIGKILL
    last = int(returned.splitlines()[-1])
    [folder] = find_outboxes(tmp_path / "volume")
    orphan = OrphanedOutbox(folder)
    records, at = [], 1
    while (run := orphan.read(at, 2**18)) is not None:
        records += unpack_records(run.frames)
        at = run.next_sequence
    orphan.close(keep=False)
    assert at - 1 in (last, last + 1), "one more may have been kept than could be said"
    assert [record.body for record in records] == [b"%d" % step * 500 for step in range(at - 1)]
    assert find_outboxes(tmp_path / "volume") == []
