"""One writer a folder: a lock that the kernel frees with the process, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from logger_service.config import StartupError

# Held by whoever writes in the folder.
LOCK_NAME: Final = ".tensorboard-sidecar.lock"
# Held in a log directory by the logger whose projection writes there, from before that one is up.
LOGGER_LOCK_NAME: Final = ".tensorboard-sidecar-logger.lock"


class FolderInUse(StartupError):
    """Another process writes in this folder."""


@contextmanager
def folder_lock(folder: Path, flag: str, name: str = LOCK_NAME) -> Iterator[None]:
    """Hold ``folder``, named by ``flag`` on the command line, made if need be. Raises FolderInUse, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise FolderInUse(
                f"{flag} {folder} is written by another logger (process {holder});"
                " stop that one or choose another folder"
            ) from None
        with suppress(OSError):  # on a full disk nobody learns who we are; the lock is held all the same
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
