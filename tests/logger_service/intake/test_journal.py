import errno
import os
from pathlib import Path

import pytest
from support.logger.peer import make_run
from support.machine.sick_disk import SickDisk

from tensorboard_sidecar.logger_service.intake.journal import OWNER_NAME, Journal, NotItsOwner, check_owner, note_owner
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.record import FrameBatch, parse_sequence
from tensorboard_sidecar.protocol.storage.key_files import BadKey
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import list_segments
from tensorboard_sidecar.protocol.stream import Stream

INTERVAL_SECONDS = 0.05
SIZE_BYTES = 10_000


def make_journal(folder: Path, *, open_files_max: int = 8) -> Journal:
    return Journal(
        folder,
        lambda: 10**18,
        commit_interval_seconds=INTERVAL_SECONDS,
        commit_size_bytes=SIZE_BYTES,
        open_files_max=open_files_max,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return make_journal(tmp_path)


def batch(first_sequence: int, next_sequence: int) -> FrameBatch:
    return FrameBatch(memoryview(make_run(first_sequence, next_sequence)), first_sequence, next_sequence)


def folder_of(root: Path, stream: Stream) -> Path:
    return root / stream.run / stream.folder_name


def sequences(root: Path, stream: Stream) -> list[int]:
    """Return every sequence number of a recording, in the order of reading."""
    reader = RecordingReader(folder_of(root, stream))
    found = []
    while payloads := reader.read_payloads():
        found += [parse_sequence(payload)[1] for payload in payloads]
    reader.close()
    assert not reader.damages
    return found


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_stream_that_sent_nothing_leaves_nothing_on_disk(journal: Journal, tmp_path: Path) -> None:
    stream = Stream("demo")
    journal.open(stream, 1)
    assert journal.next_sequence(stream) == journal.durable_sequence(stream) == 1
    assert list(tmp_path.iterdir()) == []


def test_appended_is_not_durable_before_the_commit(journal: Journal, tmp_path: Path) -> None:
    stream = Stream("team/demo")
    journal.open(stream, 1)
    journal.append(stream, batch(1, 2), 0.0)  # the first batch of a segment is made durable with its head
    journal.append(stream, batch(2, 4), 0.0)
    assert (journal.next_sequence(stream), journal.durable_sequence(stream)) == (4, 2)
    assert journal.commit() == [(stream, None)]
    assert journal.durable_sequence(stream) == 4
    assert sequences(tmp_path, stream) == [1, 2, 3]


def test_a_commit_is_due_an_interval_after_the_first_append(journal: Journal) -> None:
    stream = Stream("demo")
    assert journal.commit_at == float("inf")
    journal.append(stream, batch(1, 2), 7.0)
    journal.append(stream, batch(2, 3), 7.04)
    assert journal.commit_at == 7.0 + INTERVAL_SECONDS
    journal.commit()
    assert journal.commit_at == float("inf")


def test_a_commit_is_due_at_once_when_there_are_enough_bytes(journal: Journal) -> None:
    stream, sequence = Stream("demo"), 1
    while journal.commit_at > 7.0:
        journal.append(stream, batch(sequence, sequence + 10), 7.0)
        sequence += 10
    assert len(make_run(1, sequence)) >= SIZE_BYTES > len(make_run(1, sequence - 10)) - 500


def test_one_commit_serves_all_streams(journal: Journal, tmp_path: Path) -> None:
    streams = [Stream("demo", rank) for rank in range(3)]
    for stream in streams:
        journal.append(stream, batch(1, 3), 0.0)
    assert [stream for stream, _ in journal.commit()] == streams
    assert all(sequences(tmp_path, stream) == [1, 2] for stream in streams)
    assert journal.commit() == []


def test_another_journal_goes_on_where_the_first_ended(journal: Journal, tmp_path: Path) -> None:
    stream = Stream("demo")
    journal.append(stream, batch(1, 4), 0.0)
    journal.commit()
    again = make_journal(tmp_path)
    again.open(stream, 1)
    assert again.next_sequence(stream) == again.durable_sequence(stream) == 4
    again.append(stream, batch(4, 6), 0.0)
    again.commit()
    assert sequences(tmp_path, stream) == [1, 2, 3, 4, 5]


def test_open_files_stay_few_and_closed_streams_go_on(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, open_files_max=3)
    streams = [Stream("demo", rank) for rank in range(10)]
    before = open_files()
    for sequence in range(1, 4):
        for stream in streams:
            journal.append(stream, batch(sequence, sequence + 1), 0.0)
            if journal.commit_at <= 0.0:
                journal.commit()
            assert open_files() - before <= 4
    journal.commit()
    assert open_files() - before == 3
    for stream in streams:
        assert sequences(tmp_path, stream) == [1, 2, 3]
        assert len(list_segments(folder_of(tmp_path, stream))) == 1, "it goes on in its file"


def test_more_streams_than_open_files_are_committed_together_all_the_same(tmp_path: Path) -> None:
    """Committed files are closed for new files; a commit is due at once when all open files have changed."""
    journal = make_journal(tmp_path, open_files_max=4)
    streams = [Stream("demo", rank) for rank in range(8)]
    commits = 0
    for sequence in range(1, 11):
        for stream in streams:
            journal.append(stream, batch(sequence, sequence + 1), 0.0)
            if journal.commit_at <= 0.0:
                journal.commit()
                commits += 1
    assert commits <= 10 * 8 / 4


def test_a_forgotten_stream_is_found_again(journal: Journal, tmp_path: Path) -> None:
    stream = Stream("demo")
    before = open_files()
    journal.append(stream, batch(1, 4), 0.0)
    journal.commit()
    journal.forget(stream)
    assert open_files() == before
    journal.open(stream, 1)
    assert journal.durable_sequence(stream) == 4
    journal.append(stream, batch(4, 5), 0.0)
    journal.commit()
    assert sequences(tmp_path, stream) == [1, 2, 3, 4]


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_after_a_failure_the_stream_goes_back_to_its_durable_records(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The records appended since come again, and go to a new segment."""
    stream = Stream("demo")
    journal.append(stream, batch(1, 4), 0.0)
    journal.commit()
    journal.append(stream, batch(4, 6), 0.0)
    disk = SickDisk(monkeypatch, call)
    disk.error = errno.EIO
    if call == "write":
        with pytest.raises(OSError, match="Input/output"):
            journal.append(stream, batch(6, 8), 0.0)
        assert journal.commit() == []
    else:
        ((_, error),) = journal.commit()
        assert error is not None
        assert error.errno == errno.EIO
    assert journal.next_sequence(stream) == journal.durable_sequence(stream) == 4
    assert "0 to commit, 0 open" in repr(journal)
    disk.error = 0
    journal.append(stream, batch(4, 8), 0.0)
    assert [error for _, error in journal.commit()] == [None]
    assert sequences(tmp_path, stream) == list(range(1, 8))
    assert [segment.first_sequence for segment in list_segments(folder_of(tmp_path, stream))] == [1, 4]


def test_the_failure_of_a_stream_harms_no_other_stream(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well, sick = Stream("well"), Stream("sick")
    journal.append(well, batch(1, 3), 0.0)
    disk = SickDisk(monkeypatch, "write")
    disk.error = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        journal.append(sick, batch(1, 3), 0.0)
    assert journal.commit() == [(well, None)]
    assert sequences(tmp_path, well) == [1, 2]


def test_a_link_that_leads_out_of_the_journal_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "demo").symlink_to(outside)
    with pytest.raises(Malformed, match="symbolic link"):
        journal.open(Stream("demo/first"), 1)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises((Malformed, OSError)):
        journal.append(Stream("loop"), batch(1, 2), 0.0)
    assert list(outside.iterdir()) == []


def test_a_recording_of_another_stream_is_not_continued(journal: Journal, tmp_path: Path) -> None:
    mine, other = Stream("demo"), Stream("demo")
    journal.append(other, batch(1, 2), 0.0)
    journal.commit()
    folder_of(tmp_path, other).rename(folder_of(tmp_path, mine))
    with pytest.raises(Malformed, match="holds stream"):
        journal.open(mine, 1)


def test_the_first_key_owns_a_stream_without_an_owner(tmp_path: Path) -> None:
    check_owner(tmp_path, "box", "")
    note_owner(tmp_path, "box")
    assert (tmp_path / OWNER_NAME).read_text() == "box"
    check_owner(tmp_path, "box", "")
    with pytest.raises(NotItsOwner, match="belongs to key box, not to other; only box"):
        check_owner(tmp_path, "other", "")


def test_a_stream_that_is_open_and_has_no_folder_has_its_owner_too(tmp_path: Path) -> None:
    with pytest.raises(NotItsOwner):
        check_owner(tmp_path / "none", "other", "box")
    check_owner(tmp_path / "none", "box", "box")
    assert not (tmp_path / "none").exists()


def test_without_keys_nothing_is_written_and_everybody_may(tmp_path: Path) -> None:
    note_owner(tmp_path, "")
    check_owner(tmp_path, "", "box")
    assert list(tmp_path.iterdir()) == []


def test_an_owner_is_not_written_over_and_no_link_is_followed(tmp_path: Path) -> None:
    note_owner(tmp_path, "box")
    note_owner(tmp_path, "other")
    assert (tmp_path / OWNER_NAME).read_text() == "box"
    (tmp_path / OWNER_NAME).unlink()
    (tmp_path / OWNER_NAME).symlink_to(tmp_path / "elsewhere")
    for look in (lambda: note_owner(tmp_path, "other"), lambda: check_owner(tmp_path, "other", "")):
        with pytest.raises(NotItsOwner, match="cannot be read"):
            look()
    assert not (tmp_path / "elsewhere").exists()


def test_an_empty_note_is_written_over(tmp_path: Path) -> None:
    """A power loss may leave an empty file of an owner that was not durable."""
    (tmp_path / OWNER_NAME).touch()
    note_owner(tmp_path, "box")
    assert (tmp_path / OWNER_NAME).read_text() == "box"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_an_owner_that_is_no_file_refuses_every_key(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / OWNER_NAME)
    with pytest.raises(NotItsOwner, match="is no file"):
        check_owner(tmp_path, "box", "")


@pytest.mark.parametrize("rubbish", [b"../up", b"\xff", b"x" * 200, b"a b"])
def test_an_owner_without_a_valid_name_refuses_every_key(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / OWNER_NAME).write_bytes(rubbish)
    with pytest.raises(BadKey):
        check_owner(tmp_path, "box", "")


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_no_record_is_on_disk_before_its_owner_is(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next key that comes after a restart would have the stream."""
    journal = Journal(tmp_path, lambda: 1, commit_interval_seconds=0.05, commit_size_bytes=10_000)
    stream, batch = Stream("demo"), FrameBatch(memoryview(make_run(1, 3)), 1, 3)
    folder = tmp_path / "demo" / stream.folder_name
    with monkeypatch.context() as patch:
        disk = SickDisk(patch, call)
        disk.error = errno.ENOSPC
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                journal.append(stream, batch, 0.0, "box")
            assert list(folder.iterdir()) == []
    journal.append(stream, batch, 0.0, "box")
    assert (folder / OWNER_NAME).read_text() == "box"
    assert [error for _, error in journal.commit()] == [None]
    journal.forget(stream)
    with pytest.raises(NotItsOwner):
        journal.check_owner(stream, "other", "")


def test_a_recording_without_an_owner_is_not_opened_before_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, lambda: 1, commit_interval_seconds=0.05, commit_size_bytes=10_000)
    stream = Stream("demo")
    journal.append(stream, FrameBatch(memoryview(make_run(1, 3)), 1, 3), 0.0)
    journal.commit()
    journal.forget(stream)
    with monkeypatch.context() as patch:
        disk = SickDisk(patch, "write")
        disk.error = errno.ENOSPC
        with pytest.raises(OSError, match="No space"):
            journal.open(stream, 3, "box")
    journal.open(stream, 3, "box")
    with pytest.raises(NotItsOwner):
        journal.check_owner(stream, "other", "")
