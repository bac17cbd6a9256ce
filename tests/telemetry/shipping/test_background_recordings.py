"""The next trainer finishes the recordings of killed trainers in the background."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.logger.fake_logger import FakeLogger
from support.machine.children import fork
from support.machine.sick_disk import SickDisk
from support.machine.waiting import wait_until
from support.records.recordings import START_NS, STREAM_ID, make_stream
from support.running.spoken import read_recording

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.outbox import orphan_delivery
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import LOOK_INTERVAL_SECONDS
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, read_destination, write_destination
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping.background import BackgroundRecovery
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder


def abandon(folder: Path, destination: Destination, *, stream_id: bytes = STREAM_ID) -> int:
    """Leave an orphaned outbox with half of its recording; return the sequence number after its last record."""
    outbox = Outbox(folder, make_stream(stream_id=stream_id), capacity_bytes=2**24, wall_time_ns=START_NS)
    recorder = Recorder(outbox, destination.record, wall_time_ns=START_NS) if destination.record is not None else None
    for step in range(1000):
        outbox.append(Kind.SCALARS, step, START_NS, b"x" * 100)
        if step == 500 and recorder is not None:
            recorder.step(0.0, finish=True)
            recorder.close()
    write_destination(folder, destination)
    outbox.close(keep=True)
    return outbox.next_sequence


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


@pytest.fixture
def recovery(outboxes: Path, record: Path) -> Iterator[BackgroundRecovery]:
    made = BackgroundRecovery(lambda: find_outboxes(outboxes), record=record, wall_time_ns=START_NS)
    yield made
    made.close()


def turn(recovery: BackgroundRecovery, now: float = 0.0) -> None:
    while recovery.step(now):
        continue


def test_all_are_finished_and_their_outboxes_gone(recovery: BackgroundRecovery, outboxes: Path, record: Path) -> None:
    ids = [bytes([number]) * 16 for number in range(3)]
    end = [
        abandon(outboxes / str(number), Destination(NO_LOGGER, record), stream_id=ids[number]) for number in range(3)
    ]
    turn(recovery)
    assert find_outboxes(outboxes) == []
    recordings = {path.parent for path in record.rglob("*.segment")}
    assert len(recordings) == 3
    assert [read_recording(folder)[-1].next_sequence for folder in recordings] == end


def test_what_is_recorded_elsewhere_or_not_at_all_is_not_touched(
    recovery: BackgroundRecovery, outboxes: Path, record: Path, tmp_path: Path
) -> None:
    abandon(outboxes / "a", Destination(NO_LOGGER, tmp_path / "elsewhere"))
    abandon(outboxes / "b", Destination("tcp://127.0.0.1:5555"))
    abandon(outboxes / "c", Destination())
    turn(recovery)
    assert len(find_outboxes(outboxes)) == 3
    assert not record.exists()


def test_what_is_for_a_logger_too_stays_for_that(recovery: BackgroundRecovery, outboxes: Path, record: Path) -> None:
    end = abandon(outboxes / "a", Destination("tcp://127.0.0.1:5555", record, "key"))
    turn(recovery)
    assert read_recording(record)[-1].next_sequence == end
    assert read_destination(outboxes / "a") == Destination("tcp://127.0.0.1:5555", None, "key")
    orphan = OrphanedOutbox(outboxes / "a")
    assert orphan.next_sequence == end
    orphan.close(keep=False)


def test_a_disk_that_is_full_is_said_once_and_loses_nothing(
    recovery: BackgroundRecovery,
    outboxes: Path,
    record: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = abandon(outboxes / "a", Destination(NO_LOGGER, record))
    with monkeypatch.context() as patch:
        SickDisk(patch, "write").error = errno.ENOSPC
        for look in range(5):
            turn(recovery, look * LOOK_INTERVAL_SECONDS)
    assert caplog.text.count("No space left on device") == 1
    again = BackgroundRecovery(lambda: find_outboxes(outboxes), record=record, wall_time_ns=START_NS)
    turn(again)
    assert read_recording(record)[-1].next_sequence == end
    assert find_outboxes(outboxes) == []


def test_a_turn_is_small_and_what_is_let_go_is_finished_by_the_next(
    recovery: BackgroundRecovery, outboxes: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_delivery, "_TURN_SIZE_MAX_BYTES", 1000)
    end = abandon(outboxes / "a", Destination(NO_LOGGER, record))
    for _ in range(5):
        recovery.step(0.0)
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(outboxes / "a")
    assert fork(lambda: None) == 0
    recovery.close()
    assert read_recording(record)[-1].next_sequence < end
    turn(BackgroundRecovery(lambda: find_outboxes(outboxes), record=record, wall_time_ns=START_NS))
    assert read_recording(record)[-1].next_sequence == end


@pytest.mark.parametrize("listening", [False, True])
def test_the_next_trainer_that_records_there_finishes_it(outboxes: Path, record: Path, *, listening: bool) -> None:
    """With and without a logger that listens. An outbox for that logger is shipped as well."""
    with FakeLogger() as logger:
        endpoint = logger.endpoint if listening else "tcp://127.0.0.1:1"
        end = abandon(outboxes / "a", Destination(NO_LOGGER, record))
        abandon(outboxes / "b", Destination(endpoint, record, "key"), stream_id=bytes(16))
        telemetry = Telemetry("next", endpoint=endpoint, record=record / ".." / record.name, strict=True)
        wait_until(lambda: not (outboxes / "a").exists())
        wait_until(lambda: read_destination(outboxes / "b").record is None)
        if listening:
            logger.wait_for(bytes(16), end)
        telemetry.close(0.0)
        assert STREAM_ID not in logger.records
    for folder in record.glob("demo/*"):
        assert read_recording(folder)[-1].next_sequence == end


def test_what_is_only_recorded_is_shipped_by_nobody(outboxes: Path, record: Path) -> None:
    """The owner named no logger, so the next trainer's logger does not count."""
    abandon(outboxes / "a", Destination(NO_LOGGER, record))
    with FakeLogger() as logger:
        abandon(outboxes / "b", Destination(), stream_id=bytes(16))
        with Telemetry("next", endpoint=logger.endpoint, strict=True):
            wait_until(lambda: not (outboxes / "b").exists())
        assert STREAM_ID not in logger.records
    assert (outboxes / "a").exists()


def test_what_was_shipped_stays_for_its_recording(outboxes: Path, record: Path) -> None:
    with FakeLogger() as logger:
        end = abandon(outboxes / "a", Destination(logger.endpoint, record))
        with Telemetry("next", endpoint=logger.endpoint, strict=True):
            logger.wait_for(STREAM_ID, end)
            wait_until(lambda: read_destination(outboxes / "a") == Destination(NO_LOGGER, record))
