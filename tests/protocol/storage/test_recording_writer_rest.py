"""A writer that rests: its file is closed, and goes on when there is more."""

import errno
from pathlib import Path

import pytest
from support.runs import STREAM, numbered_run
from support.sick_disk import SickDisk

from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.storage.segment import list_segments


def open_writer(folder: Path) -> RecordingWriter:
    return RecordingWriter(folder, STREAM, wall_time_ns=0)


def read_back(folder: Path) -> tuple[list[int], int]:
    """Return the numbers in a recording, and how many segments it has."""
    reader, sequences = RecordingReader(folder), list[int]()
    while records := reader.read():
        sequences += [record.sequence for record in records]
    reader.close()
    assert reader.holes == reader.damages == []
    return sequences, len(list_segments(folder))


def test_a_writer_that_rests_goes_on_in_the_same_segment(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.rest()
    for sequence in range(1, 20):
        writer.append(numbered_run(sequence))
        writer.rest()
        assert writer._file < 0
        assert writer.durable_sequence == sequence + 1
        writer.rest()
        writer.sync()
    writer.close()
    assert read_back(tmp_path) == (list(range(1, 20)), 1)


def test_a_segment_that_was_touched_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Somebody made it longer, or put another file in its place: what is written goes to a new one."""
    writer = open_writer(tmp_path)
    for sequence in range(1, 4):
        writer.append(numbered_run(sequence))
        writer.rest()
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
    writer.rest()
    list_segments(tmp_path)[0].path.unlink()
    writer.append(numbered_run(2))
    writer.close()
    assert [segment.first_sequence for segment in list_segments(tmp_path)] == [2]


def test_after_the_end_a_new_segment_begins(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.rest()
    writer.close()
    writer.append(numbered_run(2))
    writer.close()
    assert read_back(tmp_path) == ([1, 2], 2)


def test_where_no_file_can_be_opened_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path)
    writer.append(numbered_run(1))
    writer.rest()
    with monkeypatch.context() as patch:
        SickDisk(patch, "open").error = errno.EMFILE
        with pytest.raises(OSError, match="Too many"):
            writer.append(numbered_run(2))
    assert writer.next_sequence == writer.durable_sequence == 2
    writer.append(numbered_run(2))
    writer.close()
    assert read_back(tmp_path) == ([1, 2], 2)


def test_a_close_that_fails_costs_what_was_not_durable_and_no_more(
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
