"""The lock of an outbox. The owner is the trainer, or the process that has claimed the orphaned outbox."""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.outbox.forks import call_in_children
from tensorboard_sidecar.protocol.storage.durable import opened

OWNER_LOCK: Final = "owner.lock"
_GIVEN: Final = slice(0, 8)
_PROCESS_ID: Final = slice(8, 16)
_SIZE_BYTES: Final = 16


class Owner(NamedTuple):
    """The last owner's process id (0: unknown), the next sequence number to give out, and whether the lock is held."""

    process_id: int
    given_sequence: int
    holds: bool


class OwnerLock:
    """Holds the lock of the outbox in ``folder`` until closed; the kernel releases the lock when the owner dies.

    A forked child closes its copy at once: otherwise a child that outlives the owner would keep the lock.
    The file holds the sequence number after the last one passed to :meth:`give`, and the owner's process id. With
    ``make``, the file is created and locked under a temporary name, then renamed: no process sees an unlocked file.

    Raises BlockingIOError when another process holds the lock, FileExistsError when ``make`` finds a lock,
    FileNotFoundError when there is no lock and ``make`` is False, OSError.
    """

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        self.folder = folder
        path = folder / OWNER_LOCK
        unheld = path.with_suffix(".new") if make else path
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        self._file = os.open(unheld, flags, 0o600)
        with ExitStack() as undo:
            undo.callback(os.close, self._file)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, _SIZE_BYTES)
            self._map = mmap.mmap(self._file, _SIZE_BYTES)
            self._given = 0
            undo.callback(self._map.close)
            if make:
                if os.path.lexists(path):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                unheld.rename(path)
            elif not os.path.samestat(os.fstat(self._file), path.lstat()):  # the previous owner has deleted the file
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self._map[_PROCESS_ID] = os.getpid().to_bytes(8, "little")
            undo.pop_all()
        call_in_children(self.close)

    @property
    def given_sequence(self) -> int:
        """The sequence number after the last one passed to :meth:`give`; 0 before the first call."""
        return int.from_bytes(self._map[_GIVEN], "little")

    def give(self, sequence: int) -> None:
        """Store that ``sequence`` was given out to a slot that may stay without a record. Lower numbers are ignored.

        No call between the comparison and the store: a signal handler may call this method too.
        """
        given = (sequence + 1).to_bytes(8, "little")
        if sequence >= self._given:
            self._given = sequence + 1
            self._map[_GIVEN] = given

    @contextmanager
    def open_folder(self) -> Iterator[int]:
        """Yield a descriptor of the lock's folder, for deleting files inside. Raises OSError.

        Another user who may write to the parent folder can replace the folder: FileNotFoundError in that case.
        """
        with opened(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as folder:
            found = os.stat(OWNER_LOCK, dir_fd=folder, follow_symlinks=False)
            if not os.path.samestat(found, os.fstat(self._file)):
                raise FileNotFoundError(errno.ENOENT, "the folder was replaced by another one", str(self.folder))
            yield folder

    def close(self) -> None:
        """Release the lock. A second call does nothing. In a forked child the parent keeps the lock."""
        file, self._file = self._file, -1
        if file >= 0:
            self._map.close()  # the map holds a descriptor of its own
            os.close(file)


def read_owner(folder: Path) -> Owner:
    """Return the owner of the outbox in ``folder`` without taking the lock; raise OSError when there is no lock."""
    with opened(folder / OWNER_LOCK, os.O_RDONLY | os.O_NOFOLLOW) as file:
        data = os.read(file, _SIZE_BYTES)
        process_id, given = int.from_bytes(data[_PROCESS_ID], "little"), int.from_bytes(data[_GIVEN], "little")
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Owner(process_id, given, holds=True)
        return Owner(process_id, given, holds=False)
