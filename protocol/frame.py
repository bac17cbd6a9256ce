"""TFRecord framing, the layer below records: one reader serves recordings and event files.

A frame is ``u64 length | u32 masked crc32c(length) | payload | u32 masked crc32c(payload)``, little-endian.

The first 12 bytes are the head. A head is valid when its checksum is right and its length within the limit.

Rule 1: zeros at the place of a head are the end (the tail of a preallocated segment), unless a valid head follows
the zeros. No valid head is all zero: the masked checksum of the length 0 is not zero.
Rule 2: a frame that runs over the end of the buffer is torn. A torn frame is the end, until the writer completes the
frame.
Rule 3: a bad payload costs one frame; a bad head costs everything up to the next valid head.
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
# A length below 4 GiB ends in four zero bytes: the search for the next head looks for these.
_ZERO_RUN: Final = re.compile(rb"\0{4,}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with two right checksums, at ``[start, end)`` of the buffer."""

    start: int
    end: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes ``[start, end)`` without a frame; reading goes on at ``end``."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of the frames, at ``start``; ``needed`` bytes from there would complete a torn frame (0: clean end)."""

    start: int
    needed: int = 0


def mask_crc(crc: int) -> int:
    """Mask a CRC-32C as TFRecord does: rotate right by 15 bits, add 0xa282ead8 (tensorflow/core/lib/hash/crc32c.h)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def masked_crc(data: Buffer) -> int:
    """Return the masked CRC-32C of ``data``."""
    return mask_crc(crc32c(data))


def pack_head(length: int) -> bytes:
    """Return the head, 12 bytes: the length of the payload, and the checksum of the length."""
    packed = _LENGTH.pack(length)
    return packed + _CRC.pack(masked_crc(packed))


def pack_frame(payload: Buffer) -> bytes:
    """Return the whole frame: the head, the payload, and the checksum of the payload."""
    return b"".join((pack_head(len(payload)), payload, _CRC.pack(masked_crc(payload))))


def read_frame(
    buffer: memoryview,
    start: int,
    *,
    payload_size_max_bytes: int = RECORD_SIZE_MAX_BYTES,
    resynchronise: bool = True,
) -> Frame | Damage | End:
    """Read a frame, damage, or the end at ``start``.

    Without ``resynchronise`` a bad head costs the rest of the buffer: callers that refuse all damage need no search.
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
    """Yield all frames and damage from ``start`` on; the last item is always an :class:`End`."""
    while True:
        item = read_frame(buffer, start)
        yield item
        if isinstance(item, End):
            return
        start = item.end


def valid_length(buffer: Buffer, start: int) -> int | None:
    """Return the payload length in the head at ``start``, or None for a wrong checksum."""
    length, crc = _HEAD.unpack_from(buffer, start)
    return int(length) if masked_crc(_LENGTH.pack(length)) == crc else None


def _next_head(buffer: memoryview, start: int, payload_size_max_bytes: int) -> int | None:
    """Return the offset of the first valid head from ``start`` on, or None."""
    for zeros in _ZERO_RUN.finditer(buffer, start + 4):
        # The upper half of the length lies in these zeros. Only the first four places and the last place that this
        # leaves can be a head: at every other place the length is zero and the checksum begins with a zero byte, but
        # the checksum of a zero length does not.
        first, last = zeros.start() - 4, min(zeros.end() - 8, len(buffer) - HEAD_SIZE_BYTES)
        for at in chain(range(first, min(first + 4, last)), range(max(first, last), last + 1)):
            length = valid_length(buffer, at)
            if length is not None and length <= payload_size_max_bytes:
                return at
    return None
