"""A minimal logger: takes batches in order, acknowledges them, and fails on demand."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import zmq
from support.machine.waiting import wait_until
from support.running.programs import port_for

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import Message
from tensorboard_sidecar.protocol.record import FrameBatch, Record, check_batch, parse_record
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Welcome, WireMessage, decode_wire, encode_wire

_POLL_MS: Final = 5
Answer = Callable[[WireMessage], Sequence[WireMessage | bytes] | None]


class FakeLogger:
    """A ROUTER in a separate thread; ``records`` holds the received records by stream id, also after a restart.

    ``answer`` may return other answers to a message; None means the answers of a correct logger. Between ``freeze`` and
    ``thaw`` the thread reads no messages, like a stopped process.
    """

    def __init__(
        self, answer: Answer | None = None, *, credit_bytes: int = CREDIT_BYTES, endpoint: str | None = None
    ) -> None:
        self.endpoint = endpoint or f"tcp://127.0.0.1:{port_for(self)}"
        self.records: dict[bytes, list[Record]] = defaultdict(list)
        self.heard: list[WireMessage] = []
        self._frozen, self._parked = threading.Event(), threading.Event()
        self._answer = answer or (lambda _: None)
        self._credit_bytes = credit_bytes
        self._peers: dict[bytes, bytes] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start listening, also after ``stop``."""
        self._stopping.clear()
        self._peers.clear()
        listening = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="fake-logger")
        self._thread.start()
        assert listening.wait(10), "the fake logger cannot listen"

    def stop(self) -> None:
        """Stop like a killed process: unread messages are lost."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def freeze(self) -> None:
        """Stop reading messages."""
        self._frozen.set()
        assert self._parked.wait(10)

    def thaw(self) -> None:
        """Continue to read messages."""
        self._parked.clear()
        self._frozen.clear()

    def next_sequence(self, stream_id: bytes) -> int:
        """Return the next expected sequence number."""
        records = self.records[stream_id]
        return records[-1].next_sequence if records else 1

    def messages(self, stream_id: bytes) -> list[Message | None]:
        """Return the decoded messages of a stream."""
        return [decode_message(record) for record in self.records[stream_id]]

    def wait_for(self, stream_id: bytes, next_sequence: int) -> list[Record]:
        """Wait for all records before ``next_sequence``; return all records."""
        wait_until(lambda: self.next_sequence(stream_id) >= next_sequence, what=f"records up to {next_sequence - 1}")
        return list(self.records[stream_id])

    def count(self, message_type: type[WireMessage]) -> int:
        """Return the number of received messages of a type."""
        return sum(isinstance(message, message_type) for message in self.heard)

    def _run(self, listening: threading.Event) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        wait_until(lambda: _bind(socket, self.endpoint), what=f"bind to {self.endpoint}")
        listening.set()
        while not self._stopping.is_set():
            if self._frozen.is_set():
                self._parked.set()
                self._stopping.wait(_POLL_MS / 1000)
                continue
            if not socket.poll(_POLL_MS):
                continue
            peer, frame = socket.recv_multipart()
            for said in self._hear(peer, decode_wire(frame)):
                socket.send_multipart([peer, said if isinstance(said, bytes) else encode_wire(said)])
        socket.close()
        context.term()

    def _hear(self, peer: bytes, message: WireMessage) -> Sequence[WireMessage | bytes]:
        self.heard.append(Data(memoryview(bytes(message.frames))) if isinstance(message, Data) else message)
        said = self._answer(message)
        if said is not None:
            return said
        match message:
            case Hello():
                self._peers[peer] = message.stream
                return [Welcome(self.next_sequence(message.stream), self._credit_bytes)]
            case Data() if peer not in self._peers:
                return [Nak(0)]
            case Data(frames):
                return [self._take(self._peers[peer], frames)]
            case Bye():
                self._peers.pop(peer, None)
        return []

    def _take(self, stream_id: bytes, frames: memoryview) -> WireMessage:
        run = check_batch(memoryview(bytes(frames)), self.next_sequence(stream_id))
        if not isinstance(run, FrameBatch):
            return Nak(run.expected_sequence)
        self.records[stream_id] += unpack_records(run.frames)
        return Ack(self.next_sequence(stream_id), self._credit_bytes)


def unpack_records(frames: memoryview) -> list[Record]:
    """Return the records of frames. Raises ProtocolError for a damaged frame."""
    *items, _ = read_frames(frames)
    if not all(isinstance(item, Frame) for item in items):
        raise ProtocolError(f"damage among frames: {items}")
    return [parse_record(item.payload) for item in items if isinstance(item, Frame)]


def _bind(socket: "zmq.SyncSocket", endpoint: str) -> bool:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError:
        return False
    return True
