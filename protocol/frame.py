"""TFRecord framing, the layer below records: one reader serves recordings and event files.

A frame is ``u64 length | u32 masked crc32c(length) | payload | u32 masked crc32c(payload)``, little-endian.

A head is valid when its checksum is right and its length within the limit.

Rule 1: zeros from where a head should be are the end (the tail of a preallocated segment), unless a valid head
follows them. No valid head is all zero, since the masked checksum of a zero length is not.
Rule 2: a frame that runs over the end of the buffer is torn: the end, until somebody completes it.
Rule 3: a bad payload costs that frame; a bad head costs everything up to the next valid head.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias

from crc32c import crc32c

from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES

Buffer: TypeAlias = bytes | bytearray | memoryview

HEAD_SIZE_BYTES: Final = 12
FRAME_OVERHEAD_BYTES: Final = 16
_HEAD: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")
_ZERO_HEAD: Final = bytes(HEAD_SIZE_BYTES)
# A length below 4 GiB ends in four zero bytes, the needle when looking for the next head.
_ZERO_RUN: Final = re.compile(rb"\0{4,}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose two checksums are right, at ``[start, end)`` of the buffer."""

    start: int
    end: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes ``[start, end)`` that are no frame; reading goes on at ``end``."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more to read at ``start``; ``needed`` bytes from there would complete a torn frame (0: clean end)."""

    start: int
    needed: int = 0


def mask_crc(crc: int) -> int:
    """Mask a CRC-32C as TFRecord does: rotate right by 15 bits, add 0xa282ead8 (tensorflow/core/lib/hash/crc32c.h)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def masked_crc(data: Buffer) -> int:
    """Masked CRC-32C of ``data``."""
    return mask_crc(crc32c(data))


def pack_head(length: int) -> bytes:
    """Twelve bytes: the payload's length and its checksum."""
    packed = _LENGTH.pack(length)
    return packed + _CRC.pack(masked_crc(packed))


def pack_tail(payload: Buffer) -> bytes:
    """Four bytes: the payload's checksum."""
    return _CRC.pack(masked_crc(payload))


def pack_frame(payload: Buffer) -> bytes:
    """Return the whole frame around ``payload``."""
    return b"".join((pack_head(len(payload)), payload, pack_tail(payload)))


def read_frame(
    buffer: memoryview,
    start: int,
    *,
    payload_size_max_bytes: int = RECORD_SIZE_MAX_BYTES,
    resynchronise: bool = True,
) -> Frame | Damage | End:
    """Read what lies at ``start``: a frame, damage, or the end.

    Without ``resynchronise`` a bad head costs the rest of the buffer: no search for those who refuse damage anyway.
    """
    left = len(buffer) - start
    if left < HEAD_SIZE_BYTES:
        return End(start, HEAD_SIZE_BYTES if any(buffer[start:]) else 0)
    length = valid_length(buffer, start)
    if length is None or length > payload_size_max_bytes:
        found = _next_head(buffer, start + 1, payload_size_max_bytes) if resynchronise else None
        zeros = buffer[start : start + HEAD_SIZE_BYTES] == _ZERO_HEAD
        if zeros and found is None:
            return End(start)
        wrong = "bad head checksum" if length is None else f"payload of {length:,} bytes is too large"
        may_begin = max(start + 1, len(buffer) - HEAD_SIZE_BYTES + 1)
        return Damage(start, may_begin if found is None else found, "zeros between frames" if zeros else wrong)
    end = start + length + FRAME_OVERHEAD_BYTES
    if end > len(buffer):
        return End(start, end - start)
    payload = buffer[start + HEAD_SIZE_BYTES : end - 4]
    if _CRC.unpack_from(buffer, end - 4)[0] != masked_crc(payload):
        return Damage(start, end, "bad payload checksum")
    return Frame(start, end, payload)


def read_frames(buffer: memoryview, start: int = 0) -> Iterator[Frame | Damage | End]:
    """Yield everything from ``start`` on; the last item is always an :class:`End`."""
    while True:
        item = read_frame(buffer, start)
        yield item
        if isinstance(item, End):
            return
        start = item.end


def valid_length(buffer: Buffer, start: int) -> int | None:
    """Return the payload length the head at ``start`` tells, or None when its checksum is wrong."""
    length, crc = _HEAD.unpack_from(buffer, start)
    return int(length) if masked_crc(_LENGTH.pack(length)) == crc else None


def _next_head(buffer: memoryview, start: int, payload_size_max_bytes: int) -> int | None:
    """Return the offset of the first valid head from ``start`` on, or None."""
    for zeros in _ZERO_RUN.finditer(buffer, start + 4):
        # The upper half of the length lies in these zeros. Of the places that this leaves, only the first four and the
        # last can be a head: at any other, the length is zero and its checksum begins with a zero, which is wrong.
        first, last = zeros.start() - 4, min(zeros.end() - 8, len(buffer) - HEAD_SIZE_BYTES)
        for at in chain(range(first, min(first + 4, last)), range(max(first, last), last + 1)):
            length = valid_length(buffer, at)
            if length is not None and length <= payload_size_max_bytes:
                return at
    return None
