"""The frame of the record of one scalar, prepared for a tag: a loop logs the same tags at each step.

Four numbers change from record to record. The bytes are those of
``pack_frame(pack_record(Record(Kind.SCALARS, ..., encode_scalars({tag: value}))))``.
"""

import struct
from functools import lru_cache
from typing import Any, Final

from crc32c import crc32c

from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, mask_crc, pack_head
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind, pack_header

# The end of the header: sequence number, step and wall time. The fields before (version, kind, flags, span, size of the
# body) are the same for all records of a tag.
_CHANGING: Final = "Qqq"
_SAME_SIZE_BYTES: Final = HEADER_SIZE_BYTES - struct.calcsize(f"<{_CHANGING}")
# The end of the body: the value, as msgpack has it.
_VALUE: Final = struct.Struct(">d")
_pack_value: Final = _VALUE.pack
_write_head: Final = struct.Struct(f"{HEAD_SIZE_BYTES}s").pack_into


class ScalarTemplate:
    """The frame of ``Scalars({tag: value})``, of ``frame_size_bytes``: all bytes but those of the numbers.

    >>> from tensorboard_sidecar.protocol.frame import pack_frame
    >>> from tensorboard_sidecar.protocol.record import Record, pack_record
    >>> template, buffer = ScalarTemplate("loss"), bytearray(100)
    >>> template.write(buffer, 0, sequence=1, step=100, wall_time_ns=0, value=0.25)
    >>> expected = pack_frame(pack_record(Record(Kind.SCALARS, 1, 100, 0, encode_scalars({"loss": 0.25}))))
    >>> buffer[: template.frame_size_bytes] == expected
    True
    """

    __slots__ = ("_body_start", "_head", "_header_start", "_pack", "_write_rest", "frame_size_bytes")

    def __init__(self, tag: str) -> None:
        body = encode_scalars({tag: 0.0})
        size_bytes = HEADER_SIZE_BYTES + len(body)
        self.frame_size_bytes = size_bytes + FRAME_OVERHEAD_BYTES
        self._head = pack_head(size_bytes)
        self._header_start = pack_header(Kind.SCALARS, 1, len(body), 0, 0, 0)[:_SAME_SIZE_BYTES]
        self._body_start = body[: -_VALUE.size]
        self._pack, self._write_rest = _layouts(len(self._body_start))

    def write(self, buffer: Any, start: int, sequence: int, step: int, wall_time_ns: int, value: float) -> None:
        """Write the frame into a buffer; the head last, so that a kill in the middle leaves no valid frame.

        The numbers must be in range, as in every record. Raises TypeError for a closed ``mmap``.
        """
        payload = self._pack(self._header_start, sequence, step, wall_time_ns, self._body_start, _pack_value(value))
        self._write_rest(buffer, start + HEAD_SIZE_BYTES, payload, mask_crc(crc32c(payload)))
        _write_head(buffer, start, self._head)


@lru_cache(maxsize=4 * TAG_MAX_CHARACTERS)  # tags of equal size in UTF-8 share their layouts
def _layouts(body_start_bytes: int) -> tuple[Any, Any]:
    """Return the functions that pack a payload, and write a payload and its checksum into a buffer."""
    payload = struct.Struct(f"<{_SAME_SIZE_BYTES}s{_CHANGING}{body_start_bytes}s{_VALUE.size}s")
    return payload.pack, struct.Struct(f"<{payload.size}sI").pack_into
