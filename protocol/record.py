"""A record: a header of 40 bytes that every program reads, and a body that only the projection decodes.

The header carries the place of the record in its stream, so that shipping and journalling never decode a body.
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


class Record(NamedTuple):
    """One record.

    ``kind`` may be unknown to this program (a newer trainer made the record): skip and count such records. The record
    stands for ``span`` sequence numbers from ``sequence`` on: 1, more for a gap, 0 for a segment head.
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
