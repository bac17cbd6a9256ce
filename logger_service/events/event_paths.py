"""Paths of event files: the folders of a stream, the file names in a folder, and the order of the attempts of a run.

TensorBoard reads the files of a folder in the order of their names, so that names must only grow within a folder.
"""

import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.protocol.stream import Stream

_LATE_PREFIX: Final = "attempt-"
_ROW_PREFIX: Final = "hparams-"
_ROW: Final = re.compile(rf"{_ROW_PREFIX}[0-9a-f]{{12}}")
_PREFIX: Final = "events.out.tfevents."
_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\.([0-9]{4,})\.([0-9a-f]{8})\.([0-9]{4,})")
_ANY_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\..*", re.DOTALL)
# The next second has one more digit, and its name would sort before all others.
_SECONDS_MAX: Final = 9_999_999_999


def run_directory(logdir: Path, stream: Stream, row: str = "") -> Path:
    """Return ``<logdir>/<run>`` for rank 0, ``<logdir>/<run>/rank-<n>`` for other ranks; creates no folder.

    ``row`` is the name of a folder in it: see :func:`row_name`.

    Raises Malformed or TooLarge for a run that is no safe relative path, PermissionError when a symbolic link leads
    out of the log directory.
    """
    parts = check_run(stream.run).split("/")
    if stream.rank:
        parts.append(f"rank-{stream.rank}")
    if row:
        parts.append(row)
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


def late_directory(logdir: Path, stream: Stream, depth: int = 1, row: str = "") -> Path:
    """Return the folder for late events, which arrive after a later attempt began in the run's folder.

    ``depth`` 1 is ``attempt-<n>`` in the run's folder; ``depth`` 2 is the same within that folder, for events that are
    late there as well. ``row`` is as in :func:`run_directory`.
    """
    names = [f"{_LATE_PREFIX}{stream.attempt}"] * depth
    return inside(logdir, run_directory(logdir, stream, row).joinpath(*names))


def late_directories(directory: Path) -> list[Path]:
    """Return the folders for late events in a folder."""
    return sorted(path for path in directory.glob(f"{_LATE_PREFIX}*") if comes_late(path) and path.is_dir())


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
    """``events.out.tfevents.<start, seconds>.<attempt>.<stream, first 8 hex digits>.<counter>``."""

    start_seconds: int
    attempt: int
    stream: str
    counter: int

    def __str__(self) -> str:
        return f"{_PREFIX}{self.start_seconds:010d}.{self.attempt:04d}.{self.stream}.{self.counter:04d}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the parts of a name that this program gave; None for the name of another program."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(int(match[1]), int(match[2]), match[3], int(match[4]))

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


def next_name(directory: Path, attempt: int, stream: str, wall_time_ns: int) -> EventFileName:
    """Return the name of the next file of a stream, which sorts behind all files in the folder.

    Raises FileExistsError when no name sorts behind them.
    """
    names = names_in(directory)
    parsed = list(filter(None, map(EventFileName.parse, names)))
    own = [name for name in parsed if name.writer == (attempt, stream)]
    others = map(_ANY_NAME.fullmatch, set(names) - set(map(str, own)))
    newest_other = max((int(match[1]) for match in others if match is not None), default=-1)
    start_seconds = max(own[-1].start_seconds if own else wall_time_ns // 10**9, newest_other + 1, 0)
    name = EventFileName(start_seconds, attempt, stream, max((name.counter + 1 for name in own), default=0))
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
