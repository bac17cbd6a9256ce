"""The outbox's second reader, which writes a recording; the disk's moods; the rest of a killed trainer's recording."""

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine.sick_disk import SickDisk
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import RecordingDelivery
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = Outbox(memory / "outbox", make_stream("team/run"), capacity_bytes=2**24, wall_time_ns=START_NS)
    yield made
    made.close(keep=False)


@pytest.fixture
def recorder(outbox: Outbox, tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(outbox, tmp_path, wall_time_ns=START_NS)
    yield made
    made.close()


def say(outbox: Outbox, count: int = 100) -> int:
    for number in range(count):
        outbox.append(Kind.SCALARS, number, START_NS, bytes(100))
    return outbox.next_sequence


def recorded(recorder: Recorder) -> list[int]:
    reader = RecordingReader(recorder.folder)
    sequences = [record.sequence for records in iter(reader.read, []) for record in records]
    assert not reader.damages
    assert not reader.holes
    reader.close()
    return sequences


def test_a_recording_lies_where_a_logger_would_put_it(recorder: Recorder, outbox: Outbox, tmp_path: Path) -> None:
    assert recorder.folder == tmp_path / "team" / "run" / outbox.stream.folder_name
    say(outbox)
    assert recorder.step(0.0, finish=True)
    assert recorded(recorder) == list(range(1, 101))


def test_records_are_durable_after_half_a_second(recorder: Recorder, outbox: Outbox) -> None:
    """One sync serves many turns: a disk takes some hundred of them a second."""
    begun = say(outbox)
    recorder.step(10.0, finish=False)
    end = say(outbox)
    recorder.step(10.1, finish=False)
    assert recorder.durable_sequence == begun
    recorder.step(10.6, finish=False)
    assert recorder.durable_sequence == end


def test_a_finish_does_not_wait_for_the_next_sync(recorder: Recorder, outbox: Outbox) -> None:
    recorder.step(10.0, finish=False)
    end = say(outbox)
    recorder.step(10.1, finish=True)
    assert recorder.durable_sequence == end


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_disk_that_fails_is_said_once_and_tried_every_second(
    recorder: Recorder, outbox: Outbox, call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say(outbox, 10)
    recorder.step(0.0, finish=True)
    disk = SickDisk(monkeypatch, call)
    disk.error = errno.ENOSPC
    end = say(outbox)
    for tenth in range(50):
        recorder.step(1.0 + tenth / 10, finish=True)
    assert recorder.durable_sequence == 11
    assert 4 <= disk.failures <= 6
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left on device; trying again every second" in caplog.text
    disk.error = 0
    assert recorder.step(7.0, finish=True)
    assert recorder.durable_sequence == end
    assert recorded(recorder) == list(range(1, end))


def test_a_disk_that_fails_again_later_is_said_again(
    recorder: Recorder, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SickDisk(monkeypatch, "fdatasync")
    for second, error in enumerate((errno.EIO, 0, errno.EIO, 0)):
        disk.error = error
        say(outbox, 5)
        recorder.step(2.0 * second, finish=True)
    assert len(caplog.records) == 2
    assert recorded(recorder) == list(range(1, 21))


def test_closing_on_a_sick_disk_raises_nothing(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The recorder is closed on the sender thread, where no caller sees an exception."""
    recorder = Recorder(outbox, tmp_path, wall_time_ns=START_NS)
    begun = say(outbox)
    recorder.step(10.0, finish=True)
    say(outbox)
    recorder.step(10.1, finish=False)
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    recorder.close()
    assert "cannot finish the recording" in caplog.text
    assert recorder.durable_sequence == begun


def test_a_folder_that_cannot_be_made_is_an_error_at_once(outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        Recorder(outbox, tmp_path / "file", wall_time_ns=START_NS)


@pytest.mark.parametrize("recorded_before", [0, 40, 100])
def test_the_rest_of_a_recording_is_written_once(memory: Path, tmp_path: Path, recorded_before: int) -> None:
    """Whatever part of the recording was on disk when its trainer was killed."""
    outbox = Outbox(memory / "a", make_stream(), capacity_bytes=2**24, wall_time_ns=START_NS)
    recorder = Recorder(outbox, tmp_path, wall_time_ns=START_NS)
    say(outbox, recorded_before)
    recorder.step(0.0, finish=True)
    recorder.close()
    end = say(outbox, 100 - recorded_before)
    outbox.close(keep=True)
    orphan = OrphanedOutbox(outbox.folder)
    delivery = RecordingDelivery(orphan, tmp_path, wall_time_ns=START_NS)
    assert delivery.records == 100 - recorded_before
    while not delivery.result:
        delivery.step(0.0)
    orphan.close(keep=True)
    assert delivery.folder == recorder.folder
    assert recorded(recorder) == list(range(1, end))


def test_the_rest_is_not_written_where_what_came_before_is_not(memory: Path, tmp_path: Path) -> None:
    """The recording was moved away: a new recording in its place would look complete."""
    outbox = Outbox(memory / "a", make_stream(), capacity_bytes=2**24, wall_time_ns=START_NS, segment_size_bytes=8192)
    recorder = Recorder(outbox, tmp_path / "recordings", wall_time_ns=START_NS)
    say(outbox)
    recorder.step(0.0, finish=True)
    recorder.close()
    outbox.release(recorder.durable_sequence)
    first = outbox.first_sequence
    assert first > 1
    outbox.close(keep=True)
    (tmp_path / "recordings").rename(tmp_path / "moved")
    orphan = OrphanedOutbox(outbox.folder)
    with pytest.raises(FileNotFoundError, match=f"which has the records before {first}, is not there"):
        RecordingDelivery(orphan, tmp_path / "recordings", wall_time_ns=START_NS)
    assert not (tmp_path / "recordings").exists()
    recorder.folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"has no records 1 to {first - 1}"):
        RecordingDelivery(orphan, tmp_path / "recordings", wall_time_ns=START_NS)
    assert list(recorder.folder.iterdir()) == []
    RecordingDelivery(orphan, tmp_path / "moved", wall_time_ns=START_NS).close()
    orphan.close(keep=False)
