"""The messages between a helper and its clients, all of them processes of one user, on a Unix stream socket.

A message is a length, u32 little-endian, and msgpack.

    client                          helper
      WATCH   ------------------->         show the recordings of this folder as they grow
      SYNC    ------------------->         answer when all records before the sequence number are shown
              <-------------------  SHOWN  the event files with these records are on disk
              <-------------------  TROUBLE  why the records of the folder are not shown; the recordings hold them
              <-------------------  FINDINGS what is wrong with the stream that WATCH names
      STATUS  ------------------->
              <-------------------  REPORT  what the helper does
"""

import struct
from collections.abc import Iterator
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import FINDINGS_MESSAGE_MAX, SEQUENCE_MAX

_LENGTH: Final = struct.Struct("<I")
# A path has 4,096 bytes at most; a report has some lines for each folder.
MESSAGE_SIZE_MAX_BYTES: Final = 2**20

_Sequence: TypeAlias = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
_StreamId: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Path: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=4096)]


class Watch(msgspec.Struct, frozen=True, tag=1):
    """Show the recordings below ``folder/.tensorboard-sidecar`` in ``folder`` while this connection is open.

    The client takes the findings of ``stream``, if a stream is named.
    """

    folder: _Path
    stream: _StreamId | None = None


class Sync(msgspec.Struct, frozen=True, tag=2):
    """Answer with SHOWN when the event files hold all records of ``stream`` before ``sequence``, durably."""

    stream: _StreamId
    sequence: _Sequence


class Shown(msgspec.Struct, frozen=True, tag=3):
    """The event files hold all records of ``stream`` before ``sequence``, durably."""

    stream: _StreamId
    sequence: _Sequence


class Trouble(msgspec.Struct, frozen=True, tag=4):
    """The records of the folder are not shown at present, for this reason."""

    reason: str


class StatusRequest(msgspec.Struct, frozen=True, tag=5):
    """Ask for a report."""


class FolderReport(msgspec.Struct, frozen=True):
    """A watched folder: its writers, how long its event files have been behind, and why if that is known."""

    folder: bytes
    writers: int
    lag_seconds: float
    trouble: str = ""


class Report(msgspec.Struct, frozen=True, tag=6):
    """What the helper does: its process, its resident memory, and the folders that it watches."""

    process_id: int
    memory_bytes: int
    folders: list[FolderReport] = []


class Findings(msgspec.Struct, frozen=True, tag=7):
    """The newest state of some findings of the stream. A finding of the same rule and tag replaces the earlier one."""

    findings: Annotated[list[Finding], Meta(max_length=FINDINGS_MESSAGE_MAX)]


HelperMessage: TypeAlias = Watch | Sync | Shown | Trouble | StatusRequest | Report | Findings
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[HelperMessage]] = msgspec.msgpack.Decoder(HelperMessage)


def pack_message(message: HelperMessage) -> bytes:
    """Return the bytes of a message."""
    body = _ENCODER.encode(message)
    return _LENGTH.pack(len(body)) + body


class MessageBuffer:
    """Collects received bytes; yields the messages that are complete."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> Iterator[HelperMessage]:
        """Yield the messages that ``data`` completes. Raises Malformed for bytes that are no message."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._data)
            if size > MESSAGE_SIZE_MAX_BYTES:
                raise Malformed(f"a message of {size:,} bytes; expected at most {MESSAGE_SIZE_MAX_BYTES:,}")
            end = _LENGTH.size + size
            if len(self._data) < end:
                return
            body = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            try:
                yield _DECODER.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Malformed(f"no message of a helper or its client: {error}") from None
