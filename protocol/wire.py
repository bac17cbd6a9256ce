"""Messages between trainer and logger over DEALER - ROUTER, one ZeroMQ frame a message.

``version u8 | type u8 | body``: the body of DATA is a batch of framed records, the body of any other type is msgpack.

    trainer                         logger
      HELLO  ----------------------->         the identity of the stream
             <-----------------------  WELCOME  send from next_sequence, at most credit_bytes unacknowledged
             <-----------------------  REJECT   refused, with the reason; retry: whether a later HELLO can succeed
      DATA   ----------------------->         a batch of whole records
             <-----------------------  ACK      everything before next_sequence is on disk
             <-----------------------  NAK      send again from next_sequence (0: send HELLO first)
             <-----------------------  FINDINGS what is wrong with the run, to a trainer whose HELLO asks for findings
      BYE    ----------------------->         everything is acknowledged; the logger forgets the peer
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.msgpack import Decoder

from tensorboard_sidecar.protocol.codec import decode_body, encode_body
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge, UnsupportedVersion
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.limits import (
    CONTROL_MESSAGE_SIZE_MAX_BYTES,
    FINDINGS_MESSAGE_MAX,
    FINDINGS_SIZE_MAX_BYTES,
    SEQUENCE_MAX,
)
from tensorboard_sidecar.protocol.stream import Stream

WIRE_VERSION: Final = 1

Sequence: TypeAlias = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
Size: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """Opens a stream; ``next_sequence`` is the first sequence number that the trainer still holds.

    ``findings``: the trainer takes FINDINGS. Earlier trainers close the connection at a message that they do not know.
    """

    stream: bytes
    run: str
    rank: int
    attempt: int
    next_sequence: Sequence
    findings: bool = False

    def identity(self) -> Stream:
        """Return the identity of the stream; raise Malformed or TooLarge for an impossible identity."""
        numbers_fit = 0 <= self.rank < 2**31 and 0 <= self.attempt < 2**31 and self.next_sequence > 0
        if len(self.stream) != 16 or not numbers_fit:
            raise Malformed(
                f"HELLO with a stream id of {len(self.stream)} bytes, rank {self.rank}, attempt {self.attempt},"
                f" next sequence {self.next_sequence}"
            )
        return Stream(self.run, self.rank, self.attempt, self.stream)


class Welcome(msgspec.Struct, frozen=True):
    """Everything before ``next_sequence`` is on disk; at most ``credit_bytes`` may be sent and unacknowledged."""

    next_sequence: Sequence
    credit_bytes: Size


class Reject(msgspec.Struct, frozen=True):
    """The logger refuses the stream or its data; ``retry``: whether a later HELLO can succeed."""

    reason: str
    retry: bool


class Data(msgspec.Struct, frozen=True):
    """A batch of whole framed records."""

    frames: memoryview


class Ack(msgspec.Struct, frozen=True):
    """Everything before ``next_sequence`` is on disk; ``credit_bytes`` replaces the credit of earlier answers."""

    next_sequence: Sequence
    credit_bytes: Size


class Nak(msgspec.Struct, frozen=True):
    """Asks for all records from ``next_sequence`` on; 0 asks for a HELLO first."""

    next_sequence: Sequence


class Bye(msgspec.Struct, frozen=True):
    """The trainer has nothing more to send, and everything sent is acknowledged."""


class Findings(msgspec.Struct, frozen=True):
    """The newest state of some findings of the stream. A finding of the same rule and tag replaces the earlier one."""

    findings: Annotated[list[Finding], Meta(max_length=FINDINGS_MESSAGE_MAX)]


WireMessage: TypeAlias = Hello | Welcome | Reject | Data | Ack | Nak | Bye | Findings
_TYPES: Final[tuple[type[WireMessage], ...]] = (Hello, Welcome, Reject, Data, Ack, Nak, Bye, Findings)
_DECODERS: Final[dict[int, Decoder[WireMessage]]] = {
    number: Decoder(message_type) for number, message_type in enumerate(_TYPES, 1) if message_type is not Data
}
_HEADS: Final = {message_type: bytes((WIRE_VERSION, number)) for number, message_type in enumerate(_TYPES, 1)}


def encode_wire(message: WireMessage) -> bytes:
    """Return the ZeroMQ frame of a message."""
    head = _HEADS[type(message)]
    if isinstance(message, Data):
        return b"".join((head, message.frames))
    return head + encode_body(message)


def decode_wire(data: Buffer) -> WireMessage:
    """Decode one ZeroMQ frame; raise Malformed, TooLarge or UnsupportedVersion."""
    if len(data) < 2:
        raise Malformed(f"a wire message of {len(data)} bytes; its head alone has 2")
    if data[0] != WIRE_VERSION:
        raise UnsupportedVersion("wire message", data[0], WIRE_VERSION)
    body = memoryview(data)[2:]
    if data[1] == _HEADS[Data][1]:
        return Data(body)
    decoder = _DECODERS.get(data[1])
    if decoder is None:
        raise Malformed(f"wire message of unknown type {data[1]}")
    if len(data) > CONTROL_MESSAGE_SIZE_MAX_BYTES:
        raise TooLarge(f"{decoder.type.__name__} in bytes", len(data), CONTROL_MESSAGE_SIZE_MAX_BYTES)
    return decode_body(body, decoder)


def is_findings(data: Buffer) -> bool:
    """Tell whether a ZeroMQ frame says that its message is FINDINGS; the body may be malformed."""
    return bytes(data[:2]) == _HEADS[Findings]


def findings_that_fit(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the first findings that fit one FINDINGS message together, at least one if any has a legal size."""
    room = FINDINGS_SIZE_MAX_BYTES
    for count, finding in enumerate(findings):
        room -= len(encode_body(finding))
        if count == FINDINGS_MESSAGE_MAX or (room < 0 and count):
            return
        yield finding
