"""What trainer and logger say to each other over DEALER - ROUTER, one ZeroMQ frame a message.

``version u8 | type u8 | body``: the body of DATA is a run of framed records as they lie, any other is msgpack.

    trainer                         logger
      HELLO  ----------------------->         who I am
             <-----------------------  WELCOME  send from next_sequence, at most credit_bytes unacknowledged
             <-----------------------  REJECT   no, and why; retry tells whether asking again later makes sense
      DATA   ----------------------->         a run of whole records
             <-----------------------  ACK      everything before next_sequence is on disk
             <-----------------------  NAK      send again from next_sequence (0: say HELLO first)
      BYE    ----------------------->         all of mine is acknowledged; forget me
"""

from typing import Final, TypeAlias

import msgspec

from protocol.codec import decode_body, encode_body
from protocol.errors import Malformed, UnsupportedVersion
from protocol.frame import Buffer
from protocol.names import check_run
from protocol.stream import Stream

WIRE_VERSION: Final = 1


class Hello(msgspec.Struct, frozen=True):
    """Opens a stream; ``next_sequence`` is the first number the trainer still holds."""

    stream: bytes
    run: str
    rank: int
    attempt: int
    next_sequence: int

    def identity(self) -> Stream:
        """Return the stream; raises Malformed or TooLarge when it names none."""
        if len(self.stream) != 16 or not (0 <= self.rank < 2**31 and 0 <= self.attempt < 2**31):
            raise Malformed(
                f"HELLO with a stream id of {len(self.stream)} bytes, rank {self.rank}, attempt {self.attempt}"
            )
        return Stream(check_run(self.run), self.rank, self.attempt, self.stream)


class Welcome(msgspec.Struct, frozen=True):
    """Everything before ``next_sequence`` is on disk; at most ``credit_bytes`` may be on their way."""

    next_sequence: int
    credit_bytes: int


class Reject(msgspec.Struct, frozen=True):
    """The stream or its data are refused."""

    reason: str
    retry: bool


class Data(msgspec.Struct, frozen=True):
    """A run of whole framed records."""

    frames: memoryview


class Ack(msgspec.Struct, frozen=True):
    """Everything before ``next_sequence`` is on disk."""

    next_sequence: int
    credit_bytes: int


class Nak(msgspec.Struct, frozen=True):
    """Send again from ``next_sequence``; 0 asks for a HELLO first."""

    next_sequence: int


class Bye(msgspec.Struct, frozen=True):
    """The trainer has nothing more to send."""


WireMessage: TypeAlias = Hello | Welcome | Reject | Data | Ack | Nak | Bye
_TYPES: Final[tuple[type[WireMessage], ...]] = (Hello, Welcome, Reject, Data, Ack, Nak, Bye)
_HEADS: Final = {message_type: bytes((WIRE_VERSION, number)) for number, message_type in enumerate(_TYPES, 1)}


def encode_wire(message: WireMessage) -> bytes:
    """Return the one ZeroMQ frame of a message."""
    head = _HEADS[type(message)]
    if isinstance(message, Data):
        return b"".join((head, message.frames))
    return head + encode_body(message)


def decode_wire(data: Buffer) -> WireMessage:
    """Decode one ZeroMQ frame; raise Malformed or UnsupportedVersion."""
    if len(data) < 2:
        raise Malformed(f"a wire message of {len(data)} bytes; its head alone has 2")
    if data[0] != WIRE_VERSION:
        raise UnsupportedVersion("wire message", data[0], WIRE_VERSION)
    if not 1 <= data[1] <= len(_TYPES):
        raise Malformed(f"wire message of unknown type {data[1]}")
    message_type = _TYPES[data[1] - 1]
    if message_type is Data:
        return Data(memoryview(data)[2:])
    return decode_body(bytes(data[2:]), message_type)
