"""Remembers, over restarts of the projection's process, which records killed the process.

Drawing a record can kill the process: a fault in a library, or no memory left. A deterministic fault kills the next
process at the same record. Therefore the process writes a note to a file in the log directory before it shows a record,
and removes the note afterwards. A note that the next process finds counts as a death of its record:

- after a death, the record waits for PATIENCE_SECONDS while other runs are projected;
- after DEATHS_MAX deaths, the record is fatal: it is skipped, and its event stays blank.

A kill from outside counts too, because the kernel's OOM killer looks the same. Three unrelated kills at the same record
are improbable.

The file holds SUSPECTS_MAX entries of (stream, sequence, deaths); the first entry is the record being shown.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

FILE_NAME: Final = ".tensorboard-sidecar-suspects"
DEATHS_MAX: Final = 3
PATIENCE_SECONDS: Final = 10.0
# Each stream has one suspect at most, the record that comes next. Beyond this number, the oldest entry is dropped.
SUSPECTS_MAX: Final = 64
_ENTRY: Final = struct.Struct("<16sQQ")

Suspect: TypeAlias = tuple[bytes, int]
"""A record: the id of its stream and its sequence number."""


class Quarantine:
    """Counts the deaths of each record. Until :meth:`open` is called, nothing outlives this process."""

    def __init__(self) -> None:
        self._path = Path()
        self._file = -1
        self._deaths: dict[Suspect, int] = {}
        self._wait_until_seconds: dict[Suspect, float] = {}

    def open(self, logdir: Path) -> None:
        """Read the notes in a log directory that is locked for this process; do without a file if there can be none."""
        self._path = logdir / FILE_NAME
        with suppress(OSError):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            data = os.pread(self._file, SUSPECTS_MAX * _ENTRY.size, 0)
            whole = data[: len(data) // _ENTRY.size * _ENTRY.size]  # without an incomplete entry at the end
            for stream, sequence, deaths in _ENTRY.iter_unpack(whole):
                if deaths:
                    self._deaths[stream, sequence] = min(self._deaths.get((stream, sequence), 0) + deaths, DEATHS_MAX)
            self._save()

    def close(self) -> None:
        """Close the file; delete it if no record died."""
        file = self._file
        self.stop_noting()
        if file >= 0:
            os.close(file)

    def stop_noting(self) -> None:
        """Remove the note of the record being shown: this process ends for another reason. Write no more notes.

        Any thread may call this. The file stays open, because another thread may be writing to it.
        """
        if self._file >= 0:
            self._save()
            self._file = -1
            if not self._deaths:
                self._path.unlink(missing_ok=True)

    def is_fatal(self, record: Suspect) -> bool:
        """Return whether the record must be skipped."""
        return self._deaths.get(record, 0) >= DEATHS_MAX

    def must_wait(self, record: Suspect, now_seconds: float) -> bool:
        """Return whether other records go first. The first call for a suspect starts its PATIENCE_SECONDS."""
        if record not in self._deaths or self.is_fatal(record):
            return False
        return now_seconds < self._wait_until_seconds.setdefault(record, now_seconds + PATIENCE_SECONDS)

    def end_waits(self) -> bool:
        """End all waits; return whether a record waited."""
        waiting = [record for record, seconds in self._wait_until_seconds.items() if seconds > float("-inf")]
        self._wait_until_seconds.update(dict.fromkeys(waiting, float("-inf")))
        return bool(waiting)

    def clear(self, record: Suspect) -> None:
        """Forget the deaths of a record whose events are written."""
        if self._deaths.pop(record, 0):
            self._wait_until_seconds.pop(record, None)
            self._save()

    @contextmanager
    def showing(self, record: Suspect) -> Iterator[None]:
        """Keep a note in the file while the record is shown.

        An exception counts as a death of the record, except an OSError, which is the fault of a disk.
        """
        self._save(shown=record)
        try:
            yield
        except Exception as error:
            if not isinstance(error, OSError):
                self._deaths[record] = self._deaths.get(record, 0) + 1
                self._wait_until_seconds.pop(record, None)
            raise
        else:
            self.clear(record)
        finally:
            self._save()

    def _save(self, shown: Suspect | None = None) -> None:
        if self._file < 0:
            return
        while len(self._deaths) >= SUSPECTS_MAX:
            del self._deaths[next(iter(self._deaths))]
        # The record being shown counts as one death, should the process end now.
        entries = [_ENTRY.pack(*shown, 1) if shown else bytes(_ENTRY.size)]
        entries += (_ENTRY.pack(*record, count) for record, count in self._deaths.items())
        with suppress(OSError):  # the disk is full; nothing is drawn either until there is room
            os.pwrite(self._file, b"".join(entries).ljust(SUSPECTS_MAX * _ENTRY.size, b"\0"), 0)
