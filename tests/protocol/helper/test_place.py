"""The place of a helper: private, short enough for a socket, and another one for each key."""

import os
import socket
from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.helper import place
from tensorboard_sidecar.protocol.helper.place import helper_folder, helper_root, note_path, read_note, write_note
from tensorboard_sidecar.protocol.outbox.outbox_files import OUTBOX_VARIABLE


@pytest.fixture(autouse=True)
def runtime(memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    del tmp_path  # made before there is no other folder for it
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(memory))
    monkeypatch.setattr(place, "_SHARED_MEMORY", memory / "shm")
    monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(memory / "tmp"))
    return memory


def test_the_place_lies_in_the_runtime_folder_and_is_private(runtime: Path) -> None:
    found = helper_folder()
    assert found.parent == runtime / f"tensorboard-sidecar-helpers-{os.getuid()}"
    for folder in (found.parent, found, found / place.FOLDERS_NAME):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert helper_folder() == found


def test_a_socket_can_be_bound_at_the_longest_place_that_is_taken(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = len(os.fsencode(helper_folder() / place.SOCKET_NAME)) - len(os.fsencode(memory))
    for surplus, taken in ((0, True), (1, False)):
        base = memory / ("x" * (103 - rest - len(os.fsencode(memory)) - 1 + surplus))
        base.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
        (memory / "shm").mkdir(exist_ok=True)
        assert helper_folder().is_relative_to(base) is taken
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base.with_name(base.name[1:])))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(helper_folder() / place.SOCKET_NAME))


@pytest.mark.parametrize("given", ["", "relative/folder", "/no/such/folder"])
def test_without_a_usable_runtime_folder_the_place_lies_in_shared_memory(
    given: str, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    (memory / "shm").mkdir()
    assert helper_root().parent == memory / "shm"
    (memory / "shm" / helper_root().name).rmdir()
    (memory / "shm").rmdir()
    (memory / "tmp").mkdir()
    assert helper_root().parent == memory / "tmp"


def test_a_folder_of_that_name_that_is_open_to_others_is_not_used(runtime: Path) -> None:
    opened = helper_root()
    opened.chmod(0o755)
    (runtime / "shm").mkdir()
    assert helper_root().parent == runtime / "shm"
    helper_root().chmod(0o777)
    with pytest.raises(PermissionError, match="is not a private folder of this user"):
        helper_root()


def test_without_any_folder_the_error_names_those_that_were_tried(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(FileNotFoundError, match=f"tried {memory}/shm, {memory}/tmp"):
        helper_root()


def test_another_control_group_version_or_outbox_folder_has_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {helper_folder()}
    monkeypatch.setattr(place, "_cgroup", lambda: b"0::/job_1/step_2\n")
    places.add(helper_folder())
    monkeypatch.setattr(place, "_cgroup", lambda: b"0::/job_1/step_3\n")
    places.add(helper_folder())
    monkeypatch.setattr(place, "VERSION", "99.0")
    places.add(helper_folder())
    monkeypatch.setattr(place, "_namespaces", lambda: iter((1, 2)))
    places.add(helper_folder())
    monkeypatch.setenv(OUTBOX_VARIABLE, "/elsewhere")
    places.add(helper_folder())
    assert len(places) == 6


@pytest.mark.parametrize("name", ["runs", "a b", "ä\n", os.fsdecode(b"\xff\xfe"), "x" * 255])
def test_a_note_holds_any_path(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    write_note(helper_folder(), folder)
    assert read_note(note_path(helper_folder(), folder)) == folder


@pytest.mark.parametrize("content", [b"", b"relative", b"/with\0zero"])
def test_a_file_without_an_absolute_path_is_no_note(content: bytes, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_bytes(content)
    assert read_note(note) is None
