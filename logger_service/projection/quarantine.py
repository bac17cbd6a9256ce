"""Which records the projection's process died of, remembered over its deaths.

Drawing can end a process from within: a fault in a library, all memory taken. What is deterministic ends it again at
each start. So a record is noted in a file in the log directory before it is shown, and the note is taken back after it.
A note that is found at the start is a death of its record. One that has died so has to wait while others go first; one
that has died ``DEATHS_MAX`` times is fatal: it is passed over, and its event is blank. (A kill from outside counts as
well, for who died of too much memory was killed from outside, too; three of them at one record are hardly chance.)

The file holds ``SUSPECTS_MAX`` entries of stream, sequence and deaths, the first of them the record that is shown now.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

FILE_NAME: Final = ".tensorboard-sidecar-suspects"
DEATHS_MAX: Final = 3
# What the others have for themselves after a death, before its record is shown again.
PATIENCE_SECONDS: Final = 10.0
# More have not died before some of them were passed over: of each stream only the next record is a suspect.
SUSPECTS_MAX: Final = 64
_ENTRY: Final = struct.Struct("<16sQQ")
_NOBODY: Final = bytes(_ENTRY.size)

Suspect: TypeAlias = tuple[bytes, int]
"""The stream and the sequence of a record."""


class Quarantine:
    """Remembers nothing beyond this process until it is opened."""

    def __init__(self) -> None:
        self._path = Path()
        self._file = -1
        self._deaths: dict[Suspect, int] = {}
        self._wait_until_seconds: dict[Suspect, float] = {}

    def __repr__(self) -> str:
        return f"<Quarantine {self._deaths}>"

    def open(self, logdir: Path) -> None:
        """Take up what is noted in a log directory that nobody else writes; where nothing can be noted, go without."""
        self._path = logdir / FILE_NAME
        with suppress(OSError):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            noted = os.pread(self._file, SUSPECTS_MAX * _ENTRY.size, 0)
            for stream, sequence, deaths in _ENTRY.iter_unpack(noted[: len(noted) // _ENTRY.size * _ENTRY.size]):
                if deaths:
                    died = self._deaths.get((stream, sequence), 0) + deaths
                    self._deaths[stream, sequence] = min(died, DEATHS_MAX)
            self._save()

    def close(self) -> None:
        """Note no more."""
        file = self._file
        self.pardon()
        if file >= 0:
            os.close(file)

    def pardon(self) -> None:
        """Take back the note of what is shown, as this process ends for another reason, and note no more.

        Any thread may ask: the file stays open, for another thread may write to it at this moment.
        """
        if self._file >= 0:
            self._save()
            self._file = -1
            if not self._deaths:
                self._path.unlink(missing_ok=True)

    def is_fatal(self, record: Suspect) -> bool:
        """Tell whether a record is to be passed over."""
        return self._deaths.get(record, 0) >= DEATHS_MAX

    def has_to_wait(self, record: Suspect, now_seconds: float) -> bool:
        """Tell whether others go before this record."""
        if record not in self._deaths or self.is_fatal(record):
            return False
        return now_seconds < self._wait_until_seconds.setdefault(record, now_seconds + PATIENCE_SECONDS)

    def let_go(self) -> bool:
        """Let no record wait any longer; tell whether one did."""
        waiting = [record for record, seconds in self._wait_until_seconds.items() if seconds > float("-inf")]
        self._wait_until_seconds.update(dict.fromkeys(waiting, float("-inf")))
        return bool(waiting)

    def clear(self, record: Suspect) -> None:
        """Forget the deaths of a record that is in the event files."""
        if self._deaths.pop(record, 0):
            self._wait_until_seconds.pop(record, None)
            self._save()

    @contextmanager
    def showing(self, record: Suspect) -> Iterator[None]:
        """Note a record while it is shown; what it raises, unless that is a disk's fault, is a death of it as well."""
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
        entries = [_ENTRY.pack(*shown, 1) if shown else _NOBODY]
        entries += (_ENTRY.pack(*record, deaths) for record, deaths in self._deaths.items())
        with suppress(OSError):  # on a full disk: nothing is drawn there either
            os.pwrite(self._file, b"".join(entries).ljust(SUSPECTS_MAX * _ENTRY.size, b"\0"), 0)
