"""Segments: the files of a recording, each named after its first sequence number."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.codec import decode_message, encode_body
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.frame import Frame, pack_frame, read_frames
from tensorboard_sidecar.protocol.messages import SegmentHead
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record, parse_record
from tensorboard_sidecar.protocol.stream import Stream

SEGMENT_SUFFIX: Final = ".segment"
_NAME: Final = re.compile(r"[0-9]{20}\.segment")
# A head has some 200 bytes; a run name of 512 bytes and future fields fit many times.
SEGMENT_HEAD_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, order=True)
class SegmentFile:
    """A segment file; segments sort in reading order."""

    first_sequence: int
    path: Path


def segment_path(folder: Path, first_sequence: int) -> Path:
    """Return the path of the segment that begins at ``first_sequence``: its name is the number in 20 digits."""
    return folder / f"{first_sequence:020d}{SEGMENT_SUFFIX}"


def is_segment_name(name: str) -> bool:
    """Tell whether a file of this name is a segment; a recording's folder may hold other files."""
    return _NAME.fullmatch(name) is not None


def list_segments(folder: Path) -> list[SegmentFile]:
    """Return the segments of a recording in reading order; other files, folders and links are skipped."""
    with os.scandir(folder) as entries:
        names = [
            entry.name for entry in entries if is_segment_name(entry.name) and entry.is_file(follow_symlinks=False)
        ]
    return sorted(SegmentFile(int(name[:20]), folder / name) for name in names)


def pack_segment_head(stream: Stream, first_sequence: int, wall_time_ns: int) -> bytes:
    """Return the frame that opens a segment."""
    body = encode_body(stream.segment_head(first_sequence))
    return pack_frame(pack_record(Record(Kind.SEGMENT, 0, 0, wall_time_ns, body, 0)))


def read_first_record(path: Path) -> Record | None:
    """Return the first whole record of a segment: the head, or the copy behind a damaged head; None without a record.

    Raises ProtocolError, OSError.
    """
    with path.open("rb") as file:
        start = memoryview(file.read(2 * SEGMENT_HEAD_MAX_BYTES))
    frames = (item for item in read_frames(start) if isinstance(item, Frame))
    return next((parse_record(frame.payload) for frame in frames), None)


def read_segment_head(path: Path) -> SegmentHead:
    """Return the head of a segment. Raises Malformed when the file does not begin with a valid head, OSError."""
    try:
        record = read_first_record(path)
        head = decode_message(record) if record is not None else None
    except ProtocolError as error:
        raise Malformed(f"{path} begins with no valid segment head: {error}") from error
    if not isinstance(head, SegmentHead):
        size = path.stat().st_size
        raise Malformed(f"{path} begins with no segment head ({size} bytes); the file is no recording of this program")
    return head


def read_stream(segments: list[SegmentFile]) -> Stream:
    """Return the stream of a recording, from the first segment with a valid head.

    Raises Malformed when no segment has a valid head, OSError.
    """
    for segment in segments[:-1]:
        with suppress(Malformed):
            return Stream.of(read_segment_head(segment.path))
    return Stream.of(read_segment_head(segments[-1].path))
