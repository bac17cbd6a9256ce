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
    """Another process holds the lock of a folder; ``holder`` names the process: ``process 12 on gpu-box``."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder} is held by another writer ({holder})")
        self.holder = holder


@contextmanager
def hold_folder(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock file ``name`` in ``folder``; a missing folder is made. Raises FolderHeld, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderHeld(folder, _holder(os.pread(file, _HOLDER_MAX_BYTES, 0))) from None
        with suppress(OSError):  # on a full disk the lock is held, and the file does not name the holder
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def _holder(written: bytes) -> str:
    """Return the holder that a lock file names; the file may be empty for a moment, or hold anything."""
    found = _HOLDER.fullmatch(written)
    if found is None:
        return "process unknown"
    process_id, machine = (part.decode("ascii") for part in found.groups())
    return f"process {process_id}" if machine == os.uname().nodename else f"process {process_id} on {machine}"
