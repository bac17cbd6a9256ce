"""Files and folders: durable ones, which survive a power loss, and folders with one writer.

All functions raise OSError. The kernel releases the lock of a folder when the process ends, however the process ends.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.frame import Buffer

_HOLDER_MAX_BYTES: Final = 256
# A process id and the name of the machine: in two containers, the same id means two processes.
_HOLDER: Final = re.compile(rb"(\d+) ([\w.-]+)\n")


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """Open a file or a folder for the duration of the block; yield its descriptor."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path, root: Path | None = None) -> None:
    """Make a folder and its missing parents; their names are durable on return.

    ``root`` is a parent of ``folder``. Names below ``root`` are made durable also when they exist already: the process
    that made the folders may have been killed before the sync.
    """
    to_sync = unsynced_parents(folder, root)
    folder.mkdir(parents=True, exist_ok=True)
    for parent in to_sync:
        sync_folder(parent)


def unsynced_parents(folder: Path, root: Path | None = None) -> list[Path]:
    """Return the folders that hold names which :func:`make_folder` makes durable; call before making ``folder``."""
    return [path.parent for path in (folder, *folder.parents) if root in path.parents or not path.exists()]


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with opened(path, os.O_WRONLY | os.O_NOFOLLOW) as descriptor:
        os.fdatasync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a file that replaces ``path`` at the end of the block, or is removed after an error."""
    unfinished = path.with_name(f"{path.name}.new")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def write_file(path: Path, data: Buffer) -> None:
    """Write a file that appears under its name complete and durable, or not at all; an old file is replaced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with replacing(path) as unfinished, opened(unfinished, flags) as descriptor, memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(descriptor, view[written:])
        os.fdatasync(descriptor)
    sync_folder(path.parent)


class FolderHeld(Exception):
    """Another process holds the lock of this folder; ``holder`` says which: ``process 12 on gpu-box``.

    ``owner_ended``: that process ran on this machine and has ended. A child that inherited the lock still holds it.
    """

    def __init__(self, folder: Path, holder: str, *, owner_ended: bool = False) -> None:
        super().__init__(f"{folder} is held by another writer ({holder})")
        self.holder = holder
        self.owner_ended = owner_ended


@contextmanager
def hold_folder(folder: Path, name: str) -> Iterator[int]:
    """Hold the lock ``name`` in ``folder``, which is made if need be; yield its file. Raises FolderHeld, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with opened(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(folder, os.pread(file, _HOLDER_MAX_BYTES, 0)) from None
        with suppress(OSError):  # on a full disk nobody learns who we are; the lock is held all the same
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)
        yield file


def _held(folder: Path, written: bytes) -> FolderHeld:
    """Return the error for the holder that a lock file names; the file may be empty for a moment, or hold anything."""
    found = _HOLDER.fullmatch(written)
    if found is None:
        return FolderHeld(folder, "process unknown")
    process_id, machine = int(found[1]), found[2].decode("ascii")
    if machine != os.uname().nodename:
        return FolderHeld(folder, f"process {process_id} on {machine}")
    owner_ended = False
    with suppress(PermissionError):  # the process runs, as another user
        try:
            os.kill(process_id, 0)
        except (ProcessLookupError, OverflowError):
            owner_ended = True
    return FolderHeld(folder, f"process {process_id}", owner_ended=owner_ended)
