"""Folders and files that survive: what can be seen of it without pulling the plug."""

from pathlib import Path

import pytest

from protocol import durable


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


def test_syncing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    durable.sync_file(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="link"):
        durable.sync_file(tmp_path / "link")
    with pytest.raises(NotADirectoryError):
        durable.sync_folder(tmp_path / "file")
