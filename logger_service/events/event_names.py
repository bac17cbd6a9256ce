"""Names of event files. TensorBoard reads the files of a folder by name, so that names must only grow there."""

import os
import re
from pathlib import Path
from typing import Final, NamedTuple, Self

_PREFIX: Final = "events.out.tfevents."
_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\.([0-9]{4,})\.([0-9a-f]{8})\.([0-9]{4,})")
_ANY_NAME: Final = re.compile(r"events\.out\.tfevents\.([0-9]{10})\..*", re.DOTALL)
# One more has one digit more, and would sort before all others.
_SECONDS_MAX: Final = 9_999_999_999


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

    @property
    def writer(self) -> tuple[int, str]:
        """Whose file it is."""
        return self.attempt, self.stream


def names_in(directory: Path) -> list[str]:
    """Return the names of event files in a folder, whoever's, in TensorBoard's order. Folders are no event files."""
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
    """Return the name of a stream's next file, which sorts behind all that are there.

    Raises FileExistsError when no name does.
    """
    names = names_in(directory)
    parsed = list(filter(None, map(EventFileName.parse, names)))
    own = [name for name in parsed if name.writer == (attempt, stream)]
    others = map(_ANY_NAME.fullmatch, set(names) - set(map(str, own)))
    newest_other = max((int(match[1]) for match in others if match is not None), default=-1)
    start_seconds = max(own[-1].start_seconds if own else wall_time_ns // 10**9, newest_other + 1, 0)
    name = EventFileName(start_seconds, attempt, stream, max((name.counter + 1 for name in own), default=0))
    if own and str(name) < str(own[-1]):  # the counter has a digit more, as 10000 behind 9999
        name = name._replace(start_seconds=start_seconds + 1)
    if name.start_seconds > _SECONDS_MAX:
        raise FileExistsError(f"no name of an event file sorts behind {names[-1]} in {directory}; move that file away")
    return name
