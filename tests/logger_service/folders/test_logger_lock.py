import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.folders.logger_lock import LOCK_NAME, FolderInUse, folder_lock

# Takes the lock of a folder, passes it to a child that only waits, prints the child's process id, and waits too.
PARENT = """
import signal, subprocess, sys
from pathlib import Path
from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
with folder_lock(Path(sys.argv[1]), "--logdir") as lock:
    child = subprocess.Popen(["sleep", "600"], pass_fds=(lock,), stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    signal.pause()
"""


@contextmanager
def parent_and_child(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with subprocess.Popen([sys.executable, "-c", PARENT, folder], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            yield parent, child
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()


def test_a_second_logger_is_refused_with_the_flag_the_folder_and_who_holds_it(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "--logdir"), pytest.raises(StartupError) as refusal, folder_lock(tmp_path, "--logdir"):
        pass
    assert str(refusal.value) == (
        f"--logdir {tmp_path} is written by another logger (process {os.getpid()});"
        " stop that one or choose another folder"
    )


def test_the_writer_of_a_folder_and_the_logger_that_it_works_for_do_not_exclude_each_other(tmp_path: Path) -> None:
    """The writer inherits the logger's lock, keeps it when the logger is gone, and passes it to nobody."""
    with folder_lock(tmp_path, "--logdir") as lock:
        inherited = os.dup(lock)
        os.set_inheritable(inherited, True)
        with folder_lock(tmp_path, "--logdir", inherited=inherited) as shared:
            assert shared == inherited
            assert not os.get_inheritable(inherited)
    with pytest.raises(FolderInUse), folder_lock(tmp_path, "--logdir"):
        pass
    os.close(inherited)
    with folder_lock(tmp_path, "--logdir"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_an_inherited_lock_of_a_folder_that_was_made_anew_is_replaced(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "--logdir") as lock:
        (tmp_path / LOCK_NAME).unlink()
        with folder_lock(tmp_path, "--logdir", inherited=lock) as own:
            assert own != lock
            with pytest.raises(FolderInUse), folder_lock(tmp_path, "--logdir"):
                pass


def test_a_file_that_holds_no_lock_is_none_to_inherit(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "--logdir"), (tmp_path / LOCK_NAME).open() as file:
        with pytest.raises(FolderInUse), folder_lock(tmp_path, "--logdir", inherited=file.fileno()):
            pass
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_child_of_a_killed_logger_keeps_others_out(tmp_path: Path) -> None:
    with parent_and_child(tmp_path) as (parent, _):
        with pytest.raises(FolderInUse, match=rf"written by another logger \(process {parent.pid}\)"):
            folder_lock(tmp_path, "--logdir", orphan_seconds=60.0).__enter__()
        parent.kill()
        parent.wait()
        with pytest.raises(FolderInUse) as refusal, folder_lock(tmp_path, "--logdir", orphan_seconds=0.1):
            pass
    assert str(refusal.value) == (
        f"--logdir {tmp_path} is written by the projection of a logger that has ended (process {parent.pid});"
        " end that projection or choose another folder"
    )


def test_the_child_of_a_killed_logger_is_waited_for_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with parent_and_child(tmp_path) as (parent, child):
        parent.kill()
        parent.wait()
        Timer(0.2, os.kill, (child, signal.SIGTERM)).start()
        with folder_lock(tmp_path, "--logdir", orphan_seconds=60.0):
            pass
    assert caplog.text.count(f"waiting for the end of another logger's projection (process {parent.pid})") == 1


def test_a_parent_holds_the_lock_while_its_child_is_down(tmp_path: Path) -> None:
    with parent_and_child(tmp_path) as (_, child):
        os.kill(child, signal.SIGKILL)
        with pytest.raises(FolderInUse), folder_lock(tmp_path, "--logdir", orphan_seconds=60.0):
            pass
