"""The event files of one stream: their names, their order, and where they stand.

Rule 1: a file is begun once, exclusively, and appended to by the object that began it. After a crash a new file is
begun, whose name sorts later; what a torn one lost is written again there. Nothing is truncated, renamed or rewritten,
since TensorBoard's loaders follow none of that.
Rule 2: the events of a record leave in one write. Which were written is read back from the events' own ids.
Rule 3: names only grow within a folder, even where the clocks of its writers go back.
Rule 4: what an attempt said before the next one began, and is shipped after that (it lay in the memory of a killed
trainer), goes to a folder of its own, ``attempt-<n>`` in the run's: in the run's it would hide what is newer.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from logger_service.events.event_reader import last_id
from logger_service.events.identity import EventId
from logger_service.events.protos import version_event
from logger_service.events.run_directory import late_directory, run_directory
from protocol.frame import pack_frame
from protocol.stream import Stream

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_PREFIX: Final = "events.out.tfevents."
_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\.([0-9]{4,})\.([0-9a-f]{8})\.([0-9]{4,})")
_ANY_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\..*")


class EventFileName(NamedTuple):
    """``events.out.tfevents.<start, seconds>.<attempt>.<stream, first 8 hex digits>.<counter>``."""

    start_seconds: int
    attempt: int
    stream: str
    counter: int

    def __str__(self) -> str:
        return f"{_PREFIX}{self.start_seconds:010d}.{self.attempt:04d}.{self.stream}.{self.counter:04d}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the parts of a name this program gave, or None."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(int(match[1]), int(match[2]), match[3], int(match[4]))


class EventFile:
    """Appends the events of ``stream`` under ``logdir``; ``last_id`` is the last event that was there before, or None.

    Raises PermissionError when the run's folder leads out of the log directory, OSError.
    """

    def __init__(self, logdir: Path, stream: Stream) -> None:
        self._logdir, self._stream = logdir, stream
        self._short_id = stream.id.hex()[:8]
        self._file = -1
        self._path: Path | None = None
        self._size_bytes = 0
        self.last_id = self._read_back()

    def __repr__(self) -> str:
        return f"<EventFile {self._stream.run} {self._short_id} last {self.last_id}>"

    def append(self, events: Sequence[bytes], wall_time_ns: int) -> None:
        """Append serialised events by one write.

        ``wall_time_ns`` is the time of the first of them; it names and heads a file begun now. Raises OSError, also
        when the file was deleted or changed by somebody else; another :class:`EventFile` then finds out what is there.
        """
        frames = [pack_frame(event) for event in events]
        directory = self.directory(wall_time_ns)
        if self._path is not None and self._path.parent != directory:
            self.close()
            self._path = None
        if self._path is None:
            self._path, self._size_bytes = self._begin(directory, wall_time_ns), 0
            frames.insert(0, pack_frame(version_event(wall_time_ns)))
        else:
            self._continue(self._path)
        view = memoryview(b"".join(frames))
        self._size_bytes += len(view)
        while view:
            view = view[os.write(self._file, view) :]

    def directory(self, wall_time_ns: int) -> Path:
        """Return the folder for events of this time: the run's, unless a later attempt had begun there; makes none."""
        run, late = self._directories()
        names = (EventFileName.parse(path.name) for path in (run.iterdir() if run.is_dir() else ()))
        begun = [name.start_seconds for name in names if name and name.attempt > self._stream.attempt]
        return late if begun and max(begun) >= wall_time_ns // 10**9 else run

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self, directory: Path, wall_time_ns: int) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / str(self._next_name(directory, wall_time_ns))
        self._file = os.open(path, _APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        return path

    def _continue(self, path: Path) -> None:
        if self._file < 0:
            self._file = os.open(path, _APPEND)
        found = os.fstat(self._file)
        if not found.st_nlink or found.st_size != self._size_bytes:
            raise FileNotFoundError(f"{path} was deleted or changed while it was written; events are written anew")

    def _directories(self) -> tuple[Path, Path]:
        """Return the run's folder, and that for what comes late."""
        return run_directory(self._logdir, self._stream), late_directory(self._logdir, self._stream)

    def _next_name(self, directory: Path, wall_time_ns: int) -> EventFileName:
        own = self._own_names(directory)
        start = own[-1].start_seconds if own else max(0, wall_time_ns // 10**9)
        others = (_ANY_NAME.fullmatch(path.name) for path in directory.iterdir() if not self._owns(path.name))
        newest_other = max((int(match[1]) for match in others if match is not None), default=-1)
        counter = max((name.counter + 1 for name in own), default=0)
        return EventFileName(max(start, newest_other + 1), self._stream.attempt, self._short_id, counter)

    def _own_names(self, directory: Path) -> list[EventFileName]:
        """Return the names of this stream's files in the order of writing."""
        names = (EventFileName.parse(path.name) for path in directory.iterdir() if self._owns(path.name))
        return sorted(name for name in names if name is not None)

    def _owns(self, name: str) -> bool:
        parsed = EventFileName.parse(name)
        return parsed is not None and (parsed.attempt, parsed.stream) == (self._stream.attempt, self._short_id)

    def _read_back(self) -> EventId | None:
        for directory in reversed(self._directories()):
            for name in reversed(self._own_names(directory) if directory.is_dir() else []):
                identity = last_id(directory / str(name))
                if identity is not None and identity.stream == self._stream.id:
                    return identity
        return None
