import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.storage.durable import FolderHeld, hold_folder

NAME = ".lock"


def test_the_error_of_a_second_holder_names_the_first(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "new", NAME), pytest.raises(FolderHeld) as refusal, hold_folder(tmp_path / "new", NAME):
        pass
    assert refusal.value.holder == f"process {os.getpid()}"
    assert not refusal.value.owner_ended


@pytest.mark.parametrize(
    ("written", "holder"),
    [
        (b"12 gpu-box.example\n", "process 12 on gpu-box.example"),
        (b"", "process unknown"),
        (b"12", "process unknown"),
        (b"12 \x1b[2J\n", "process unknown"),
        (b"\xff" * 1000, "process unknown"),
    ],
)
def test_a_holder_elsewhere_is_named_with_its_machine_and_nonsense_as_unknown(
    tmp_path: Path, written: bytes, holder: str
) -> None:
    """Two containers on one volume may have the same process id; the content of the file may be no text."""
    with hold_folder(tmp_path, NAME):
        (tmp_path / NAME).write_bytes(written)
        with pytest.raises(FolderHeld) as refusal, hold_folder(tmp_path, NAME):
            pass
    assert refusal.value.holder == holder
    assert not refusal.value.owner_ended, "of a process elsewhere nothing is known"


@pytest.mark.parametrize(("process", "ended"), [("2147483647", True), ("9" * 30, True), ("1", False)])
def test_a_holder_on_this_machine_that_has_ended_is_told_apart(tmp_path: Path, process: str, ended: bool) -> None:
    """Then a child of it holds the lock."""
    with hold_folder(tmp_path, NAME):
        (tmp_path / NAME).write_text(f"{process} {os.uname().nodename}\n")
        with pytest.raises(FolderHeld) as refusal, hold_folder(tmp_path, NAME):
            pass
    assert refusal.value.owner_ended is ended


def test_locks_of_other_names_do_not_exclude_each_other(tmp_path: Path) -> None:
    with hold_folder(tmp_path, NAME), hold_folder(tmp_path, ".other"):
        pass


def test_a_folder_is_free_when_its_holder_is_done_or_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_folder(tmp_path, NAME):
        raise ZeroDivisionError
    with hold_folder(tmp_path, NAME):
        pass


def test_a_folder_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys; from tensorboard_sidecar.protocol.storage.durable import hold_folder\n"
        f"with hold_folder(pathlib.Path(sys.argv[1]), {NAME!r}): print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderHeld) as refusal, hold_folder(tmp_path, NAME):
            pass
        assert refusal.value.holder == f"process {holder.pid}"
        holder.kill()
        holder.wait()
        with hold_folder(tmp_path, NAME):
            pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), hold_folder(tmp_path, NAME):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_does_not_prevent_the_lock(tmp_path: Path) -> None:
    """A logger that starts on a full disk serves trainers without data, and serves all when there is room."""
    program = (
        "import pathlib, resource, sys; from tensorboard_sidecar.protocol.storage.durable import hold_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"with hold_folder(pathlib.Path(sys.argv[1]), {NAME!r}): pass"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_under_another_name_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with hold_folder(tmp_path / "folder", NAME), pytest.raises(FolderHeld), hold_folder(tmp_path / "link", NAME):
        pass
