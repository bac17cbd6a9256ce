"""What a recording holds, counted by reading all of it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import Gap, RunEnd
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import list_segments
from tensorboard_sidecar.protocol.stream import Stream


@dataclass(frozen=True, slots=True)
class GapRange:
    """Sequence numbers ``first`` to ``last`` that the trainer says it refused or lost."""

    first: int
    last: int
    reason: str
    kinds: dict[str, int]


@dataclass(slots=True)
class Contents:
    """A recording: who, when, how much of each kind (by name), and what is missing."""

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
        """Whether anything was lost, told or untold."""
        return bool(self.gaps or self.holes or self.damages or self.malformed)


def read_contents(folder: Path) -> Contents:
    """Read a recording to its end, decoding and checking every message.

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


def kind_name(kind: int) -> str:
    """Return a kind's name for people."""
    try:
        return Kind(kind).name.lower().replace("_", " ")
    except ValueError:
        return f"unknown kind {kind}"


def _count(found: Contents, record: Record) -> None:
    name = kind_name(record.kind)
    if not found.records:
        found.first_sequence, found.first_step = record.sequence, record.step
        found.first_time_ns = record.wall_time_ns
    found.records[name] += 1
    found.body_bytes[name] += len(record.body)
    found.last_sequence, found.last_time_ns = record.next_sequence - 1, record.wall_time_ns
    found.last_step = max(found.last_step, record.step)
    try:
        message = decode_message(record)
    except ProtocolError as error:
        found.malformed.append(f"sequence {record.sequence} ({name}): {error}")
        return
    if isinstance(message, Gap):
        found.gaps.append(GapRange(record.sequence, record.next_sequence - 1, message.reason, message.kinds))
    elif isinstance(message, RunEnd):
        found.status = message.status
