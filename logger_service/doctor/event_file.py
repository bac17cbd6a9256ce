"""Reads an event file of any program from its beginning to its end, one event at a time.

Other readers of this project map a file into memory. This one reads: its memory does not grow with the file, and the
file may be cut by its writer meanwhile. What follows a bad head is lost, as for TensorBoard.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.events.watched_values import EVENT_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.frame import (
    FRAME_OVERHEAD_BYTES,
    HEAD_SIZE_BYTES,
    Damage,
    Frame,
    read_frame,
    valid_length,
)

_BUFFER_SIZE_BYTES: Final = 2**20
_CRC_SIZE_BYTES: Final = FRAME_OVERHEAD_BYTES - HEAD_SIZE_BYTES


def read_payloads(path: Path) -> Iterator[memoryview | str]:
    """Yield the payload of each whole frame, and a line about each place that is none. Raises OSError."""
    with path.open("rb", buffering=_BUFFER_SIZE_BYTES) as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while head := file.read(HEAD_SIZE_BYTES):
            length = valid_length(head, 0) if len(head) == HEAD_SIZE_BYTES else None
            if length is None:
                whole = len(head) == HEAD_SIZE_BYTES and any(head)
                yield f"byte {offset:,}: bad head checksum" if whole else _cut_off(size - offset)
                return
            end = offset + length + FRAME_OVERHEAD_BYTES
            if end > size:
                yield _cut_off(size - offset)
                return
            if length > EVENT_SIZE_MAX_BYTES:
                yield f"byte {offset:,}: an event of {length:,} bytes; at most {EVENT_SIZE_MAX_BYTES:,} are read"
                file.seek(end)
            else:
                frame = head + file.read(length + _CRC_SIZE_BYTES)
                match read_frame(memoryview(frame), 0, payload_size_max_bytes=length, resynchronise=False):
                    case Frame(payload=payload):
                        yield payload
                    case Damage(reason=reason):
                        yield f"byte {offset:,}: {reason}"
                    case _:  # the file was cut meanwhile
                        yield _cut_off(len(frame))
                        return
            offset = end


def _cut_off(left: int) -> str:
    return f"the last {left:,} bytes are no event: a write that was cut off"
