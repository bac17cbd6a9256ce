"""Reports of the projection's process to its parent: one line of JSON each, through a pipe.

The child never blocks on the pipe: a line that does not fit is dropped, and a later report carries the same positions.
A line is shorter than PIPE_BUF: the system writes all of a line or nothing. The parent drops and counts invalid lines.
"""

import os
import select
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from tensorboard_sidecar.logger_service.counters import Counters, counter
from tensorboard_sidecar.logger_service.projection.findings_report import (
    FindingReport,
    OpenReport,
    ReportedFindings,
    Unsent,
)
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX

REPORT_SECONDS: Final = 1.0
# A position takes about 60 bytes; this many fit into a line behind the counts.
_POSITIONS_MAX: Final = 48
# The capacity of a pipe; the parent reads all of it at once.
_PIPE_SIZE_BYTES: Final = 2**16
# A child reports once a second, except during its start and during a single drawing.
SILENCE_SECONDS: Final = 60.0
# This many failed drawings in a row are a trouble.
UNDRAWN_MAX: Final = 3
# A recording that has been stuck for this long is a trouble.
STUCK_SECONDS: Final = 30.0
# Streams whose position is kept: more than a logger serves at a time.
_STREAMS_MAX: Final = 16_384

_Number = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
_StreamId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


@dataclass(slots=True)
class ProjectionCounts(Counters):
    """Counters since the start of a projection."""

    records: _Number = counter("records projected to event files")
    events: _Number = counter("events written")
    event_bytes: _Number = counter("bytes of these events")
    unknown_kinds: _Number = counter("records of kinds that this logger does not know")
    malformed: _Number = counter("records whose body is corrupt")
    drawings: _Number = counter("records whose pictures were drawn")
    drawing_failures: _Number = counter("records that could not be drawn")
    gaps: _Number = counter("gaps in the streams of trainers")
    missing_records: _Number = counter("records that these gaps stand for")
    damages: _Number = counter("damaged places in recordings")
    findings_opened: _Number = counter("findings that opened")
    findings_cleared: _Number = counter("findings that cleared")
    rows_left_out: _Number = counter("sets of hyperparameters without a row: the run has too many")
    folders_left_out: _Number = counter("events for folders in a run's folder that were left out: too many folders")
    stream_failures: _Number = counter("times a recording could not be projected")


class ProjectionState(msgspec.Struct, frozen=True):
    """The state of a projection at the time of its report."""

    waits: bool = False
    """Whether nothing is written because the disk of the log directory is nearly full."""
    writable: bool = True
    """Whether the process may write to the log directory."""
    failing: _Number = 0
    """Recordings that cannot be projected."""
    disk_free_bytes: _Number = 0
    disk_size_bytes: _Number = 0
    """The disk of the log directory; 0 if the file system does not report its size."""
    stuck: _Number = 0
    """Those of the failing recordings that are valid: the file system or this program is at fault."""
    silent: _Number = 0
    """Runs that go on and have sent nothing for long (see ``logger_service.findings.silence``)."""


class ProjectionReport(msgspec.Struct, frozen=True, tag="projection"):
    """Counters since the start of the child, and the positions that changed since its last report.

    ``positions`` maps the hexadecimal id of a stream to the sequence number that the child projects next.
    """

    counts: ProjectionCounts
    positions: dict[_StreamId, _Number]
    state: ProjectionState


Report: TypeAlias = ProjectionReport | FindingReport | OpenReport
_DECODER: Final[msgspec.json.Decoder[Report]] = msgspec.json.Decoder(Report)


class ReportWriter:
    """The child's end: writes reports to the file descriptor ``file``, at most one a second.

    A file that is no pipe gets no reports.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._written: dict[bytes, int] = {}
        self._written_open: Counter[str] | None = None
        self._unsent = Unsent()
        self._write_at_seconds = float("-inf")
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            os.set_blocking(file, False)
        else:
            self._write_at_seconds = float("inf")

    def is_due(self, now_seconds: float) -> bool:
        """Return whether it is time for a report."""
        return now_seconds >= self._write_at_seconds

    def write(
        self,
        now_seconds: float,
        counts: ProjectionCounts,
        positions: Iterable[tuple[bytes, int]],
        state: ProjectionState,
        findings: Iterable[tuple[bytes, Collection[Finding]]] = (),
    ) -> None:
        """Write a report if one is due, in as many lines as the changed positions and findings need.

        ``findings`` are those of each stream that goes on.
        """
        if not self.is_due(now_seconds):
            return
        self._write_at_seconds = now_seconds + REPORT_SECONDS
        moved = [(stream, sequence) for stream, sequence in positions if self._written.get(stream) != sequence]
        for start in range(0, max(1, len(moved)), _POSITIONS_MAX):
            some = dict(moved[start : start + _POSITIONS_MAX])
            if not self._put(ProjectionReport(counts, {stream.hex(): some[stream] for stream in some}, state)):
                return
            self._written.update(some)
        self._write_findings(dict(findings))

    def _write_findings(self, findings: Mapping[bytes, Collection[Finding]]) -> None:
        opened = Counter(one.rule for several in findings.values() for one in several if one.state == "open")
        if opened != self._written_open:
            if not self._put(OpenReport(dict(opened))):
                return
            self._written_open = opened
        for stream, finding in self._unsent.changes(findings.items()):
            if not self._put(FindingReport.of(stream, finding)):
                return
            self._unsent.sent(stream, finding)

    def _put(self, report: Report) -> bool:
        """Write a line; return whether it was written: the pipe may be full, or the parent gone."""
        try:
            os.write(self._file, msgspec.json.encode(report) + b"\n")
        except OSError:
            return False
        return True


class ReportReader:
    """The parent's end: reads reports from the file descriptor ``file``, and never blocks."""

    def __init__(self, file: int) -> None:
        os.set_blocking(file, False)
        self._file = file
        self._rest = b""
        self.malformed = 0

    def read(self) -> list[Report]:
        """Return the reports that arrived since the last call."""
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self._file, _PIPE_SIZE_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-select.PIPE_BUF :]
        reports = []
        for line in lines:
            try:
                reports.append(_DECODER.decode(line))
            except msgspec.DecodeError:
                self.malformed += 1
        return reports


@dataclass(slots=True)
class ReportedHealth:
    """What the children reported, one child after another, and the trouble that follows from it.

    Pure: every call receives the time. ``positions`` holds, by stream id, the sequence number that is projected next.
    """

    positions: dict[bytes, int] = field(default_factory=dict, repr=False)
    state: ProjectionState = field(default_factory=ProjectionState)
    findings: ReportedFindings = field(default_factory=ReportedFindings, repr=False)
    _ended_counts: ProjectionCounts = field(default_factory=ProjectionCounts)
    _counts: ProjectionCounts = field(default_factory=ProjectionCounts)
    _heard_at_seconds: float | None = None  # None: there is no child
    _reported: bool = False
    _drawings: int = 0
    _undrawn_before: int = 0
    _stuck_since_seconds: float | None = None

    @property
    def counts(self) -> ProjectionCounts:
        """The sum over all children."""
        return self._ended_counts + self._counts

    def child_started(self, now_seconds: float) -> None:
        """Expect reports from now on."""
        self._heard_at_seconds = now_seconds

    def child_ended(self) -> None:
        """Keep the counts of the child; expect no reports."""
        self._ended_counts, self._counts = self.counts, ProjectionCounts()
        self.state = ProjectionState(stuck=self.state.stuck)  # a restart repairs no recording
        self._heard_at_seconds = None

    def hear(self, report: Report, now_seconds: float) -> None:
        """Take a report of the present child."""
        if not isinstance(report, ProjectionReport):
            self.findings.hear(report)
            return
        self._heard_at_seconds, self._reported = now_seconds, True
        self.state, self._counts = report.state, report.counts
        for stream, sequence in report.positions.items():
            self.positions.pop(bytes.fromhex(stream), None)  # the stream that moved last comes last
            self.positions[bytes.fromhex(stream)] = sequence
        while len(self.positions) > _STREAMS_MAX:
            del self.positions[next(iter(self.positions))]
        if self.counts.drawings > self._drawings:
            self._drawings, self._undrawn_before = self.counts.drawings, self.counts.drawing_failures
        if not self.state.stuck:
            self._stuck_since_seconds = None
        elif self._stuck_since_seconds is None:
            self._stuck_since_seconds = now_seconds

    def trouble(self, now_seconds: float) -> str:
        """Return the reason why event files are not written, or an empty text."""
        if not self.state.writable:
            return "the log directory cannot be written"
        if self.state.waits:
            return "event files wait: the disk of the log directory is nearly full"
        silent_seconds = 0.0 if self._heard_at_seconds is None else now_seconds - self._heard_at_seconds
        if silent_seconds >= SILENCE_SECONDS:
            return f"the projection has not reported for {silent_seconds:.0f} s"
        undrawn = self.counts.drawing_failures - self._undrawn_before
        if undrawn >= UNDRAWN_MAX:
            return f"nothing is drawn: the last {undrawn} pictures failed"
        if self._stuck_since_seconds is not None and now_seconds - self._stuck_since_seconds >= STUCK_SECONDS:
            return f"event files of {self.state.stuck} recordings cannot be written"
        return "" if self._reported else "the projection is starting"
