"""The lock by which an outbox has one owner: its trainer, or whoever adopts it when the trainer is gone."""

import errno
import fcntl
import mmap
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

OWNER_LOCK: Final = "owner.lock"
_GIVEN: Final = slice(0, 8)
_PROCESS_ID: Final = slice(8, 16)
_SIZE_BYTES: Final = 16


class Owner(NamedTuple):
    """The process that last held a lock (0: not known), the number behind the last given, and if it is held still."""

    process_id: int
    given_sequence: int
    holds: bool


class OwnerLock:
    """Holds the lock of the outbox in ``folder`` until it is closed; the kernel lets go of it when the owner dies.

    The file holds the number behind the last one that :meth:`give` was told, in shared memory like the records, and
    the owner's process id. It is made under another name, and held before anybody can find it.

    Raises BlockingIOError when somebody else holds it, FileExistsError when there is one and it is to ``make``,
    FileNotFoundError when there is none and it is not, OSError.
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
            elif not os.path.samestat(os.fstat(self._file), path.lstat()):  # deleted meanwhile, by who held it before
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self._map[_PROCESS_ID] = os.getpid().to_bytes(8, "little")
            undo.pop_all()

    @property
    def given_sequence(self) -> int:
        """The number behind the last that was given; 0 when none was."""
        return int.from_bytes(self._map[_GIVEN], "little")

    def give(self, sequence: int) -> None:
        """Write down that a number was given out to what may leave no record behind; never a lower one again.

        Nothing is called between the look and the note: a signal handler may give numbers out as well.
        """
        given = (sequence + 1).to_bytes(8, "little")
        if sequence >= self._given:
            self._given = sequence + 1
            self._map[_GIVEN] = given

    def open_folder(self) -> int:
        """Return a descriptor of the folder that this lock lies in, through which to delete what lies there.

        Whoever can write above a folder can have its path lead elsewhere meanwhile. Raises OSError when it does.
        """
        with ExitStack() as undo:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            undo.callback(os.close, folder)
            found = os.stat(OWNER_LOCK, dir_fd=folder, follow_symlinks=False)
            if not os.path.samestat(found, os.fstat(self._file)):
                raise FileNotFoundError(errno.ENOENT, "another folder lies there by now", str(self.folder))
            undo.pop_all()
        return folder

    def close(self) -> None:
        """Let go of the lock. In a forked child the parent keeps it."""
        self._map.close()  # it holds a descriptor of its own
        os.close(self._file)


def read_owner(folder: Path) -> Owner:
    """Return who owns the outbox in ``folder``, and leave it to them; raise OSError when it is none."""
    file = os.open(folder / OWNER_LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        data = os.read(file, _SIZE_BYTES)
        process_id, given = int.from_bytes(data[_PROCESS_ID], "little"), int.from_bytes(data[_GIVEN], "little")
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Owner(process_id, given, holds=True)
        return Owner(process_id, given, holds=False)
    finally:
        os.close(file)
