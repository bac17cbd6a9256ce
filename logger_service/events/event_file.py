"""Writer of the event files of one stream.

Rule 1: only the object that created a file, or found the file empty, appends to the file. After a crash the next object
begins a new file, with a name that sorts later, and writes the events that a torn file lost. Nothing is truncated,
renamed or rewritten: TensorBoard's loaders follow none of that. (The content of a file that was empty depends on the
records alone: a loader that read the file before the file was emptied misses nothing.)
Rule 2: one write holds all events of a record. The ids in the events on disk tell which were written.
Rule 3: names only grow within a folder, even when the clocks of its writers go back.
Rule 4: a folder has one writer. After a later attempt has begun in the run's folder, late events of an earlier attempt
(they were in the memory of a killed trainer, or the trainer still runs) go to the folder ``attempt-<n>`` in the run's
folder: in the run's folder they would hide the newer events. A stream never returns to a folder that it left.

A stream also writes to a folder in the run's folder for each set of hyperparameters (see ``events.hparams_rows``): the
same rules hold there.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.events.event_paths import (
    Attempt,
    EventFileName,
    in_order,
    inside,
    late_directories,
    late_directory,
    names_in,
    next_name,
    own_names_in,
    run_directory,
)
from tensorboard_sidecar.logger_service.events.event_reader import began_at_seconds, last_id
from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.storage.durable import sync_folder
from tensorboard_sidecar.protocol.stream import Stream

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_CREAT | os.O_EXCL
# LRU: a set of hyperparameters that comes again when this many others came since then begins a new file.
_ROWS_KEPT: Final = 16


class EventFile:
    """Appends the events of ``stream`` under ``logdir``; ``last_id`` is the id of the last event on disk, or None.

    ``row`` is the name of a folder in the run's folder, which then takes the place of the run's folder.
    ``start_ns`` is the time of the first record of the stream, in all calls. Raises PermissionError when a link leads
    from the run's folder out of the log directory, OSError.
    """

    def __init__(self, logdir: Path, stream: Stream, row: str = "") -> None:
        self._logdir, self._stream = logdir, stream
        self._writer = stream.attempt, stream.id.hex()[:8]
        # The run's folder, the folder for late events in it, and the folder for events that are late there as well.
        self._folders = [run_directory(logdir, stream, row)]
        self._folders += (late_directory(logdir, stream, depth, row) for depth in (1, 2))
        self._place = max((place for place, folder in enumerate(self._folders) if self._own_names(folder)), default=0)
        self._file = -1
        self._path: Path | None = None
        self._size_bytes = 0
        self._rows: OrderedDict[str, EventFile] = OrderedDict()
        self.last_id = self._read_back()

    def __repr__(self) -> str:
        return f"<EventFile {self._stream.run} {self._writer[1]} last {self.last_id}>"

    @property
    def folder(self) -> Path:
        """The folder of the events that do not come late."""
        return self._folders[0]

    @property
    def stream_id(self) -> bytes:
        """The id of the stream."""
        return self._stream.id

    def append(self, events: Sequence[bytes], wall_time_ns: int, start_ns: int) -> None:
        """Append serialised events by one write.

        ``wall_time_ns`` is the time of the first event; the name and the first event of a new file carry this time.
        Raises OSError, also when another program deleted or changed the file: the caller then makes a new
        :class:`EventFile`, which reads the files on disk again.
        """
        frames = [pack_frame(event) for event in events]
        directory = self.directory(start_ns)
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

    def directory(self, start_ns: int) -> Path:
        """Return the folder for the next events: the run's folder, or a folder for late events; creates no folder."""
        while self._place < len(self._folders) - 1 and self._comes_late(self._folders[self._place], start_ns):
            self._place += 1
        return self._folders[self._place]

    def row(self, name: str) -> "EventFile":
        """Return the event file of this stream in the folder ``name`` of the run's folder. Raises as the class."""
        found = self._rows.pop(name, None) or EventFile(self._logdir, self._stream, name)
        self._rows[name] = found
        if len(self._rows) > _ROWS_KEPT:
            self._rows.popitem(last=False)
        return found

    def sync(self) -> None:
        """Make what was appended durable, and the names of the file and its folders."""
        if self._path is not None:
            os.fsync(self._file)
            for folder in self._path.relative_to(self._logdir).parents:
                sync_folder(self._logdir / folder)

    def close(self) -> None:
        """Close the file; the next :meth:`append` opens the file again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self, directory: Path, wall_time_ns: int) -> Path:
        """Open the next file: a new file, or the last file when a failed write left it empty."""
        inside(self._logdir, directory).mkdir(parents=True, exist_ok=True)
        newest = next(map(EventFileName.parse, reversed(names_in(directory))), None)
        if newest is not None and newest.writer == self._writer and _is_empty(directory / str(newest)):
            path, flags = directory / str(newest), _APPEND
        else:
            path, flags = directory / str(next_name(directory, *self._writer, wall_time_ns)), _APPEND | _NEW
        self._file = os.open(path, flags, 0o644)
        return path

    def _continue(self, path: Path) -> None:
        if self._file < 0:
            self._file = os.open(path, _APPEND)
        found = os.fstat(self._file)
        if not found.st_nlink or found.st_size != self._size_bytes:
            raise FileNotFoundError(f"{path} was deleted or changed while it was written; events are written anew")

    def _comes_late(self, folder: Path, start_ns: int) -> bool:
        """Tell whether the last attempt that began in a folder is later than this stream."""
        names = own_names_in(folder)
        if not names or names[-1].writer == self._writer:
            return False
        if self._own_names(folder):
            return True
        begun = _begun_in(folder)
        own = Attempt(start_ns / 1e9, *self._writer, seen=len(begun))
        order = in_order([own, *begun.values()])
        return own in order[: order.index(begun.get(names[-1].writer, own))]

    def _own_names(self, directory: Path) -> list[EventFileName]:
        """Return the names of the files of this stream, in the order of writing."""
        return [name for name in own_names_in(directory) if name.writer == self._writer]

    def _read_back(self) -> EventId | None:
        """Return the id of the last event in all folders: the stream may have left a folder long ago."""
        return max(filter(None, map(self._last_id, self._folders)), default=None)

    def _last_id(self, directory: Path) -> EventId | None:
        for name in reversed(self._own_names(directory)):
            path = directory / str(name)
            identity = last_id(path) if path.is_file() else None
            if identity is not None and identity.stream == self._stream.id:
                return identity
        return None


def _begun_in(folder: Path) -> dict[tuple[int, str], Attempt]:
    """Return the attempts that wrote to a folder or to its folders for late events; they start at their first event."""
    found: dict[tuple[int, str], Attempt] = {}
    for directory in (folder, *late_directories(folder)):
        for name in own_names_in(directory):
            path = directory / str(name)
            if name.writer not in found and path.is_file():
                start_seconds = began_at_seconds(path)
                if start_seconds is not None:
                    found[name.writer] = Attempt(start_seconds, *name.writer, seen=len(found))
    return found


def _is_empty(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size == 0
