import os
import subprocess
import sys
from pathlib import Path

import pytest

from logger_service.folder_lock import LOCK_NAME, FolderInUse, folder_lock


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "--logdir"), pytest.raises(FolderInUse) as refusal, folder_lock(tmp_path, "--logdir"):
        pass
    assert f"--logdir {tmp_path} is written by another logger (process {os.getpid()})" in str(refusal.value)


def test_a_folder_is_free_when_its_holder_is_done(tmp_path: Path) -> None:
    for _ in range(2):
        with folder_lock(tmp_path, "--logdir"):
            pass


def test_a_folder_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys; from logger_service.folder_lock import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1]), '--logdir'): print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse, match=f"process {holder.pid}"), folder_lock(tmp_path, "--logdir"):
            pass
        holder.kill()
        holder.wait()
        with folder_lock(tmp_path, "--logdir"):
            pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), folder_lock(tmp_path, "--logdir"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    """A logger that starts while there is no room serves those who have nothing to write, and goes on when there is."""
    program = (
        "import pathlib, resource, sys; from logger_service.folder_lock import folder_lock\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "with folder_lock(pathlib.Path(sys.argv[1]), '--logdir'): pass"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_under_another_name_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with (
        folder_lock(tmp_path / "folder", "--recordings"),
        pytest.raises(FolderInUse, match=r"--recordings .*link is written by another logger"),
        folder_lock(tmp_path / "link", "--recordings"),
    ):
        pass
