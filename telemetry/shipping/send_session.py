"""The sender's side of one conversation with a logger, without I/O.

Rule 1: all records before ``acked_sequence`` are durable at the logger, and may be deleted here. Only ACK and WELCOME
acknowledge. A NAK does not: the logger has received the records before the NAK, and may still lose them. A sequence
number that no logger can name is an error.
Rule 2: go-back-N with credit in bytes (:class:`SendWindow`).
Rule 3: liveness is progress. When an answer is due and does not arrive within ``ANSWER_TIMEOUT_SECONDS``, the peer is
lost. The link is opened again after a pause that doubles from 0.1 to 5 seconds until the next acknowledgement.
Rule 4: a logger that gives no credit gets a HELLO every ``ANSWER_TIMEOUT_SECONDS``: that logger may be gone.
"""

from enum import Enum
from typing import Final, assert_never

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.send_window import SendWindow
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage

ANSWER_TIMEOUT_SECONDS: Final = 5.0
PAUSE_MIN_SECONDS: Final = 0.1
PAUSE_MAX_SECONDS: Final = 5.0


class SessionState(Enum):
    """The state of a conversation."""

    PAUSED = "paused"  # no link; the link is opened when the pause ends
    OPENING = "opening"  # a link exists; HELLO is sent as soon as the link is connected
    GREETING = "greeting"  # HELLO is sent, no answer yet
    STREAMING = "streaming"
    REFUSED = "refused"  # final; ``reason`` is the logger's


class SendSession:
    """The conversation of one stream with a logger. ``now_seconds`` is a monotonic time.

    Another process may have sent the records before ``sent_sequence``: the trainer of an orphan, or an earlier owner.
    """

    def __init__(self, stream: Stream, sent_sequence: int = 1) -> None:
        self.stream = stream
        self.state = SessionState.PAUSED
        self.reason = ""
        self._window = SendWindow()
        self._sent_sequence = sent_sequence
        self._pause_seconds = PAUSE_MIN_SECONDS
        self._deadline_seconds = 0.0

    def __repr__(self) -> str:
        return f"<SendSession {self.state.value} acked {self.acked_sequence} next {self.next_sequence}>"

    @property
    def acked_sequence(self) -> int:
        """All records before this sequence number are durable at the logger."""
        return self._window.acked_sequence

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next record to send."""
        return self._window.next_sequence

    @property
    def size_max_bytes(self) -> int:
        """The number of bytes that may be sent now."""
        return self._window.free_bytes if self.state is SessionState.STREAMING else 0

    def may_send(self, size_bytes: int) -> bool:
        """Return whether a batch of this size may be sent now. A record larger than any credit is sent alone."""
        size_max_bytes = self.size_max_bytes
        return size_bytes <= size_max_bytes or (size_max_bytes > 0 and self._window.idle)

    def opened(self) -> None:
        """Apply an opened link, which may not be connected yet."""
        self.state = SessionState.OPENING

    def hello(self, first_sequence: int) -> Hello:
        """Return the first message of the conversation. ``first_sequence`` is the oldest record in the outbox."""
        stream = self.stream
        return Hello(stream.id, stream.run, stream.rank, stream.attempt, first_sequence)

    def greeted(self, now_seconds: float) -> None:
        """Apply a sent HELLO."""
        self.state, self._deadline_seconds = SessionState.GREETING, now_seconds + ANSWER_TIMEOUT_SECONDS

    def sent(self, batch: FrameBatch, now_seconds: float) -> None:
        """Apply a sent batch."""
        if self._window.idle:
            self._deadline_seconds = now_seconds + ANSWER_TIMEOUT_SECONDS
        self._window.send(batch.next_sequence, len(batch.frames))
        self._sent_sequence = max(self._sent_sequence, batch.next_sequence)

    def receive(self, message: WireMessage, now_seconds: float) -> None:
        """Apply the logger's answer.

        Raises Malformed, and changes nothing, for a message that no logger sends: a wrong acknowledgement would delete
        records that are nowhere else.
        """
        self._check(message)
        self._deadline_seconds = now_seconds + ANSWER_TIMEOUT_SECONDS
        match message:
            case Welcome(next_sequence, credit_bytes):
                self.state = SessionState.STREAMING
                self._window.restart(next_sequence, credit_bytes)
            case Ack(next_sequence, credit_bytes):
                if self._window.acknowledge(next_sequence, credit_bytes):
                    self._pause_seconds = PAUSE_MIN_SECONDS
            case Nak(0):
                if self.state is SessionState.STREAMING:  # in any other state a HELLO is sent anyway
                    self.state = SessionState.OPENING
            case Nak(next_sequence):
                self._window.go_back(next_sequence)
            case Reject(reason, retry):
                self.reason = printable(reason)
                self.lost(now_seconds)
                if not retry:
                    self.state = SessionState.REFUSED
            case Hello() | Data() | Bye():
                pass  # refused by _check
            case _:
                assert_never(message)

    def overdue(self, now_seconds: float) -> bool:
        """Return whether an answer is due and did not arrive in time."""
        streaming = self.state is SessionState.STREAMING and not self._window.idle
        return (streaming or self.state is SessionState.GREETING) and now_seconds >= self._deadline_seconds

    def starved(self, now_seconds: float) -> bool:
        """Return whether the logger has given no credit, and no answer, for ANSWER_TIMEOUT_SECONDS: send a HELLO."""
        starving = self.state is SessionState.STREAMING and self._window.credit_bytes <= 0 and self._window.idle
        return starving and now_seconds >= self._deadline_seconds

    def lost(self, now_seconds: float) -> None:
        """Apply a lost link, and pause."""
        self.state, self._deadline_seconds = SessionState.PAUSED, now_seconds + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_MAX_SECONDS)
        self._window.clear_flight()

    def may_open(self, now_seconds: float) -> bool:
        """Return whether the pause is over and a link may be opened."""
        return self.state is SessionState.PAUSED and now_seconds >= self._deadline_seconds

    def _check(self, message: WireMessage) -> None:
        match message:
            case Welcome(next_sequence):
                first, last = 1, self._sent_sequence
            case Ack(next_sequence):
                first, last = 0, self._window.reached_sequence
            case Nak(next_sequence) if next_sequence > 0:
                first, last = self._window.acked_sequence, self._window.reached_sequence
            case Nak() | Reject():
                return
            case Hello() | Data() | Bye():
                raise Malformed(f"a logger does not send {type(message).__name__}")
            case _:
                assert_never(message)
        if not first <= next_sequence <= last:
            raise Malformed(f"{type(message).__name__} with sequence {next_sequence}; expected {first} to {last}")
