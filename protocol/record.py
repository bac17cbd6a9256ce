"""A record: the fixed header every program reads, and a body that only the projection decodes.

The header says where the record stands in its stream, so that shipping and journalling never look inside the body.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.errors import Malformed, UnsupportedVersion
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX

RECORD_VERSION: Final = 1
HEADER: Final = struct.Struct("<BBHIIIQqq")
HEADER_SIZE_BYTES: Final = HEADER.size


class Kind(IntEnum):
    """What a record says; see ``protocol.messages`` for the bodies."""

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


class Record(NamedTuple):
    """One record.

    ``kind`` may be unknown to this program (a newer trainer's): skip and count it. ``sequence`` is the first and
    ``span`` the number of sequence numbers it stands for (1, but for a gap; 0 for a segment's head).
    """

    kind: int
    sequence: int
    step: int
    wall_time_ns: int
    body: bytes
    span: int = 1

    @property
    def next_sequence(self) -> int:
        """The sequence number that the following record must have."""
        return self.sequence + self.span


def pack_header(kind: int, span: int, body_size_bytes: int, sequence: int, step: int, wall_time_ns: int) -> bytes:
    """Return the 40 header bytes; flags and the reserved field are zero in this version."""
    return HEADER.pack(RECORD_VERSION, kind, 0, span, body_size_bytes, 0, sequence, step, wall_time_ns)


def pack_record(record: Record) -> bytes:
    """Return the payload of the record's frame."""
    kind, sequence, step, wall_time_ns, body, span = record
    return pack_header(kind, span, len(body), sequence, step, wall_time_ns) + body


def parse_sequence(payload: Buffer) -> tuple[int, int, int]:
    """Read only ``(kind, sequence, next_sequence)``; raise as :func:`parse_record` does."""
    kind, span, _, sequence, _, _ = _parse_header(payload)
    return kind, sequence, sequence + span


def parse_record(payload: Buffer) -> Record:
    """Parse a frame's payload.

    The body may be followed by zero padding (a slot reserved before its size was known).

    Raises Malformed for a short payload, a body larger than it or numbers that its kind cannot have,
    UnsupportedVersion for another version.
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
