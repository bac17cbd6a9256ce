"""Folders and files that survive a power loss: the syncs that can be seen without a power loss."""

import errno
import os
from pathlib import Path

import pytest
from support.machine.sick_disk import SickDisk

from tensorboard_sidecar.protocol.storage import durable


def test_missing_folders_are_made_and_each_name_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = durable.sync_folder

    def sync_folder(folder: Path) -> None:
        real(folder)
        synced.append(folder)

    monkeypatch.setattr(durable, "sync_folder", sync_folder)
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    synced.clear()
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == []


def test_names_below_a_root_are_synced_whichever_process_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process killed between making a folder and syncing its name leaves a name that no other process would sync."""
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    durable.make_folder(tmp_path / "root" / "a" / "b", tmp_path / "root")
    assert set(synced) == {tmp_path / "root", tmp_path / "root" / "a"}
    synced.clear()
    durable.make_folder(tmp_path / "other" / "a", tmp_path / "other")
    assert set(synced) == {tmp_path, tmp_path / "other"}, "the root itself, where it is missing"


def test_syncing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    durable.sync_file(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="link"):
        durable.sync_file(tmp_path / "link")
    with pytest.raises(NotADirectoryError):
        durable.sync_folder(tmp_path / "file")


@pytest.mark.parametrize("data", [b"", b"x" * 100_000, bytearray(b"abc"), memoryview(b"abcd")[1:3]])
def test_a_file_is_written_whole_and_private(tmp_path: Path, data: bytes | bytearray | memoryview) -> None:
    durable.write_file(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == bytes(data)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    durable.write_file(tmp_path / "file", b"another")
    assert (tmp_path / "file").read_bytes() == b"another"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_accepts_a_few_bytes_at_a_time_gets_all_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    durable.write_file(tmp_path / "file", b"0123456789" * 10)
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 10


@pytest.mark.parametrize("call", ["open", "write", "fdatasync", "replace"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.write_file(tmp_path / "file", b"old")
    with monkeypatch.context() as patch:
        SickDisk(patch, call).error = errno.ENOSPC
        with pytest.raises(OSError, match="No space"):
            durable.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "file.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        durable.write_file(tmp_path / "file", b"x")
    assert not (tmp_path / "elsewhere").exists()
