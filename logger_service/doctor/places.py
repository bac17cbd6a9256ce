"""Where there is something to judge: recordings and folders of event files, each once, at any depth below some paths.

Rule 1: a recording is judged rather than the event files that were made of it: more is in it. Which event files these
are, their names tell.
Rule 2: what no rule can see is said, and the rest is judged: a folder without permission, a file that is no file.
Rule 3: links are followed after everything else, so that a folder has its own name, and a circle ends.
"""

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.doctor.verdict import EVERY_RULE, RunNotChecked
from tensorboard_sidecar.logger_service.events.embedding_projector import MARKER_FILE_SUFFIX
from tensorboard_sidecar.logger_service.events.event_file import Attempt, EventFileName, in_order
from tensorboard_sidecar.logger_service.findings.roles import Role, role_of_curve
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.storage.recording_reader import Beginning, beginning_of, find_recordings

_EVENT_FILE: Final = "events.out.tfevents."
# Digits of a stream's id in the names of its event files.
_STREAM_DIGITS: Final = 8
# Places of which it is said one by one that they cannot be read.
UNREAD_MAX: Final = 100


class StreamPlace(NamedTuple):
    """The recordings of one stream, in reading order: mostly one."""

    run: str
    beginning: Beginning
    folders: tuple[Path, ...]
    superseded: bool


class EventsPlace(NamedTuple):
    """The event files of one folder, in reading order. ``part`` comes before each tag when the rules look at it."""

    run: str
    files: tuple[Path, ...]
    part: str = ""


@dataclass(slots=True)
class Places:
    """Everything that can be judged, and what cannot be read."""

    streams: list[StreamPlace] = field(default_factory=list)
    folders: list[EventsPlace] = field(default_factory=list)
    unread: list[RunNotChecked] = field(default_factory=list)

    def note(self, run: str, reason: str) -> None:
        """Note a place that cannot be read."""
        if len(self.unread) < UNREAD_MAX:
            self.unread.append(RunNotChecked(run, EVERY_RULE, reason))


class _Recording(NamedTuple):
    """A recording: the folder that holds the recordings of all runs, and the name of the run."""

    home: Path
    run: str
    begin: Beginning
    folder: Path


class _Folder(NamedTuple):
    """A folder of event files: the path that led to it, and the names of the files."""

    path: Path
    folder: Path
    names: set[str]


def find_places(paths: Sequence[Path]) -> Places:
    """Find everything that can be judged at or below ``paths``.

    Raises FileNotFoundError for a path that does not exist, or that has neither recordings nor event files.
    """
    places = Places()
    recordings: dict[str, _Recording] = {}
    folders: dict[tuple[int, int], _Folder] = {}
    for path in paths:
        found, unread = 0, len(places.unread)
        for one in _recordings(path, places):
            recordings.setdefault(os.path.realpath(one.folder), one)
            found += 1
        for folder, names in _event_folders(path, places):
            folders.setdefault(_identity(folder), _Folder(path, folder, set())).names.update(names)
            found += 1
        if not found and len(places.unread) == unread:
            raise FileNotFoundError(f"neither recordings nor event files at or below {path}")
    places.unread = list(dict.fromkeys(places.unread))
    places.streams = _streams(recordings.values())
    shown = {one.beginning.stream.id.hex()[:_STREAM_DIGITS] for one in places.streams}
    known = {folder for _, folder, _ in folders.values()}
    runs = Counter(run_name(path, folder) for path, folder, _ in folders.values())
    for path, folder, several in folders.values():
        run = run_name(path, folder)
        if runs[run] > 1:  # below two of the paths
            run = shown_path(folder)
        if own := tuple(folder / name for name in sorted(several) if not _is_made_of(name, shown)):
            places.folders.append(EventsPlace(run, own, _part_of_run(folder, known)))
    return places


def run_name(path: Path, folder: Path) -> str:
    r"""Return the name of a folder as TensorBoard shows it for the log directory ``path``, with all bytes shown.

    >>> run_name(Path("runs"), Path("runs/team/first")), run_name(Path("runs"), Path("runs"))
    ('team/first', 'runs')
    """
    below = os.path.relpath(folder, path)
    if below == "." or below.startswith(".."):
        below = Path(os.path.abspath(folder)).name or str(folder)  # noqa: PTH100 - a path of two dots has a name as well
    return shown_path(below)


def shown_path(path: Path | str) -> str:
    """Return a path as text; bytes that are no text are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _part_of_run(folder: Path, known: Collection[Path]) -> str:
    """Return a prefix for the tags of a folder that has the validation of a run whose other curves are elsewhere.

    Keras writes ``train`` and ``validation``, TensorFlow's estimator a folder ``eval`` in the run, and ``add_scalars``
    of SummaryWriter a folder ``loss_val``, with the tags of training: ``loss``. A run that is called ``test`` is no
    such part.
    """
    if role_of_curve(f"{folder.name}/loss") is not Role.VALIDATION_LOSS:
        return ""
    beside = folder.parent in known or any(folder.parent / name in known for name in ("train", "training"))
    return f"{folder.name}/" if beside else ""


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_made_of(name: str, streams: set[str]) -> bool:
    parsed = EventFileName.parse(name)
    return parsed is not None and parsed.stream in streams


def _recordings(path: Path, places: Places) -> Iterator[_Recording]:
    for folder, _ in find_recordings(path):
        try:
            begin = beginning_of(folder)
        except (ProtocolError, OSError) as error:
            places.note(run_name(path, folder), f"recording {folder} is not readable: {error}")
            continue
        hidden = [parent for parent in folder.absolute().parents if parent.name == RECORDING_NAME]
        if hidden:  # TensorBoard shows it as the folder of its log directory
            yield _Recording(hidden[0], run_name(path.absolute(), hidden[0].parent), begin, folder)
        else:
            depth = begin.stream.run.count("/") + 1
            home = folder.absolute().parents[min(depth, len(folder.absolute().parents) - 1)]
            yield _Recording(home, begin.stream.run, begin, folder)


def _streams(recordings: Iterable[_Recording]) -> list[StreamPlace]:
    """Join the recordings of each stream; order the streams by run, rank and attempt."""
    runs: defaultdict[tuple[str, Path], dict[bytes, list[_Recording]]] = defaultdict(lambda: defaultdict(list))
    homes: defaultdict[str, set[Path]] = defaultdict(set)
    seen: dict[bytes, tuple[str, Path]] = {}
    for one in recordings:
        key = seen.setdefault(one.begin.stream.id, (one.run, one.home))  # a journal, and a recording by the trainer
        runs[key][one.begin.stream.id].append(one)
        homes[one.run].add(key[1])
    return [
        place
        for run, home in sorted(runs)
        for place in _attempts(run if len(homes[run]) == 1 else str(home / run), runs[run, home])
    ]


def _attempts(run: str, streams: dict[bytes, list[_Recording]]) -> Iterator[StreamPlace]:
    """Yield the streams of a run, earlier attempts first."""
    for several in streams.values():
        several.sort(key=lambda one: (one.begin.start_ns, one.folder))
    first = {identity: several[0].begin for identity, several in streams.items()}
    ranks: defaultdict[int, list[Attempt]] = defaultdict(list)
    for stream, start_ns, seen_ns in first.values():
        ranks[stream.rank].append(Attempt(start_ns / 1e9, stream.attempt, stream.id.hex(), seen_ns / 1e9))
    highest = max(begin.stream.attempt for begin in first.values())
    for rank in sorted(ranks):
        ordered = in_order(ranks[rank])
        for attempt in ordered:
            identity = bytes.fromhex(attempt.stream)
            superseded = attempt is not ordered[-1] or _is_left_behind(attempt, ranks, highest)
            folders = tuple(one.folder for one in streams[identity])
            yield StreamPlace(run, first[identity], folders, superseded)


def _is_left_behind(attempt: Attempt, ranks: dict[int, list[Attempt]], highest: int) -> bool:
    """Tell whether the run began again, with fewer processes, after ``attempt``."""
    return attempt.number < highest and any(
        other.number == highest and other.start_seconds > attempt.start_seconds
        for several in ranks.values()
        for other in several
    )


def _event_folders(path: Path, places: Places) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders with event files and the names of the files; a ``path`` may be a file. See the rules above."""
    if path.is_file() and path.name.startswith(_EVENT_FILE):
        yield path.parent, [path.name]
    waiting, entered = [path], set[str]()
    while waiting:
        links: list[Path] = []
        start = waiting.pop(0)
        for folder, folders, files in os.walk(start, onerror=lambda error: _note_error(places, path, error)):
            here = Path(folder)
            real = os.path.realpath(here)
            if real in entered:
                folders.clear()
                continue
            entered.add(real)
            folders.sort()
            links += (here / name for name in folders if (here / name).is_symlink())
            names = [name for name in sorted(files) if _is_event_file(here / name, path, places)]
            if names:
                yield here, names
        waiting += links


def _is_event_file(file: Path, path: Path, places: Places) -> bool:
    name = file.name
    if not name.startswith(_EVENT_FILE) or (name.endswith(MARKER_FILE_SUFFIX) and not EventFileName.parse(name)):
        return False
    try:
        found = file.stat()
    except OSError as error:
        places.note(run_name(path, file.parent), f"{name} cannot be read: {error.strerror}")
        return False
    if not stat.S_ISREG(found.st_mode):
        places.note(run_name(path, file.parent), f"{name} is no file")
        return False
    return True


def _note_error(places: Places, path: Path, error: OSError) -> None:
    folder = Path(os.fsdecode(error.filename)) if error.filename else path
    # A path that does not exist has nothing to judge, which is an error of its own.
    if folder != path or not isinstance(error, FileNotFoundError | NotADirectoryError):
        places.note(run_name(path, folder), f"the folder cannot be read: {error.strerror}")
