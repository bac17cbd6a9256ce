"""Contents of a recording, counted by reading all records, and their description for people."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, assert_never

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.kinds import find_kind
from tensorboard_sidecar.protocol.messages import Gap, RunEnd, RunStart, SegmentHead, UserMessage
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader, require_recordings
from tensorboard_sidecar.protocol.storage.segment import list_segments
from tensorboard_sidecar.protocol.stream import Stream

# Lines of each sort of loss in a description; the last line counts the others.
_SHOWN_MAX: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class GapRange:
    """Sequence numbers ``first`` to ``last``, inclusive, that the trainer refused or lost."""

    first: int
    last: int
    reason: str
    kinds: dict[str, int]


@dataclass(slots=True)
class Contents:
    """Contents of a recording: identity, ranges, records and bytes of each kind (by title), and losses."""

    folder: Path
    stream: Stream
    size_bytes: int = 0
    segments: int = 0
    status: str = ""
    first_sequence: int = 0
    last_sequence: int = 0
    first_step: int = 0
    last_step: int = 0
    first_time_ns: int = 0
    last_time_ns: int = 0
    records: Counter[str] = field(default_factory=Counter)
    body_bytes: Counter[str] = field(default_factory=Counter)
    gaps: list[GapRange] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)

    @property
    def lossy(self) -> bool:
        """Whether records are missing, damaged or malformed."""
        return bool(self.gaps or self.holes or self.damages or self.malformed)


def read_contents(folder: Path) -> Contents:
    """Read a recording to its end; decode and check every message.

    Raises Malformed when the first segment has no valid head, OSError.
    """
    reader = RecordingReader(folder)
    found = Contents(folder, reader.stream)
    try:
        while records := reader.read():
            for record in records:
                _count(found, record)
    finally:
        reader.close()
    sizes = [segment.path.stat().st_size for segment in list_segments(folder)]
    found.segments, found.size_bytes = len(sizes), sum(sizes)
    found.holes, found.damages = reader.holes, reader.damages
    return found


def kind_title(number: int) -> str:
    """Return the title of a kind; ``unknown kind 77`` for the kind of a newer program.

    >>> kind_title(3)
    'tensor summaries'
    """
    row = find_kind(number)
    return f"unknown kind {number}" if row is None else row.title


def inspect(paths: Sequence[Path]) -> str:
    """Describe every recording at or below ``paths``. Raises FileNotFoundError when there is no recording, OSError."""
    return "\n".join(printable(line) for folder in require_recordings(paths) for line in _describe(folder))


def losses(found: Contents) -> Iterator[str]:
    """Yield lines about everything that is missing from a recording: ten of each sort, and the number of the others."""
    gaps = [
        f"gap: {gap.last - gap.first + 1:,} records, sequence {gap.first:,} to {gap.last:,}: {gap.reason:.200}"
        + "".join(f", {number:,} {kind:.80}" for kind, number in list(gap.kinds.items())[:_SHOWN_MAX])
        for gap in found.gaps
    ]
    holes = [f"hole: sequence {first:,} to {last:,} is missing" for first, last in found.holes]
    damages = [f"damage: {damage}" for damage in found.damages]
    malformed = [f"malformed: {reason}" for reason in found.malformed]
    for lines in (gaps, holes, damages, malformed):
        yield from (f"  {line}" for line in lines[:_SHOWN_MAX])
        if len(lines) > _SHOWN_MAX:
            yield f"  ... and {len(lines) - _SHOWN_MAX:,} more"


def _count(found: Contents, record: Record) -> None:
    title = kind_title(record.kind)
    if not found.records:
        found.first_sequence, found.first_step = record.sequence, record.step
        found.first_time_ns, found.last_step = record.wall_time_ns, record.step
    found.records[title] += 1
    found.body_bytes[title] += len(record.body)
    found.last_sequence, found.last_time_ns = record.next_sequence - 1, record.wall_time_ns
    found.last_step = max(found.last_step, record.step)
    try:
        message = decode_message(record)
    except ProtocolError as error:
        found.malformed.append(f"sequence {record.sequence} ({title}): {error}")
        return
    match message:
        case Gap():
            found.gaps.append(GapRange(record.sequence, record.next_sequence - 1, message.reason, message.kinds))
        case RunEnd():
            found.status = message.status
        case SegmentHead() | RunStart() | UserMessage() | None:  # counted above; None: an unknown kind
            pass
        case _:
            assert_never(message)


def _describe(folder: Path) -> Iterator[str]:
    try:
        found = read_contents(folder)
    except ProtocolError as error:
        yield from (f"{folder}", f"  not readable: {error}", "")
        return
    stream = found.stream
    yield f"{folder}"
    yield f"  run        {stream.run}"
    yield f"  stream     {stream.id.hex()}, attempt {stream.attempt}, rank {stream.rank}"
    yield f"  status     {found.status or 'no end of run: still written, or the trainer was killed'}"
    if found.records:
        yield f"  time       {_time(found.first_time_ns)} to {_time(found.last_time_ns)}"
        yield f"  steps      {found.first_step:,} to {found.last_step:,}"
        yield f"  sequence   {found.first_sequence:,} to {found.last_sequence:,}"
    yield f"  size       {found.size_bytes:,} bytes in {found.segments:,} segments"
    for title, number in sorted(found.records.items()):
        yield f"  {title:<18} {number:>12,} records {found.body_bytes[title]:>16,} bytes"
    yield from losses(found)
    yield ""


def _time(wall_time_ns: int) -> str:
    """Return a time in UTC, or as seconds for a time outside the calendar of Python."""
    try:
        return f"{_EPOCH + timedelta(microseconds=wall_time_ns // 1000):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{wall_time_ns / 1e9:,.0f} s"
