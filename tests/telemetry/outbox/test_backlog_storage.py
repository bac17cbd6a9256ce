"""Where a telemetry keeps its records, and what becomes of wrong places."""

import errno
import logging
import os
from pathlib import Path

import pytest
from support.logger.fake_logger import FakeLogger
from support.machine.sick_disk import SickDisk
from support.machine.waiting import wait_until
from support.records.recordings import START_NS, make_stream
from support.running.programs import free_port

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Text
from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.telemetry.outbox import backlog as backlog_module
from tensorboard_sidecar.telemetry.outbox.backlog import Storage


def log_texts(telemetry: Telemetry, count: int, *, pace: bool = False) -> None:
    for step in range(count):
        telemetry.text(step, "tag", "x" * 10_000)
        while pace and telemetry.health()["telemetry/outbox_bytes"] > 600_000:
            telemetry._pipeline.sender.join(0.001)


def test_memory_and_disk_are_where_they_are_wanted(tmp_path: Path, outboxes: Path) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    telemetry = Telemetry(
        "run",
        endpoint=endpoint,
        outbox_bytes=2**20,
        outbox_dir=tmp_path / "new" / "memory",
        spill_dir=str(tmp_path / "disk"),
        strict=True,
    )
    log_texts(telemetry, 200, pace=True)
    wait_until(lambda: telemetry.health()["telemetry/spilled_bytes"] > 1_000_000)
    assert telemetry.health()["telemetry/refused"] == 0
    [folder] = find_outboxes(tmp_path / "new" / "memory")
    assert find_outboxes(outboxes) == []
    [spill] = [path for path in (tmp_path / "disk").glob("*/*") if path.is_dir()]
    assert spill.name == folder.name
    for private in (folder.parent, spill.parent):
        assert private.stat().st_mode & 0o777 == 0o700
    telemetry.close(0.0)
    assert find_outboxes(tmp_path / "new" / "memory") == [folder]


def test_what_was_spilled_is_shipped_when_a_logger_comes(outboxes: Path) -> None:
    logger = FakeLogger()
    with Telemetry("run", endpoint=logger.endpoint, outbox_bytes=2**20, strict=True, drain_seconds=60) as telemetry:
        log_texts(telemetry, 500, pace=True)
        assert telemetry.health()["telemetry/refused"] == 0
        assert telemetry.health()["telemetry/spilled_bytes"] > 4_000_000
        logger.start()
        [stream] = [telemetry._pipeline.outbox.stream.id]
        logger.wait_for(stream, 502)
        wait_until(lambda: telemetry.health()["telemetry/spilled_bytes"] == 0)
    logger.stop()
    texts = [message for message in logger.messages(stream) if isinstance(message, Text)]
    assert texts == [Text("tag", "x" * 10_000)] * 500
    assert list(outboxes.iterdir()) == []
    assert list(outbox_files.spill_root().iterdir()) == []


@pytest.mark.parametrize("off", [{"spill_dir": "none"}, {"spill_bytes": 0}])
def test_nothing_goes_to_disk_when_that_is_not_wanted(off: dict[str, object]) -> None:
    telemetry = Telemetry("run", endpoint="tcp://127.0.0.1:1", outbox_bytes=2**20, **off)  # type: ignore[arg-type]
    log_texts(telemetry, 200)
    health = telemetry.health()
    assert health["telemetry/refused"] > 50
    assert health["telemetry/spilled_bytes"] == 0
    telemetry.close(0.0)
    assert not (outbox_files._DISK / f"tensorboard-sidecar-spill-{os.getuid()}").exists()


def test_a_disk_that_is_full_refuses_by_class_and_one_that_recovers_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the training thread does not notice."""
    monkeypatch.setattr(backlog_module, "_PAUSE_MIN_SECONDS", 0.02)
    disk = SickDisk(monkeypatch, "write")
    telemetry = Telemetry("run", endpoint="tcp://127.0.0.1:1", outbox_bytes=2**20, strict=True)
    disk.error = errno.ENOSPC
    log_texts(telemetry, 300)
    for step in range(100):
        telemetry.scalars(step, {"a": 1.0})
    refused = telemetry.health()["telemetry/refused"]
    assert refused > 100
    wait_until(lambda: "No space left on device" in caplog.text)
    assert telemetry._pipeline.outbox.next_sequence == 402
    disk.error = 0
    wait_until(lambda: telemetry.health()["telemetry/spilled_bytes"] > 100_000)
    wait_until(lambda: telemetry.health()["telemetry/outbox_bytes"] < 2**19)
    log_texts(telemetry, 100, pace=True)
    assert telemetry.health()["telemetry/refused"] == refused
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    telemetry.close(0.0)


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"spill_bytes": -1}, ValueError, "expected 0"),
        ({"outbox_bytes": 1000}, ValueError, "expected 1,048,576 or more"),
        ({"spill_dir": "FILE"}, OSError, "FILE"),
        ({"outbox_dir": "FILE"}, OSError, "FILE"),
        ({"outbox_dir": "OPEN"}, PermissionError, "not a private folder"),
        ({"spill_dir": "OPEN"}, PermissionError, "not a private folder"),
        ({"outbox_dir": "LINK"}, PermissionError, "not a private folder"),
    ],
)
def test_places_that_cannot_be_are_said_at_the_start(
    tmp_path: Path, outboxes: Path, settings: dict[str, object], error: type[Exception], reason: str
) -> None:
    (tmp_path / "FILE").touch()
    for name in ("tensorboard-sidecar", "tensorboard-sidecar-spill"):
        (tmp_path / "OPEN" / f"{name}-{os.getuid()}").mkdir(parents=True, mode=0o755)
        (tmp_path / "LINK").mkdir(exist_ok=True)
        (tmp_path / "LINK" / f"{name}-{os.getuid()}").symlink_to(tmp_path)
    given = {name: tmp_path / place if isinstance(place, str) else place for name, place in settings.items()}
    with pytest.raises(error, match=reason):
        Telemetry("run", endpoint="tcp://127.0.0.1:1", **given)  # type: ignore[arg-type]
    assert list(outboxes.iterdir()) == []


def test_a_usual_place_that_cannot_be_is_said_and_done_without(
    tmp_path: Path, outboxes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody asked for it: a container may have no other disk."""
    (tmp_path / f"tensorboard-sidecar-spill-{os.getuid()}").touch()
    monkeypatch.setattr(outbox_files, "_DISK", tmp_path)
    backlog = Storage(2**20).make(make_stream(), wall_time_ns=START_NS)
    assert "cannot go on to disk" in caplog.text
    assert backlog.outbox.append(1, 0, START_NS, b"") == 1
    assert Storage(2**20).find_outboxes() == [backlog.outbox.folder]
    backlog.close(keep=False)
    assert list(outboxes.iterdir()) == []


def test_a_fork_does_not_keep_what_was_spilled(outboxes: Path) -> None:
    backlog = Storage(2**20).make(make_stream(), wall_time_ns=START_NS)
    while not backlog.step(0.0):
        backlog.outbox.append(1, 0, START_NS, bytes(10_000))
    assert backlog.spilled_bytes
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    backlog.close(keep=False)
    assert list(outboxes.iterdir()) == []


def test_folders_stay_where_they_are_when_the_program_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage(2**20, "memory", "disk", 2**20)
    assert (storage.outbox_dir, storage.spill_dir) == (tmp_path / "memory", tmp_path / "disk")
    sizes = {"outbox_bytes": 2**20, "spill_bytes": 0}
    assert vars(Storage(2**20, None, None, 0)) == {**sizes, "outbox_dir": None, "spill_dir": None}
    assert vars(Storage(2**20, "", "none", 0)) == {**sizes, "outbox_dir": None, "spill_dir": "none"}
