"""Describes an outbox from outside: reads the files, and locks or changes nothing."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.outbox_files import (
    NO_LOGGER,
    Destination,
    read_destination,
    read_spill_pointer,
)
from tensorboard_sidecar.protocol.outbox.owner_lock import Owner, read_owner
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_SUFFIX, SegmentFile, list_segments

# A running trainer deletes segments during the read.
_LOOKS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """The records ``[first_sequence, next_sequence)`` of ``run``; their bytes in memory and in the folder ``spill``."""

    folder: Path
    owner: Owner
    run: str
    destination: Destination
    first_sequence: int
    next_sequence: int
    memory_bytes: int
    spill: Path | None
    spilled_bytes: int
    age_seconds: float


def read_status(folder: Path, *, wall_time_ns: int) -> OutboxStatus:
    """Read the status of an outbox; raise ProtocolError or OSError when the outbox cannot be read."""
    for _ in range(_LOOKS_MAX):
        owner = read_owner(folder)
        with suppress(FileNotFoundError):
            return _look(folder, owner, wall_time_ns)
        if not owner.holds:
            break
    return _look(folder, owner, wall_time_ns)


def describe(status: OutboxStatus) -> str:
    """Return the status as one line of text, with the command that delivers the outbox if the owner is gone."""
    owner = status.owner
    process = f"pid {owner.process_id}" if owner.process_id else "its trainer"
    records = f"records {status.first_sequence:,} to {status.next_sequence - 1:,}"
    if status.next_sequence == status.first_sequence:
        records = "no records"
    holds = f"{status.memory_bytes:,} bytes"
    if status.spill is not None:
        holds += f" and {status.spilled_bytes:,} in {status.spill}"
    destination = status.destination
    logger = [destination.endpoint] if destination.endpoint not in ("", NO_LOGGER) else []
    recording = [f"its recording in {destination.record}"] if destination.record is not None else []
    run = " for ".join(filter(None, (f"run {status.run}", printable(" and ".join(logger + recording)))))
    line = f"{process} {'runs' if owner.holds else 'is gone'}, {run}, {records}, {holds}, the oldest "
    line += f"of {_duration(status.age_seconds)} ago"
    finish = "finish it" if destination.endpoint == NO_LOGGER else "ship it"
    return line if owner.holds else f"{line}; {finish} with: tensorboard-sidecar drain {status.folder}"


def _look(folder: Path, owner: Owner, wall_time_ns: int) -> OutboxStatus:
    segments = list_segments(folder)
    spill = read_spill_pointer(folder)
    spilled = list_segments(spill) if spill is not None else []
    if not segments:
        raise Malformed(f"{folder} holds no segments")
    reader = RecordingReader(folder, next_sequence=segments[-1].first_sequence)
    try:
        while reader.read_payloads():
            pass
    finally:
        reader.close()
    return OutboxStatus(
        folder,
        owner,
        reader.stream.run,
        read_destination(folder),
        min([*spilled, *segments]).first_sequence,
        max(reader.next_sequence, owner.given_sequence),
        _size_bytes(folder),
        spill,
        _size_bytes(spill) if spill is not None else 0,
        max(0.0, (wall_time_ns - _oldest_ns([*spilled, *segments])) / 1e9),
    )


def _oldest_ns(segments: Iterable[SegmentFile]) -> int:
    """Return the time of the oldest segment that still exists; raise FileNotFoundError when none exists."""
    for segment in sorted(segments):
        with suppress(FileNotFoundError):
            return segment.path.stat().st_mtime_ns
    raise FileNotFoundError("all segments were deleted during the read")


def _size_bytes(folder: Path) -> int:
    size = 0
    for path in (*folder.glob(f"*{SEGMENT_SUFFIX}"), *folder.glob("*.spare")):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _duration(seconds: float) -> str:
    """Return a duration in its largest unit, rounded down."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} seconds"
