"""The lock by which an outbox has one owner: its trainer, or whoever adopts it when the trainer is gone."""

import fcntl
import mmap
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

OWNER_LOCK: Final = "owner.lock"
_SIZE_BYTES: Final = 8


class OwnerLock:
    """Holds the lock of the outbox in ``folder`` until it is closed; the kernel lets go of it when the owner dies.

    The file holds the number behind the last one that :meth:`give` was told, in shared memory like the records.
    Raises BlockingIOError when somebody else holds it, OSError when there is none, and it is not to ``make``.
    """

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        self._file = os.open(folder / OWNER_LOCK, flags, 0o600)
        with ExitStack() as undo:
            undo.callback(os.close, self._file)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, _SIZE_BYTES)
            self._map = mmap.mmap(self._file, _SIZE_BYTES)
            undo.pop_all()

    @property
    def given_sequence(self) -> int:
        """The number behind the last that was given; 0 when none was."""
        return int.from_bytes(self._map, "little")

    def give(self, sequence: int) -> None:
        """Write down that a number was given out to what may leave no record behind."""
        self._map[:] = (sequence + 1).to_bytes(_SIZE_BYTES, "little")

    def close(self) -> None:
        """Let go of the lock. In a forked child the parent keeps it."""
        self._map.close()  # it holds a descriptor of its own
        os.close(self._file)
