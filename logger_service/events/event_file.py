"""Event files: the folders and names of the files, the order of the attempts of a run, and the writer of one stream.

Rule 1: only the object that created a file, or found the file empty, appends to the file. After a crash the next object
begins a new file, with a name that sorts later, and writes the events that a torn file lost. Nothing is truncated,
renamed or rewritten: TensorBoard's loaders follow none of that. (The content of a file that was empty depends on the
records alone: a loader that read the file before the file was emptied misses nothing.)
Rule 2: one write holds all events of a record. The ids in the events on disk tell which were written.
Rule 3: names only grow within a folder, even when the clocks of its writers go back: TensorBoard reads the files of a
folder in the order of their names.
Rule 4: a folder has one writer. After a later attempt has begun in the run's folder, late events of an earlier attempt
(they were in the memory of a killed trainer, or the trainer still runs) go to the folder ``attempt-<n>`` in the run's
folder: in the run's folder they would hide the newer events. A stream never returns to a folder that it left.

A stream also writes to folders in the run's folder: one for each set of hyperparameters (see ``events.hparams_rows``),
and those that a message names (see ``events.beside``). The same rules hold there.
"""

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from tensorboard_sidecar.logger_service.events.identity import EventId, began_at_seconds, last_id
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.protocol.storage.durable import sync_file, sync_folder
from tensorboard_sidecar.protocol.stream import Stream

_LATE_PREFIX: Final = "attempt-"
_ROW_PREFIX: Final = "hparams-"
_ROW: Final = re.compile(rf"{_ROW_PREFIX}[0-9a-f]{{12}}")
_PREFIX: Final = "events.out.tfevents."
_NAME: Final = re.compile(
    r"events\.out\.tfevents\.([0-9]{10})\.([0-9]{4,})\.([0-9a-f]{8})\.([0-9]{4,})((?:[_-].*)?)", re.DOTALL
)
_ANY_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\..*", re.DOTALL)
# The next second has one more digit, and its name would sort before all others.
_SECONDS_MAX: Final = 9_999_999_999
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# LRU: a folder that comes again when this many others came since then begins a new file. More than a stream has (1,000
# rows of hyperparameters and 1,000 folders that messages name): a closed file takes some kilobytes of memory.
_BESIDE_KEPT: Final = 2_048


def run_directory(logdir: Path, stream: Stream, folder: str = "", *, in_place: bool = False) -> Path:
    """Return ``<logdir>/<run>`` for rank 0, ``<logdir>/<run>/rank-<n>`` for other ranks; creates no folder.

    ``folder`` is the path of a folder in it. With ``in_place``, the log directory itself is the folder of the run.

    Raises Malformed or TooLarge for a run that is no safe relative path, PermissionError when a symbolic link leads
    out of the log directory.
    """
    parts = [] if in_place else check_run(stream.run).split("/")
    if stream.rank:
        parts.append(f"rank-{stream.rank}")
    if folder:
        parts.append(folder)
    return inside(logdir, logdir.joinpath(*parts))


def row_name(digest: bytes) -> str:
    """Return the name of the folder, in a run's folder, for a set of hyperparameters with a digest of 6 bytes."""
    return f"{_ROW_PREFIX}{digest.hex()}"


def rows_in(directory: Path) -> int:
    """Return the number of folders for sets of hyperparameters in a run's folder."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        return sum(1 for entry in entries if _ROW.fullmatch(entry.name))
    return 0


def is_row(directory: Path) -> bool:
    """Tell whether the name of a folder is that of a set of hyperparameters, or of late events of such a set."""
    return bool(_ROW.fullmatch(directory.name)) or (comes_late(directory) and is_row(directory.parent))


def comes_late(directory: Path) -> bool:
    """Tell whether the name of a folder is that of a folder for late events."""
    return directory.name.startswith(_LATE_PREFIX) and directory.name.removeprefix(_LATE_PREFIX).isdecimal()


def inside(root: Path, path: Path) -> Path:
    """Return ``path``, which is under ``root`` with all symbolic links followed; raise PermissionError otherwise."""
    # realpath, not Path.resolve: Path.resolve raises RuntimeError for a circle of links.
    leads_to = Path(os.path.realpath(path))
    if not leads_to.is_relative_to(os.path.realpath(root)):
        raise PermissionError(f"{path} leads to {leads_to}, outside of {root}; nothing is written there")
    return path


class EventFileName(NamedTuple):
    """``events.out.tfevents.<start, seconds>.<attempt>.<stream, first 8 hex digits>.<counter><suffix>``.

    ``suffix`` is empty or begins with ``_`` or ``-``: see :meth:`with_suffix`.
    """

    start_seconds: int
    attempt: int
    stream: str
    counter: int
    suffix: str = ""

    def __str__(self) -> str:
        return f"{_PREFIX}{self.start_seconds:010d}.{self.attempt:04d}.{self.stream}.{self.counter:04d}{self.suffix}"

    def with_suffix(self, suffix: str) -> Self:
        """Return the name with another suffix, after ``_`` if the suffix begins with neither ``_`` nor ``-``.

        Without this sign a digit would belong to the counter, and a copy with ".bak" at its end would be a file of this
        program.
        """
        return self._replace(suffix=suffix if suffix[:1] in ("", "_", "-") else f"_{suffix}")

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the parts of a name that this program gave; None for the name of another program."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(int(match[1]), int(match[2]), match[3], int(match[4]), match[5])

    @property
    def writer(self) -> tuple[int, str]:
        """Attempt and stream that wrote the file."""
        return self.attempt, self.stream


def names_in(directory: Path) -> list[str]:
    """Return the names of all event files in a folder, in TensorBoard's order; no folders, and files of any program."""
    try:
        with os.scandir(directory) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name.startswith(_PREFIX) and not entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def own_names_in(directory: Path) -> list[EventFileName]:
    """Return the names that this program gave, in the order of writing."""
    return list(filter(None, map(EventFileName.parse, names_in(directory))))


def next_name(directory: Path, attempt: int, stream: str, wall_time_ns: int, suffix: str = "") -> EventFileName:
    """Return the name of the next file of a stream, which sorts behind all files in the folder.

    Raises FileExistsError when no name sorts behind them.
    """
    names = names_in(directory)
    parsed = list(filter(None, map(EventFileName.parse, names)))
    own = [name for name in parsed if name.writer == (attempt, stream)]
    others = map(_ANY_NAME.fullmatch, set(names) - set(map(str, own)))
    newest_other = max((int(match[1]) for match in others if match is not None), default=-1)
    start_seconds = max(own[-1].start_seconds if own else wall_time_ns // 10**9, newest_other + 1, 0)
    counter = max((name.counter + 1 for name in own), default=0)
    name = EventFileName(start_seconds, attempt, stream, counter).with_suffix(suffix)
    if own and str(name) < str(own[-1]):  # the counter has one more digit: 10000 sorts before 9999
        name = name._replace(start_seconds=start_seconds + 1)
    if name.start_seconds > _SECONDS_MAX:
        raise FileExistsError(f"no name of an event file sorts behind {names[-1]} in {directory}; move that file away")
    return name


class Attempt(NamedTuple):
    """One attempt of a run by one process.

    ``start_seconds`` is the start by the clock of the trainer, ``number`` counts the starts of the run, ``stream`` is
    the id of the stream. ``seen`` orders attempts by when the logger first saw them: a time, or a place in a list.
    """

    start_seconds: float
    number: int
    stream: str
    seen: float


def in_order(attempts: Collection[Attempt]) -> list[Attempt]:
    """Return the attempts of one run and one rank, the earliest first: the order of their events in a folder.

    Clocks alone do not give the order: a clock that was set back puts a resumed attempt before the attempt that it
    continues. Numbers alone do not give the order: every fresh start begins at 0 again. The rules are:

    - Fresh starts follow each other by their clocks.
    - A resumed attempt belongs to the last attempt with a lower number and an earlier start.
    - Without such an attempt (a clock was wrong, or the earlier attempts were recorded elsewhere) the resumed attempt
      belongs to the first attempt with a lower number that the logger saw before it: the logger sees all attempts with
      one clock.
    - Attempts that belong together follow each other by number.
    """
    begins: dict[Attempt, float] = {}
    for attempt in sorted(attempts, key=lambda each: each.number):
        lower = [other for other in begins if other.number < attempt.number]
        before = [other for other in lower if other.start_seconds <= attempt.start_seconds]
        seen = [other for other in lower if other.seen <= attempt.seen]
        if before or seen:
            begins[attempt] = begins[max(before) if before else min(seen)]
        else:
            begins[attempt] = attempt.start_seconds
    return sorted(attempts, key=lambda each: (begins[each], each.number, each.start_seconds, each.stream))


@dataclass(slots=True)
class _Current:
    """The file that is appended to: its size, and how much of it is durable."""

    path: Path
    size_bytes: int = 0
    synced_bytes: int = 0


class EventFile:
    """Appends the events of ``stream`` under ``logdir``; ``last_id`` is the id of the last event on disk, or None.

    ``folder`` is the path of a folder in the run's folder, which then takes the place of the run's folder;
    ``in_place``: see :func:`run_directory`. ``start_ns`` is the time of the first record of the stream, in all calls.
    ``suffix`` ends the names of new files; at first it is that of the newest file on disk. Raises PermissionError when
    a link leads from the run's folder out of the log directory, NotADirectoryError when the folder is a file, OSError.
    """

    def __init__(self, logdir: Path, stream: Stream, folder: str = "", *, in_place: bool = False) -> None:
        self._logdir, self._stream, self._in_place = logdir, stream, in_place
        # The run's folder, the folder for late events in it, and the folder for events that are late there as well.
        self._folders, late = (
            [run_directory(logdir, stream, folder, in_place=in_place)],
            f"{_LATE_PREFIX}{stream.attempt}",
        )
        self._folders += (inside(logdir, self._folders[0].joinpath(*[late] * depth)) for depth in (1, 2))
        names = [self._own_names(each) for each in self._folders]
        self._place = max((place for place, own in enumerate(names) if own), default=0)
        self.suffix = names[self._place][-1].suffix if names[self._place] else ""
        self._file = -1
        self._current: _Current | None = None
        self._beside: OrderedDict[str, EventFile] = OrderedDict()
        # The last event in all folders: the stream may have left a folder long ago.
        self.last_id = max(filter(None, map(self._last_id, self._folders)), default=None)

    @property
    def folder(self) -> Path:
        """The folder of the events that do not come late."""
        return self._folders[0]

    @property
    def begun(self) -> bool:
        """Whether the stream has a file in the folder."""
        return self._current is not None or any(map(self._own_names, self._folders))

    @property
    def stream_id(self) -> bytes:
        """The id of the stream."""
        return self._stream.id

    @property
    def _writer(self) -> tuple[int, str]:
        return self._stream.attempt, self._stream.id.hex()[:8]

    def append(self, events: Sequence[bytes], wall_time_ns: int, start_ns: int) -> None:
        """Append serialised events by one write.

        ``wall_time_ns`` is the time of the first event; the name and the first event of a new file carry this time.
        Raises OSError, also when another program deleted or changed the file: the caller then makes a new
        :class:`EventFile`, which reads the files on disk again.
        """
        frames = [pack_frame(event) for event in events]
        directory = self.directory(start_ns)
        if self._current is not None and self._current.path.parent != directory:
            self.sync()
            self.close()
            self._current = None
        if self._current is None:
            self._current = _Current(self._begin(directory, wall_time_ns))
            frames.insert(0, pack_frame(version_event(wall_time_ns)))
        else:
            self._continue(self._current)
        view = memoryview(b"".join(frames))
        self._current.size_bytes += len(view)
        while view:
            view = view[os.write(self._file, view) :]

    def directory(self, start_ns: int) -> Path:
        """Return the folder for the next events: the run's folder, or a folder for late events; creates no folder."""
        while self._place < len(self._folders) - 1 and self._comes_late(self._folders[self._place], start_ns):
            self._place += 1
        return self._folders[self._place]

    def beside(self, folder: str) -> "EventFile":
        """Return the event file of this stream in a folder of the run's folder. Raises as the class."""
        found = self._beside.pop(folder, None) or EventFile(self._logdir, self._stream, folder, in_place=self._in_place)
        found.suffix = self.suffix
        self._beside[folder] = found
        if len(self._beside) > _BESIDE_KEPT:
            self._beside.popitem(last=False)
        return found

    def forget(self, folder: str) -> None:
        """Drop the event file of a folder in the run's folder: nothing is written there."""
        self._beside.pop(folder, None)

    def count_beside(self, folders_max: int) -> int:
        """Return the number of folders in the run's folder with files of this stream, without rows of hyperparameters.

        At most ``folders_max`` folders, of any kind, are looked into.
        """
        unread, seen, found = [self.folder], 0, set()
        while unread and seen < folders_max:
            directory, seen = unread.pop(), seen + 1
            if self._own_names(directory):
                found.add(next(each for each in (directory, *directory.parents) if not comes_late(each)))
            with suppress(OSError), os.scandir(directory) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
                unread += [directory / name for name in sorted(names) if not (name[0] == "." or _ROW.fullmatch(name))]
        return len(found - {self.folder})

    def sync(self) -> None:
        """Make durable what this stream has in its folder, and the names of the files and their folders."""
        current = self._current
        if current is not None and current.size_bytes == current.synced_bytes > 0:
            return
        folder = self._folders[self._place] if current is None else current.path.parent
        if current is not None and current.synced_bytes:
            sync_file(current.path)
        elif names := self._own_names(folder):
            for name in names[-2:]:  # also the file of an object before this one, which may have ended before its sync
                sync_file(folder / str(name))
            for parent in {folder, *(self._logdir / parent for parent in folder.relative_to(self._logdir).parents)}:
                sync_folder(parent)
        if current is not None:
            current.synced_bytes = current.size_bytes

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
            path, flags = (
                directory / str(next_name(directory, *self._writer, wall_time_ns, self.suffix)),
                _APPEND | os.O_CREAT | os.O_EXCL,
            )
        self._file = os.open(path, flags, 0o644)
        return path

    def _continue(self, current: _Current) -> None:
        if self._file < 0:
            self._file = os.open(current.path, _APPEND)
        found = os.fstat(self._file)
        if not found.st_nlink or found.st_size != current.size_bytes:
            raise FileNotFoundError(
                f"{current.path} was deleted or changed while it was written; events are written anew"
            )

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
        return [name for name in own_names_in(directory) if name.writer == self._writer]

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
    late = sorted(path for path in folder.glob(f"{_LATE_PREFIX}*") if comes_late(path) and path.is_dir())
    for directory in (folder, *late):
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
