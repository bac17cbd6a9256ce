"""One logger a folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.protocol.storage.folder_lock import FolderHeld, hold_folder

# Held by whoever writes in the folder.
LOCK_NAME: Final = ".tensorboard-sidecar.lock"
# Held in a log directory by the logger whose projection writes there, from before that one is up.
LOGGER_LOCK_NAME: Final = ".tensorboard-sidecar-logger.lock"


class FolderInUse(StartupError):
    """Another process writes in this folder."""


@contextmanager
def folder_lock(folder: Path, flag: str, name: str = LOCK_NAME) -> Iterator[None]:
    """Hold ``folder``, named by ``flag`` on the command line, made if need be. Raises FolderInUse, OSError."""
    with ExitStack() as lock:
        try:
            lock.enter_context(hold_folder(folder, name))
        except FolderHeld as held:
            raise FolderInUse(
                f"{flag} {folder} is written by another logger ({held.holder}); stop that one or choose another folder"
            ) from None
        yield
