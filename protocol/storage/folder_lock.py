"""One writer per folder: a lock that the kernel releases when the process ends, however the process ends."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_HOLDER_MAX_BYTES: Final = 256
# A process id and the name of the machine: in two containers, the same id means two processes.
_HOLDER: Final = re.compile(rb"(\d+) ([\w.-]+)\n")


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
    file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(folder, os.pread(file, _HOLDER_MAX_BYTES, 0)) from None
        with suppress(OSError):  # on a full disk nobody learns who we are; the lock is held all the same
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)
        yield file
    finally:
        os.close(file)


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
