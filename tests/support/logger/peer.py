"""A minimal trainer: sends HELLO and batches, goes back on a NAK, and counts acknowledgements."""

import time
from types import TracebackType
from typing import Final, Self

import zmq

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import (
    Ack,
    Bye,
    Data,
    Hello,
    Nak,
    Reject,
    Welcome,
    WireMessage,
    decode_wire,
    encode_wire,
)

DEADLINE_SECONDS: Final = 20.0


def make_record(sequence: int, *, span: int = 1, kind: int = Kind.SCALARS, body: bytes | None = None) -> bytes:
    """Return the frame of a valid record; its step is its sequence number."""
    if body is None:
        body = encode_body(Scalars({"loss/train/total": float(sequence)}))
    return pack_frame(pack_record(Record(kind, sequence, sequence, 10**18 + sequence, body, span)))


def make_run(first_sequence: int, next_sequence: int) -> bytes:
    """Return the frames of the records ``[first_sequence, next_sequence)``."""
    return b"".join(map(make_record, range(first_sequence, next_sequence)))


class Peer:
    """A DEALER for ``stream``, with ``keys`` if given; every wait raises TimeoutError after a deadline."""

    def __init__(self, endpoint: str, stream: Stream, keys: ClientKeys | None = None) -> None:
        self.endpoint, self.stream, self.keys = endpoint, stream, keys
        self.acked_sequence = 1
        self._context = zmq.Context()
        self._socket = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect without BYE."""
        self._context.destroy(linger=0)

    def reconnect(self) -> None:
        """Disconnect, and connect again as a new peer."""
        self._socket.close(linger=0)
        self._socket = self._connect()

    def send(self, message: WireMessage) -> None:
        """Send a message."""
        self.send_raw(encode_wire(message))

    def send_raw(self, *frames: bytes) -> None:
        """Send arbitrary frames as a message."""
        self._socket.send_multipart(frames)

    def receive(self, timeout_seconds: float = DEADLINE_SECONDS) -> WireMessage:
        """Return the next answer."""
        if not self._socket.poll(round(timeout_seconds * 1000)):
            raise TimeoutError(f"no answer from {self.endpoint} for {timeout_seconds} s")
        message = decode_wire(self._socket.recv())
        if isinstance(message, Welcome | Ack):
            self.acked_sequence = max(self.acked_sequence, message.next_sequence)
        return message

    def silent(self, seconds: float = 0.0) -> bool:
        """Tell whether there is no answer within so many seconds."""
        return not self._socket.poll(round(seconds * 1000))

    def hello(self, next_sequence: int = 1) -> Welcome | Reject:
        """Say HELLO; return the answer to it."""
        stream = self.stream
        self.send(Hello(stream.id, stream.run, stream.rank, stream.attempt, next_sequence))
        while not isinstance(answer := self.receive(), Welcome | Reject):
            continue
        return answer

    def send_records(self, first_sequence: int, next_sequence: int) -> None:
        """Send the records ``[first_sequence, next_sequence)`` as one run."""
        self.send(Data(memoryview(make_run(first_sequence, next_sequence))))

    def wait_acked(self, next_sequence: int) -> None:
        """Wait until all records before ``next_sequence`` are acknowledged."""
        while self.acked_sequence < next_sequence:
            self.receive()

    def bye(self) -> None:
        """Say BYE."""
        self.send(Bye())

    def deliver(self, next_sequence: int, *, records_a_run: int = 20, window: int = 8) -> None:
        """Deliver all records before ``next_sequence``, to one logger after the other if loggers restart."""
        deadline = time.monotonic() + 6 * DEADLINE_SECONDS
        at = 0
        while self.acked_sequence < next_sequence:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.acked_sequence - 1} of {next_sequence - 1} records acknowledged")
            try:
                at = at or self._greet()
                while at < min(next_sequence, self.acked_sequence + window * records_a_run):
                    end = min(at + records_a_run, next_sequence)
                    self.send_records(at, end)
                    at = end
                match self.receive(1.0):
                    case Nak(sequence):
                        at = sequence
                    case Reject():
                        at = 0
                    case _:
                        pass
            except TimeoutError:
                self.reconnect()
                at = 0

    def _greet(self) -> int:
        """Send HELLO; return the next sequence number. Raises TimeoutError without a WELCOME."""
        stream, acked = self.stream, self.acked_sequence
        self.send(Hello(stream.id, stream.run, stream.rank, stream.attempt, acked))
        while not isinstance(answer := self.receive(1.0), Welcome):
            if isinstance(answer, Reject):
                raise TimeoutError(answer.reason)
        assert answer.next_sequence >= acked, f"{acked - 1} were acknowledged, {answer.next_sequence - 1} are there"
        return answer.next_sequence

    def _connect(self) -> "zmq.SyncSocket":
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDTIMEO, round(DEADLINE_SECONDS * 1000))
        if self.keys is not None:
            secret = self.keys.client_secret.encode()
            socket.setsockopt(zmq.CURVE_SERVERKEY, self.keys.server_public.encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
            socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        socket.connect(self.endpoint)
        return socket
