"""One writer for each folder: a logger for its recordings; a logger and its projection, or a replay, for event files.

A logger takes the lock of its log directory and passes the open lock file to the projection's process. Both hold the
same lock then, and the folder is free when both have ended: no second logger, projection or replay writes there while
the projection of a killed logger still runs.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.protocol.storage.durable import FolderHeld, hold_folder

LOCK_NAME: Final = ".tensorboard-sidecar.lock"
_RETRY_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class FolderInUse(StartupError):
    """Another process writes in this folder."""


@contextmanager
def folder_lock(folder: Path, flag: str, *, inherited: int | None = None, orphan_seconds: float = 0.0) -> Iterator[int]:
    """Hold the lock of ``folder``; yield the file descriptor of its lock file. The folder is made if need be.

    ``flag`` names the folder on the command line, for error messages. ``inherited`` is the descriptor of a lock that
    the parent process holds; it is shared. If the folder was deleted since and made anew, its new lock is taken. A lock
    whose owner has ended is held by that owner's projection, which ends by itself: wait ``orphan_seconds`` for that.
    Raises FolderInUse, OSError.
    """
    with ExitStack() as lock:
        if inherited is not None:
            os.set_inheritable(inherited, False)
        if inherited is not None and _is_lock_of(inherited, folder):
            yield inherited
        else:
            yield _take(lock, folder, flag, monotonic() + orphan_seconds)


def _take(lock: ExitStack, folder: Path, flag: str, until_seconds: float) -> int:
    said = False
    while True:
        try:
            return lock.enter_context(hold_folder(folder, LOCK_NAME))
        except FolderHeld as held:
            if not held.owner_ended:
                raise FolderInUse(
                    f"{flag} {folder} is written by another logger ({held.holder}); stop that one or choose another"
                    " folder"
                ) from None
            if monotonic() >= until_seconds:
                raise FolderInUse(
                    f"{flag} {folder} is written by the projection of a logger that has ended ({held.holder}); end"
                    " that projection or choose another folder"
                ) from None
            if not said:
                _log.info("%s %s: waiting for the end of another logger's projection (%s)", flag, folder, held.holder)
                said = True
        sleep(_RETRY_SECONDS)


def _is_lock_of(file: int, folder: Path) -> bool:
    """Tell whether an open file is the lock file of ``folder``, and this process holds that lock or takes it now."""
    with suppress(OSError):
        if os.path.samestat(os.fstat(file), (folder / LOCK_NAME).stat(follow_symlinks=False)):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False
