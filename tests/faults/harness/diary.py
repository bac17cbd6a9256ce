"""What a trainer has been promised, written down where no fault of these tests reaches: the oracle's left-hand side.

A diary is a file. Its owner writes a line after each call that came back, and what was written lies with the kernel:
no kill of the process takes it back. The first line names the stream, any other is ``<sequence> <microseconds>``.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

TAG: Final = "fault/value"
"""The scalar whose value is its own sequence number, in whatever recording it lies."""

# More than the stream's name and an entry.
_TAIL_BYTES: Final = 128


@dataclass(frozen=True)
class Returned:
    """The sequence numbers of one stream whose calls came back, and how long these calls took.

    A stream that ``may_refuse`` had little memory, and gaps may say so; a ``hostile`` one says what it likes.
    """

    stream: bytes
    sequences: frozenset[int]
    slowest_seconds: float = 0.0
    typical_seconds: float = 0.0
    """The median."""
    start_seconds: float = 0.0
    """How long the first took, that starts all."""
    may_refuse: bool = False
    hostile: bool = False

    @property
    def last(self) -> int:
        """The highest of them; 0 when none came back."""
        return max(self.sequences, default=0)

    @classmethod
    def up_to(cls, stream: bytes, last: int, *, hostile: bool = False) -> Self:
        """Return what a peer was promised that numbered its records from 1 to ``last``, and saw them acknowledged."""
        return cls(stream, frozenset(range(1, last + 1)), hostile=hostile)


class Diary:
    """Written by the trainer; ``line`` is one write(2)."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def begin(self, stream: bytes) -> None:
        """Name the stream whose calls come back from now on."""
        os.write(self._file, f"{stream.hex()}\n".encode())

    def line(self, sequence: int, seconds: float) -> None:
        """Note that the call which was given ``sequence`` came back after ``seconds``."""
        os.write(self._file, f"{sequence} {seconds * 1e6:.0f}\n".encode())


def read_diary(path: Path) -> Returned | None:
    """Return what a diary says; None while not even the stream is known. A line without an end was never written."""
    if not path.exists():
        return None
    *lines, _ = path.read_bytes().split(b"\n")
    if not lines:
        return None
    took = {int(number): int(micros) / 1e6 for number, micros in map(bytes.split, lines[1:])}
    calls = sorted(seconds for number, seconds in took.items() if number > 1) or [0.0]
    return Returned(
        bytes.fromhex(lines[0].decode()), frozenset(took), calls[-1], calls[len(calls) // 2], took.get(1, 0.0)
    )


def read_last(path: Path) -> int:
    """Return the last number that a diary holds, 0 when it holds none; looks at its end alone."""
    with suppress(FileNotFoundError), path.open("rb") as diary:
        size = diary.seek(0, os.SEEK_END)
        diary.seek(max(0, size - _TAIL_BYTES))
        *lines, _ = diary.read().split(b"\n")
        if len(lines) > 1:
            return int(lines[-1].split()[0])
    return 0


def read_diaries(paths: Iterable[Path]) -> list[Returned]:
    """Return what several diaries say; those of trainers that never got a stream say nothing."""
    return [returned for path in paths if (returned := read_diary(path)) is not None]
