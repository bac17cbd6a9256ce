"""The command ``helper``: what it takes over from helpers that have ended."""

import os
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.helper.command import adopt_notes
from tensorboard_sidecar.protocol.helper.place import (
    FOLDERS_NAME,
    LOCK_NAME,
    LOG_NAME,
    SOCKET_NAME,
    helper_folder,
    note_path,
    write_note,
)
from tensorboard_sidecar.protocol.storage.durable import hold_folder

DAY_SECONDS = 86_400.0


@pytest.fixture
def place(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(memory))
    return helper_folder()


@pytest.fixture
def other(place: Path) -> Path:
    other = place.with_name("0" * 12)
    (other / FOLDERS_NAME).mkdir(parents=True)
    for name in (LOCK_NAME, LOG_NAME, SOCKET_NAME):
        (other / name).touch()
    return other


def test_the_notes_of_an_ended_helper_are_taken_over(place: Path, other: Path, tmp_path: Path) -> None:
    write_note(other, tmp_path)
    adopt_notes(place, wall_time_seconds=other.stat().st_mtime)
    assert note_path(place, tmp_path).read_bytes() == bytes(tmp_path)
    assert not note_path(other, tmp_path).exists()
    assert (other / LOCK_NAME).exists()


def test_the_notes_of_a_helper_that_runs_stay(place: Path, other: Path, tmp_path: Path) -> None:
    write_note(other, tmp_path)
    with hold_folder(other, LOCK_NAME):
        adopt_notes(place, wall_time_seconds=2 * DAY_SECONDS + other.stat().st_mtime)
    assert note_path(other, tmp_path).exists()


def test_a_note_of_a_folder_that_is_not_there_stays(place: Path, other: Path, tmp_path: Path) -> None:
    """It may be there for another container, which shares this runtime folder."""
    write_note(other, tmp_path / "elsewhere")
    (other / FOLDERS_NAME / "rubbish").write_bytes(b"rubbish")
    adopt_notes(place, wall_time_seconds=2 * DAY_SECONDS + other.stat().st_mtime)
    assert len(list((other / FOLDERS_NAME).iterdir())) == 2
    assert list((place / FOLDERS_NAME).iterdir()) == []
    assert (other / LOCK_NAME).exists()


def test_the_empty_place_of_a_helper_that_ended_a_day_ago_is_deleted(place: Path, other: Path) -> None:
    now_seconds = other.stat().st_mtime
    adopt_notes(place, wall_time_seconds=now_seconds + DAY_SECONDS / 2)
    assert other.exists()
    os.utime(other / LOCK_NAME, (now_seconds - DAY_SECONDS - 1,) * 2)
    adopt_notes(place, wall_time_seconds=now_seconds)
    assert not other.exists()
    assert place.exists()


def test_what_is_no_place_is_left_alone(place: Path) -> None:
    (place.parent / "file").touch()
    (place.parent / "empty").mkdir()
    adopt_notes(place, wall_time_seconds=2 * DAY_SECONDS)
    assert len(list(place.parent.iterdir())) == 3
