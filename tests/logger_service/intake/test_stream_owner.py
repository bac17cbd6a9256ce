"""The owner of a stream, on disk."""

import errno
import os
from pathlib import Path

import pytest
from support.logger.peer import make_run
from support.machine.sick_disk import SickDisk

from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.stream_owner import OWNER_NAME, NotItsOwner, check_owner, note_owner
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.storage.key_files import BadKey
from tensorboard_sidecar.protocol.stream import Stream


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
    assert [committed.error for committed in journal.commit()] == [None]
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
