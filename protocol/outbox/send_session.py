"""The sender's side of the wire protocol, without I/O: of a trainer, and of the delivery of an orphaned outbox.

Rule 1: all records before ``acked_sequence`` are durable at the logger, and may be deleted here. Only ACK and WELCOME
acknowledge. A NAK does not: the logger has received the records before the NAK, and may still lose them. A sequence
number that no logger can name is an error.
Rule 2: go-back-N with credit in bytes (:class:`SendWindow`).
Rule 3: liveness is progress. When an answer is due and does not arrive within ``ANSWER_TIMEOUT_SECONDS``, the peer is
lost. The link is opened again after a pause that doubles from 0.1 to 5 seconds until the next acknowledgement.
Rule 4: a logger that gives no credit gets a HELLO every ``ANSWER_TIMEOUT_SECONDS``: that logger may be gone.
Rule 5: FINDINGS are no answer: they change nothing in the conversation, and are no progress.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, assert_never

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Findings, Hello, Nak, Reject, Welcome, WireMessage

ANSWER_TIMEOUT_SECONDS: Final = 5.0
PAUSE_MIN_SECONDS: Final = 0.1
PAUSE_MAX_SECONDS: Final = 5.0


class SendState(Enum):
    """The state of a conversation."""

    PAUSED = "paused"  # no link; the link is opened when the pause ends
    OPENING = "opening"  # a link exists; HELLO is sent as soon as the link is connected
    GREETING = "greeting"  # HELLO is sent, no answer yet
    STREAMING = "streaming"
    REFUSED = "refused"  # final; ``reason`` is the logger's


@dataclass(slots=True)
class SendWindow:
    """The window of one stream; no I/O, no time.

    All records before ``acked_sequence`` are durable at the logger. ``next_sequence`` is the next record to send.
    ``reached_sequence`` is the highest ``next_sequence`` since the WELCOME: after a NAK, records that were sent before
    may still arrive. At most ``credit_bytes`` are in flight, or one batch when that batch alone is larger.
    """

    acked_sequence: int = 1
    next_sequence: int = 1
    reached_sequence: int = 1
    credit_bytes: int = 0
    in_flight_bytes: int = 0
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)  # (next sequence, bytes) of each batch

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._in_flight

    @property
    def free_bytes(self) -> int:
        """The credit that is not in flight; negative after the logger has reduced the credit."""
        return self.credit_bytes - self.in_flight_bytes

    def restart(self, next_sequence: int, credit_bytes: int) -> None:
        """Apply a WELCOME: the logger holds all records before ``next_sequence``."""
        self.clear_flight()
        self.acked_sequence = self.next_sequence = self.reached_sequence = next_sequence
        self.credit_bytes = credit_bytes

    def send(self, next_sequence: int, size_bytes: int) -> None:
        """Apply a batch that was sent: the records from the old ``next_sequence`` to the new one."""
        self._in_flight.append((next_sequence, size_bytes))
        self.in_flight_bytes += size_bytes
        self.next_sequence = next_sequence
        self.reached_sequence = max(self.reached_sequence, next_sequence)

    def acknowledge(self, next_sequence: int, credit_bytes: int) -> bool:
        """Apply an ACK; return whether the ACK acknowledges more records than before."""
        self.credit_bytes = credit_bytes
        while self._in_flight and self._in_flight[0][0] <= next_sequence:
            self.in_flight_bytes -= self._in_flight.popleft()[1]
        self.next_sequence = max(self.next_sequence, next_sequence)  # the records arrived in spite of a NAK
        progress = next_sequence > self.acked_sequence
        self.acked_sequence = max(self.acked_sequence, next_sequence)
        return progress

    def go_back(self, next_sequence: int) -> None:
        """Apply a NAK: send again from ``next_sequence`` on."""
        while self._in_flight and self._in_flight[-1][0] > next_sequence:
            self.in_flight_bytes -= self._in_flight.pop()[1]
        self.next_sequence = next_sequence

    def clear_flight(self) -> None:
        """Forget the batches in flight: their connection is lost."""
        self._in_flight.clear()
        self.in_flight_bytes = 0


class SendSession:
    """The conversation of one stream with a logger. ``now_seconds`` is a monotonic time.

    Another process may have sent the records before ``sent_sequence``: the trainer of an orphan, or an earlier owner.
    ``take_findings`` gets the findings that the logger tells; without it, HELLO asks for none.
    """

    def __init__(
        self, stream: Stream, sent_sequence: int = 1, take_findings: Callable[[list[Finding]], None] | None = None
    ) -> None:
        self.stream = stream
        self._take_findings = take_findings
        self.state = SendState.PAUSED
        self.reason = ""
        self.answered = False  # whether a logger has ever answered
        self.window = SendWindow()
        self._sent_sequence = sent_sequence
        self._pause_seconds = PAUSE_MIN_SECONDS
        self._deadline_seconds = 0.0

    def __repr__(self) -> str:
        return f"<SendSession {self.state.value} acked {self.acked_sequence} next {self.next_sequence}>"

    @property
    def acked_sequence(self) -> int:
        """All records before this sequence number are durable at the logger."""
        return self.window.acked_sequence

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next record to send."""
        return self.window.next_sequence

    @property
    def size_max_bytes(self) -> int:
        """The number of bytes that may be sent now."""
        return self.window.free_bytes if self.state is SendState.STREAMING else 0

    def may_send(self, size_bytes: int) -> bool:
        """Return whether a batch of this size may be sent now. A record larger than any credit is sent alone."""
        size_max_bytes = self.size_max_bytes
        return size_bytes <= size_max_bytes or (size_max_bytes > 0 and self.window.idle)

    def opened(self) -> None:
        """Apply an opened link, which may not be connected yet."""
        self.state = SendState.OPENING

    def hello(self, first_sequence: int) -> Hello:
        """Return the first message of the conversation. ``first_sequence`` is the oldest record in the outbox."""
        stream = self.stream
        asks = self._take_findings is not None
        return Hello(stream.id, stream.run, stream.rank, stream.attempt, first_sequence, findings=asks)

    def greeted(self, now_seconds: float) -> None:
        """Apply a sent HELLO."""
        self.state, self._deadline_seconds = SendState.GREETING, now_seconds + ANSWER_TIMEOUT_SECONDS

    def sent(self, batch: FrameBatch, now_seconds: float) -> None:
        """Apply a sent batch."""
        if self.window.idle:
            self._deadline_seconds = now_seconds + ANSWER_TIMEOUT_SECONDS
        self.window.send(batch.next_sequence, len(batch.frames))
        self._sent_sequence = max(self._sent_sequence, batch.next_sequence)

    def receive(self, message: WireMessage, now_seconds: float) -> None:
        """Apply the logger's answer.

        Raises Malformed, and changes nothing, for a message that no logger sends: a wrong acknowledgement would delete
        records that are nowhere else.
        """
        match message:
            case Welcome(next_sequence, credit_bytes):
                _check_sequence(message, 1, self._sent_sequence)
                self.state = SendState.STREAMING
                self.window.restart(next_sequence, credit_bytes)
            case Ack(next_sequence, credit_bytes):
                _check_sequence(message, 0, self.window.reached_sequence)
                if self.window.acknowledge(next_sequence, credit_bytes):
                    self._pause_seconds = PAUSE_MIN_SECONDS
            case Nak(0):
                if self.state is SendState.STREAMING:  # in any other state a HELLO is sent anyway
                    self.state = SendState.OPENING
            case Nak(next_sequence):
                _check_sequence(message, self.window.acked_sequence, self.window.reached_sequence)
                self.window.go_back(next_sequence)
            case Reject(reason, retry):
                self.reason = printable(reason)
                self.lost(now_seconds)
                if not retry:
                    self.state = SendState.REFUSED
                return
            case Findings(findings):
                if self._take_findings is not None:
                    self._take_findings(findings)
                return
            case Hello() | Data() | Bye():
                raise Malformed(f"a logger does not send {type(message).__name__}")
            case _:
                assert_never(message)
        self.answered = True
        self._deadline_seconds = now_seconds + ANSWER_TIMEOUT_SECONDS

    def overdue(self, now_seconds: float) -> bool:
        """Return whether an answer is due and did not arrive in time."""
        streaming = self.state is SendState.STREAMING and not self.window.idle
        return (streaming or self.state is SendState.GREETING) and now_seconds >= self._deadline_seconds

    def starved(self, now_seconds: float) -> bool:
        """Return whether the logger has given no credit, and no answer, for ANSWER_TIMEOUT_SECONDS: send a HELLO."""
        starving = self.state is SendState.STREAMING and self.window.credit_bytes <= 0 and self.window.idle
        return starving and now_seconds >= self._deadline_seconds

    def lost(self, now_seconds: float) -> None:
        """Apply a lost link, and pause."""
        self.state, self._deadline_seconds = SendState.PAUSED, now_seconds + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_MAX_SECONDS)
        self.window.clear_flight()

    def may_open(self, now_seconds: float) -> bool:
        """Return whether the pause is over and a link may be opened."""
        return self.state is SendState.PAUSED and now_seconds >= self._deadline_seconds


def _check_sequence(message: Welcome | Ack | Nak, first: int, last: int) -> None:
    if not first <= message.next_sequence <= last:
        name = type(message).__name__
        raise Malformed(f"{name} with sequence {message.next_sequence}; expected {first} to {last}")
