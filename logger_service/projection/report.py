"""What the projection's process tells its parent: counts and positions, a line of JSON at a time, through a pipe.

Nobody waits: a line that does not fit into the pipe is left out, and what it would have said comes with a later one. A
line fits into PIPE_BUF, so that it is written whole or not at all. The parent takes nothing on trust: what is no report
is dropped and counted.
"""

import os
import select
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX

REPORT_SECONDS: Final = 1.0
# Of some 60 bytes each; with the counts before them they fit into a line.
_POSITIONS_MAX: Final = 48
# What the parent reads at a time: all that a pipe holds.
_PIPE_SIZE_BYTES: Final = 2**16

_Number = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
_StreamId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class ProjectionState(msgspec.Struct, frozen=True):
    """How it is with a projection: ``waits`` for room, may write in its log directory, fails with so many recordings.

    ``stuck`` are those of them that fail at the file system or at this program, not at what is in them.
    The disk is that of the log directory; it has 0 bytes when it does not tell.
    """

    waits: bool = False
    writable: bool = True
    failing: _Number = 0
    disk_free_bytes: _Number = 0
    disk_size_bytes: _Number = 0
    stuck: _Number = 0


class ProjectionReport(msgspec.Struct, frozen=True):
    """Counts since the child's start; for streams that moved, the number behind the last that was projected."""

    counts: dict[str, _Number]
    positions: dict[_StreamId, _Number]
    state: ProjectionState


_DECODER: Final = msgspec.json.Decoder(ProjectionReport)


class ReportWriter:
    """The child's end: writes reports to the pipe ``file``, once a second at most; anything else gets none."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._told: dict[bytes, int] = {}
        self._tell_at_seconds = float("-inf")
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            os.set_blocking(file, False)
        else:
            self._tell_at_seconds = float("inf")

    def __repr__(self) -> str:
        return f"<ReportWriter to {self._file}, {len(self._told)} streams told>"

    def due(self, now_seconds: float) -> bool:
        """Tell whether it is time to."""
        return now_seconds >= self._tell_at_seconds

    def tell(
        self, now_seconds: float, counts: Counts, positions: Iterable[tuple[bytes, int]], state: ProjectionState
    ) -> None:
        """Tell what is new, if it is time to."""
        if not self.due(now_seconds):
            return
        self._tell_at_seconds = now_seconds + REPORT_SECONDS
        moved = [(stream, sequence) for stream, sequence in positions if self._told.get(stream) != sequence]
        for start in range(0, max(1, len(moved)), _POSITIONS_MAX):
            some = dict(moved[start : start + _POSITIONS_MAX])
            report = ProjectionReport(asdict(counts), {stream.hex(): some[stream] for stream in some}, state)
            try:
                os.write(self._file, msgspec.json.encode(report) + b"\n")
            except OSError:  # full, or nobody is left to read
                return
            self._told.update(some)


class ReportReader:
    """The parent's end: what a child said so far, and when it said it last."""

    def __init__(self, file: int, now: float) -> None:
        os.set_blocking(file, False)
        self._file = file
        self._rest = b""
        self.heard_at = now
        self.state = ProjectionState()
        self.counts: dict[str, int] = {}
        self.malformed = 0

    def __repr__(self) -> str:
        return f"<ReportReader heard at {self.heard_at:.1f}: {self.counts}>"

    def read(self, now: float) -> Iterator[tuple[bytes, int]]:
        """Take what was said; yield the positions, by stream id."""
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self._file, _PIPE_SIZE_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-select.PIPE_BUF :]
        for line in lines:
            try:
                report = _DECODER.decode(line)
            except msgspec.DecodeError:
                self.malformed += 1
                continue
            self.heard_at, self.state, self.counts = now, report.state, report.counts
            yield from ((bytes.fromhex(stream), sequence) for stream, sequence in report.positions.items())
