"""Writing: the bytes on disk, faults of the disk and the machine, and suspended writers."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.machine.sick_disk import SickDisk
from support.running.runs import STREAM, make_record, make_run, numbered_run

from tensorboard_sidecar.protocol.errors import Malformed, UnsupportedVersion
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.record import Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.storage.segment import (
    SEGMENT_HEAD_MAX_BYTES,
    list_segments,
    pack_segment_head,
    segment_path,
)
from tensorboard_sidecar.protocol.stream import Stream

HEAD = 2 * pack_segment_head(STREAM, 1, 0)
FRAME_SIZE_BYTES = len(numbered_run(1).frames)


def open_writer(
    folder: Path, *, first_held_sequence: int = 2**62, segment_size_max_bytes: int = 2**20
) -> RecordingWriter:
    return RecordingWriter(
        folder,
        STREAM,
        wall_time_ns=0,
        first_held_sequence=first_held_sequence,
        segment_size_max_bytes=segment_size_max_bytes,
    )


def read_sequences(folder: Path) -> list[int]:
    reader = RecordingReader(folder)
    sequences: list[int] = []
    while records := reader.read():
        sequences += [record.sequence for record in records]
    reader.close()
    assert reader.holes == []
    assert reader.damages == []
    return sequences


def read_back(folder: Path) -> tuple[list[int], int]:
    """Return the sequence numbers in a recording and the number of its segments."""
    reader, sequences = RecordingReader(folder), list[int]()
    while records := reader.read():
        sequences += [record.sequence for record in records]
    reader.close()
    assert reader.holes == reader.damages == []
    return sequences, len(list_segments(folder))


def sizes(folder: Path) -> dict[int, int]:
    """Return the size of each segment by its first sequence number."""
    return {segment.first_sequence: segment.path.stat().st_size for segment in list_segments(folder)}


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: a write stops there, and the next write fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def failing_sync(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail every fdatasync, as a disk that lost its connection does."""

    def fdatasync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        yield


def test_frames_lie_behind_a_head_as_they_came(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / STREAM.folder_name
    writer = open_writer(folder)
    assert list(folder.iterdir()) == []
    writer.append(numbered_run(1, 3))
    writer.append(make_run(make_record(4, span=6), make_record(10)))
    writer.close()
    expected = HEAD + bytes(numbered_run(1, 3).frames) + bytes(make_run(make_record(4, span=6), make_record(10)).frames)
    assert segment_path(folder, 1).read_bytes() == expected
    assert [path.name for path in folder.iterdir()] == ["00000000000000000001.segment"]


def test_behind_the_first_batch_of_a_segment_only_sync_makes_durable(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    assert (writer.next_sequence, writer.durable_sequence) == (1, 1)
    writer.append(numbered_run(1, 3))
    assert (writer.next_sequence, writer.durable_sequence) == (4, 4)
    writer.append(numbered_run(4, 2))
    assert (writer.next_sequence, writer.durable_sequence) == (6, 4)
    writer.sync()
    assert (writer.next_sequence, writer.durable_sequence) == (6, 6)
    assert repr(writer) == f"<RecordingWriter {tmp_path.name} next 6 durable 6>"
    writer.close()
    writer.close()


def test_a_short_recording_costs_one_sync_of_its_file_and_one_of_each_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync of the file comes first: it carries the new folders, where a file system has one log for all changes."""
    synced = list[str]()
    real_fdatasync, real_fsync = os.fdatasync, os.fsync
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(name_of(file)) or real_fdatasync(file))
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(name_of(file)) or real_fsync(file))
    writer = RecordingWriter(tmp_path / "root" / "run" / "stream", STREAM, wall_time_ns=0, root=tmp_path / "root")
    writer.append(numbered_run(1, 3))
    writer.sync()
    writer.close()
    assert synced[0] == "00000000000000000001.new"
    assert sorted(synced[1:-1]) == sorted(["run", "root", tmp_path.name])
    assert synced[-1] == "stream"


def name_of(file: int) -> str:
    return Path(f"/proc/self/fd/{file}").readlink().name


def test_a_folder_that_cannot_be_synced_leaves_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reader would show records of a segment whose folders a power loss takes away."""
    writer = open_writer(tmp_path / "run" / "stream")
    disk = SickDisk(monkeypatch, "fsync")
    disk.error = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        writer.append(numbered_run(1, 3))
    assert (writer.next_sequence, writer.durable_sequence) == (1, 1)
    assert list_segments(tmp_path / "run" / "stream") == []
    disk.error = 0
    writer.append(numbered_run(1, 3))
    writer.close()
    assert read_back(tmp_path / "run" / "stream") == ([1, 2, 3], 1)


def test_a_batch_from_elsewhere_is_malformed(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    for first in (2, 7):
        with pytest.raises(Malformed, match=f"a batch from {first} where 1 is due"):
            writer.append(numbered_run(first))
    assert list(tmp_path.iterdir()) == []


def test_a_segment_takes_batches_until_the_next_would_pass_its_size(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_size_max_bytes=len(HEAD) + 2 * FRAME_SIZE_BYTES)
    for first in range(1, 6):
        writer.append(numbered_run(first))
    assert writer.durable_sequence == 6  # of the new segment too
    writer.append(numbered_run(6, 10))  # larger than any segment: one of its own
    writer.append(numbered_run(16))
    writer.close()
    assert list(sizes(tmp_path)) == [1, 3, 5, 6, 16]
    assert read_sequences(tmp_path) == list(range(1, 17))


def test_a_recording_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    """A file that another writer made is never appended to."""
    for first in (1, 4, 7):
        writer = open_writer(tmp_path)
        assert writer.next_sequence == writer.durable_sequence == first
        writer.append(numbered_run(first, 3))
        writer.close()
    open_writer(tmp_path).close()
    assert list(sizes(tmp_path)) == [1, 4, 7]
    assert read_sequences(tmp_path) == list(range(1, 10))


@pytest.mark.parametrize("torn_size_bytes", [1, 11, 12, 13, FRAME_SIZE_BYTES - 1])
def test_a_torn_record_is_written_anew(tmp_path: Path, torn_size_bytes: int) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1, 3))
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(numbered_run(4).frames[:torn_size_bytes])
    writer = open_writer(tmp_path)
    assert writer.next_sequence == 4
    writer.append(numbered_run(4, 2))
    writer.close()
    assert read_sequences(tmp_path) == [1, 2, 3, 4, 5]


def test_a_preallocated_tail_is_no_record(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(HEAD + bytes(numbered_run(1, 3).frames) + bytes(5000))
    writer = open_writer(tmp_path)
    writer.append(numbered_run(4))
    writer.close()
    assert read_sequences(tmp_path) == [1, 2, 3, 4]


def test_a_hole_that_can_be_filled_is_filled(tmp_path: Path) -> None:
    """A power loss may tear a page out of records that were not synced; their sender sends them again."""
    lines = [HEAD, *(bytes(numbered_run(n).frames) for n in range(1, 7))]
    lines[4] = bytes(len(lines[4]))
    segment_path(tmp_path, 1).write_bytes(b"".join(lines))
    writer = open_writer(tmp_path, first_held_sequence=3)
    assert writer.next_sequence == 4
    assert sizes(tmp_path) == {1: sum(map(len, lines[:4]))}
    writer.append(numbered_run(4, 5))
    writer.close()
    assert read_sequences(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_hole_that_cannot_be_filled_stays(tmp_path: Path) -> None:
    """A record lost to a bad disk must not cost the records behind it, which no sender holds any more."""
    lines = [HEAD, *(bytes(numbered_run(n).frames) for n in range(1, 7))]
    lines[4] = bytes(len(lines[4]))
    segment_path(tmp_path, 1).write_bytes(b"".join(lines))
    writer = open_writer(tmp_path, first_held_sequence=7)
    assert writer.next_sequence == 7
    writer.append(numbered_run(7))
    writer.close()
    reader = RecordingReader(tmp_path)
    assert [r.sequence for r in reader.read() + reader.read()] == [1, 2, 3, 5, 6, 7]
    assert reader.holes == [(4, 4)]
    reader.close()


def test_a_damaged_head_does_not_stop_the_writer(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_size_max_bytes=1)
    writer.append(numbered_run(1))
    writer.append(numbered_run(2))
    writer.close()
    for segment in list_segments(tmp_path)[1:]:
        segment.path.write_bytes(b"?" + segment.path.read_bytes()[1:])
    assert open_writer(tmp_path).next_sequence == 3


@pytest.mark.parametrize("free_bytes", [0, 50, len(HEAD), len(HEAD) + 10, len(HEAD) + FRAME_SIZE_BYTES])
def test_a_full_disk_loses_only_records_that_were_not_durable(tmp_path: Path, free_bytes: int) -> None:
    """The writer goes back to its durable records, and continues there when there is room again."""
    writer = open_writer(tmp_path, segment_size_max_bytes=len(HEAD) + 3 * FRAME_SIZE_BYTES)
    writer.append(numbered_run(1, 2))
    writer.sync()
    with full_disk(free_bytes):
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                writer.append(numbered_run(3, 2))
            assert (writer.next_sequence, writer.durable_sequence) == (3, 3)
            assert all(size >= len(HEAD) for size in sizes(tmp_path).values())
    writer.append(numbered_run(3, 2))
    writer.close()
    assert read_sequences(tmp_path) == [1, 2, 3, 4]


def test_records_before_a_failed_append_go_back_too_unless_durable(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.sync()
    writer.append(numbered_run(2))
    with full_disk(len(HEAD) + 2 * FRAME_SIZE_BYTES + 5), pytest.raises(OSError, match="File too large"):
        writer.append(numbered_run(3))
    assert writer.next_sequence == 2
    assert sizes(tmp_path) == {1: len(HEAD) + FRAME_SIZE_BYTES}
    writer.append(numbered_run(2, 2))
    writer.close()
    assert read_sequences(tmp_path) == [1, 2, 3]


def test_after_a_failed_sync_the_file_is_not_trusted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fsync may succeed for pages that the first fsync lost: the records go to a new segment."""
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.sync()
    writer.append(numbered_run(2))
    with failing_sync(monkeypatch), pytest.raises(OSError, match="Input/output"):
        writer.sync()
    assert (writer.next_sequence, writer.durable_sequence) == (2, 2)
    assert open_writer(tmp_path).next_sequence == 2
    writer.append(numbered_run(2))
    writer.close()
    assert sizes(tmp_path) == dict.fromkeys((1, 2), len(HEAD) + FRAME_SIZE_BYTES)


def test_a_segment_that_cannot_be_begun_leaves_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path)
    with failing_sync(monkeypatch), pytest.raises(OSError, match="Input/output"):
        writer.append(numbered_run(1))
    assert list_segments(tmp_path) == []
    writer.append(numbered_run(1))
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["00000000000000000001.segment"]


def test_another_stream_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.close()
    other = Stream("team/demo", 1, 2, bytes(16))
    with pytest.raises(Malformed, match=f"holds stream {STREAM.id.hex()}, not {other.id.hex()}"):
        RecordingWriter(tmp_path, other, wall_time_ns=0)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(bytes(SEGMENT_HEAD_MAX_BYTES))
    with pytest.raises(Malformed, match="begins with no segment head"):
        open_writer(tmp_path)


def test_a_newer_programs_recording_is_refused(tmp_path: Path) -> None:
    """The records of a newer version cannot be counted, and nothing can be appended behind them."""
    newer = b"\x02" + pack_record(Record(2, 1, 0, 0, b""))[1:]
    segment_path(tmp_path, 1).write_bytes(HEAD + pack_frame(newer))
    with pytest.raises(UnsupportedVersion, match="version 2 came"):
        open_writer(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A user who can make names in the folder must not choose the file that is written."""
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    (tmp_path / "recording").mkdir()
    segment_path(tmp_path / "recording", 1).symlink_to(target)
    segment_path(tmp_path / "recording", 1).with_suffix(".new").symlink_to(target)
    writer = open_writer(tmp_path / "recording")
    writer.append(numbered_run(1))
    writer.close()
    assert target.read_bytes() == b"precious"
    assert read_sequences(tmp_path / "recording") == [1]


def test_a_suspended_writer_goes_on_in_the_same_segment(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.suspend()
    for sequence in range(1, 20):
        writer.append(numbered_run(sequence))
        writer.suspend()
        assert not writer._segment.is_open
        assert writer.durable_sequence == sequence + 1
        writer.suspend()
        writer.sync()
    writer.close()
    assert read_back(tmp_path) == (list(range(1, 20)), 1)


def test_a_segment_that_was_touched_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """A file that was made longer or replaced is not appended to: the batch goes to a new segment."""
    writer = open_writer(tmp_path)
    for sequence in range(1, 4):
        writer.append(numbered_run(sequence))
        writer.suspend()
        path = list_segments(tmp_path)[-1].path
        if sequence == 1:
            with path.open("ab") as file:
                file.write(b"x")
        else:
            copy = path.with_suffix(".copy")
            copy.write_bytes(path.read_bytes())
            copy.replace(path)
    writer.close()
    assert [segment.first_sequence for segment in list_segments(tmp_path)] == [1, 2, 3]
    assert read_back(tmp_path) == ([1, 2, 3], 3)


def test_a_segment_that_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.suspend()
    list_segments(tmp_path)[0].path.unlink()
    writer.append(numbered_run(2))
    writer.close()
    assert [segment.first_sequence for segment in list_segments(tmp_path)] == [2]


def test_after_the_end_a_new_segment_begins(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.suspend()
    writer.close()
    writer.append(numbered_run(2))
    writer.close()
    assert read_back(tmp_path) == ([1, 2], 2)


def test_where_no_file_can_be_opened_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.suspend()
    with monkeypatch.context() as patch:
        SickDisk(patch, "open").error = errno.EMFILE
        with pytest.raises(OSError, match="Too many"):
            writer.append(numbered_run(2))
    assert writer.next_sequence == writer.durable_sequence == 2
    writer.append(numbered_run(2))
    writer.close()
    assert read_back(tmp_path) == ([1, 2], 2)


def test_a_close_that_fails_costs_only_records_that_were_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems of networks tell of a write that failed when the file is closed."""
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.sync()
    writer.append(numbered_run(2))
    with monkeypatch.context() as patch:
        SickDisk(patch, "fdatasync", "close").error = errno.EIO
        with pytest.raises(OSError, match="Input/output"):
            writer.sync()
    assert writer.next_sequence == writer.durable_sequence == 2
    writer.append(numbered_run(2))
    writer.close()
    assert read_back(tmp_path) == ([1, 2], 2)
