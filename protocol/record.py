"""A record: a header of 40 bytes that every program reads, and a body that only the projection decodes; and batches.

The header carries the place of the record in its stream, so that shipping and journalling never decode a body. A batch
of whole framed records is checked when received and before being kept; only frame heads and record headers are read. A
batch is accepted as a whole or refused as a whole: one bad record refuses the good records beside it, and go-back-N
sends the good records again.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.errors import Malformed, UnsupportedVersion
from tensorboard_sidecar.protocol.frame import Buffer, Damage, Frame, read_frame
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES, SEQUENCE_MAX

RECORD_VERSION: Final = 1
HEADER: Final = struct.Struct("<BBHIIIQqq")
HEADER_SIZE_BYTES: Final = HEADER.size


class Kind(IntEnum):
    """Numbers and names of the kinds of records; ``protocol.kinds`` has a row with everything else for each of them."""

    SEGMENT = 0
    RUN_START = 1
    SCALARS = 2
    TENSOR_SUMMARIES = 3
    MATRIX = 4
    IMAGES = 5
    TEXT = 6
    AUDIO = 7
    EMBEDDING = 8
    GRAPH = 9
    LAYOUT = 10
    HPARAMS = 11
    GAP = 12
    RUN_END = 13
    POINT = 14
    OVERLAY = 15
    EVENT = 16
    VIDEO = 17
    PR_CURVE = 18
    PR_CURVE_RAW = 19
    MESH = 20
    BOXES = 21
    HISTOGRAM = 22
    TENSOR = 23


class Record(NamedTuple):
    """One record.

    ``kind`` may be unknown to this program. The record stands for ``span`` sequence numbers from ``sequence`` on: 1,
    more for a gap, 0 for a segment head.
    """

    kind: int
    sequence: int
    step: int
    wall_time_ns: int
    body: bytes
    span: int = 1

    @property
    def next_sequence(self) -> int:
        """The sequence number of the following record."""
        return self.sequence + self.span


def pack_header(kind: int, span: int, body_size_bytes: int, sequence: int, step: int, wall_time_ns: int) -> bytes:
    """Return the 40 bytes of the header; flags and the reserved field are zero in this version."""
    return HEADER.pack(RECORD_VERSION, kind, 0, span, body_size_bytes, 0, sequence, step, wall_time_ns)


def pack_record(record: Record) -> bytes:
    """Return the payload of the frame: header and body."""
    kind, sequence, step, wall_time_ns, body, span = record
    return pack_header(kind, span, len(body), sequence, step, wall_time_ns) + body


def parse_sequence(payload: Buffer) -> tuple[int, int, int]:
    """Return ``(kind, sequence, next_sequence)`` without the body; raises the errors of :func:`parse_record`."""
    kind, span, _, sequence, _, _ = _parse_header(payload)
    return kind, sequence, sequence + span


def parse_record(payload: Buffer) -> Record:
    """Parse the payload of a frame.

    Zero padding may follow the body: a slot in an outbox is reserved before the size of the body is known.

    Raises Malformed for a payload shorter than the header or the body, and for a sequence or span that the kind cannot
    have; UnsupportedVersion for another version.
    """
    kind, span, size, sequence, step, wall_time_ns = _parse_header(payload)
    body = bytes(payload[HEADER_SIZE_BYTES : HEADER_SIZE_BYTES + size])
    return Record(kind, sequence, step, wall_time_ns, body, span)


def _parse_header(payload: Buffer) -> tuple[int, int, int, int, int, int]:
    if len(payload) < HEADER_SIZE_BYTES:
        raise Malformed(f"a record of {len(payload)} bytes; its header alone has {HEADER_SIZE_BYTES}")
    version, kind, _, span, size, _, sequence, step, wall_time_ns = HEADER.unpack_from(payload)
    if version != RECORD_VERSION:
        raise UnsupportedVersion("record", version, RECORD_VERSION)
    if size > len(payload) - HEADER_SIZE_BYTES:
        raise Malformed(f"a body of {size:,} bytes in a record of {len(payload):,}")
    if (
        (span == 0 or sequence == 0) != (kind == Kind.SEGMENT)
        or (span > 1 and kind != Kind.GAP)
        or sequence + span > SEQUENCE_MAX
    ):
        raise Malformed(f"record of kind {kind} with sequence {sequence} and span {span}")
    return kind, span, size, sequence, step, wall_time_ns


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of the sequence numbers ``[first_sequence, next_sequence)``, byte for byte as received."""

    frames: memoryview
    first_sequence: int
    next_sequence: int


@dataclass(frozen=True, slots=True)
class Hole:
    """The batch begins after ``expected_sequence``: records before the batch were lost on the way."""

    expected_sequence: int


def check_batch(
    frames: memoryview, expected_sequence: int, *, record_size_max_bytes: int = RECORD_SIZE_MAX_BYTES
) -> FrameBatch | Hole:
    """Check every frame, and that sequence numbers are consecutive; drop the records before ``expected_sequence``.

    Returns an empty :class:`FrameBatch` when all records were received before. Raises Malformed or UnsupportedVersion.
    """
    offset, kept_from, following = 0, 0, None
    while offset < len(frames):
        frame = read_frame(frames, offset, payload_size_max_bytes=record_size_max_bytes, resynchronise=False)
        if not isinstance(frame, Frame):
            reason = frame.reason if isinstance(frame, Damage) else "cut off, or zeros"
            raise Malformed(f"no whole frame at byte {offset:,} of a batch of {len(frames):,}: {reason}")
        kind, sequence, next_sequence = parse_sequence(frame.payload)
        if kind == Kind.SEGMENT:
            raise Malformed("a segment head in a batch; every recording writes its own segment heads")
        if following not in (None, sequence):
            raise Malformed(f"sequence {sequence} follows in a batch; expected {following}")
        following, offset = next_sequence, frame.end
        if sequence < expected_sequence < next_sequence:
            raise Malformed(
                f"a gap over {sequence} to {next_sequence - 1} covers {expected_sequence - 1}, already kept"
            )
        if sequence < expected_sequence:
            kept_from = offset
        elif frame.start == 0 and sequence > expected_sequence:
            return Hole(expected_sequence)
    return FrameBatch(frames[kept_from:], expected_sequence, max(expected_sequence, following or 0))
