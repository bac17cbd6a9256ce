"""What the sender says next, decided without I/O: go-back-N over one stream.

Rule 1: everything before ``acked_sequence`` is on the logger's disk and may be forgotten. ACK and WELCOME alone say so:
what a NAK asks to begin from was received, and may still be lost with the logger. None of them is believed about what
no logger can have.
Rule 2: at most the credit is on its way, or one run when that alone is larger. What is on its way is known by its
runs, oldest first.
Rule 3: liveness is progress. No answer for ``ANSWER_TIMEOUT_SECONDS`` while one is due means that the peer is lost:
the link is opened anew, after a pause that doubles from 0.1 to 5 seconds while nothing is acknowledged.
Rule 4: a logger that gives no credit is asked again with a HELLO every so often: the one that said so may be gone.
"""

from collections import deque
from enum import Enum
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Hello, Nak, Reject, Welcome, WireMessage

ANSWER_TIMEOUT_SECONDS: Final = 5.0
PAUSE_MIN_SECONDS: Final = 0.1
PAUSE_MAX_SECONDS: Final = 5.0


class State(Enum):
    """Where a session stands."""

    PAUSED = "paused"  # no link; one is opened when the pause is over
    OPENING = "opening"  # there is a link; HELLO goes out as soon as it is up
    GREETING = "greeting"  # HELLO sent, no answer yet
    STREAMING = "streaming"
    REFUSED = "refused"  # for good; ``reason`` says why


class SendSession:
    """One stream's conversation with a logger; ``now`` is a monotonic time in seconds everywhere.

    Somebody else may have sent what lies before ``sent_sequence``: an orphan's trainer, or who adopted it before.
    """

    def __init__(self, stream: Stream, sent_sequence: int = 1) -> None:
        self.stream = stream
        self._sent_sequence = sent_sequence
        self.state = State.PAUSED
        self.acked_sequence = 1
        self.next_sequence = 1
        self._reached_sequence = 1  # the farthest since the WELCOME: what a NAK asks for again may still arrive
        self.reason = ""
        self._credit_bytes = 0
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._pause_seconds = PAUSE_MIN_SECONDS
        self._deadline = 0.0

    def __repr__(self) -> str:
        return f"<SendSession {self.state.value} acked {self.acked_sequence} next {self.next_sequence}>"

    @property
    def size_max_bytes(self) -> int:
        """How many bytes may be sent now."""
        return self._credit_bytes - self._in_flight_bytes if self.state is State.STREAMING else 0

    def may_send(self, size_bytes: int) -> bool:
        """Tell whether a run of this size may be sent now; a single record can be larger than any credit."""
        size_max_bytes = self.size_max_bytes
        return size_bytes <= size_max_bytes or (size_max_bytes > 0 and not self._in_flight)

    def opened(self) -> None:
        """Account for a link that was opened; it may not be up yet."""
        self.state = State.OPENING

    def hello(self, first_sequence: int) -> Hello:
        """Return the message that opens the conversation, given the first number that is still held."""
        stream = self.stream
        return Hello(stream.id, stream.run, stream.rank, stream.attempt, first_sequence)

    def greeted(self, now: float) -> None:
        """Account for a HELLO that left."""
        self.state, self._deadline = State.GREETING, now + ANSWER_TIMEOUT_SECONDS

    def sent(self, run: FrameBatch, now: float) -> None:
        """Account for a run that left."""
        if not self._in_flight:
            self._deadline = now + ANSWER_TIMEOUT_SECONDS
        self._in_flight.append((run.next_sequence, len(run.frames)))
        self._in_flight_bytes += len(run.frames)
        self.next_sequence = run.next_sequence
        self._sent_sequence = max(self._sent_sequence, run.next_sequence)
        self._reached_sequence = max(self._reached_sequence, run.next_sequence)

    def receive(self, message: WireMessage, now: float) -> None:
        """Take the logger's answer.

        Raises Malformed, and changes nothing, for a message that no logger sends: what it says would be believed for
        good, and what it names be forgotten.
        """
        self._check(message)
        self._deadline = now + ANSWER_TIMEOUT_SECONDS
        match message:
            case Welcome(next_sequence, credit_bytes):
                self.state, self._credit_bytes = State.STREAMING, credit_bytes
                self._clear_flight()
                self.acked_sequence = self.next_sequence = self._reached_sequence = next_sequence
            case Ack(next_sequence, credit_bytes):
                self._credit_bytes = credit_bytes
                self._acknowledge(next_sequence)
            case Nak(0):
                if self.state is State.STREAMING:  # else a HELLO is on its way already
                    self.state = State.OPENING
            case Nak(next_sequence):
                self._go_back(next_sequence)
            case Reject(reason, retry):
                self.reason = printable(reason)
                self.lost(now)
                if not retry:
                    self.state = State.REFUSED

    def overdue(self, now: float) -> bool:
        """Tell whether an answer is due and did not come in time."""
        waiting = self.state is State.GREETING or (self.state is State.STREAMING and bool(self._in_flight))
        return waiting and now >= self._deadline

    def starved(self, now: float) -> bool:
        """Tell whether there has been no credit, and no word, for so long that it is time for a HELLO."""
        idle = self.state is State.STREAMING and self._credit_bytes <= 0 and not self._in_flight
        return idle and now >= self._deadline

    def lost(self, now: float) -> None:
        """Give the link up and pause."""
        self.state, self._deadline = State.PAUSED, now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_MAX_SECONDS)
        self._clear_flight()

    def may_open(self, now: float) -> bool:
        """Tell whether it is time to open a link."""
        return self.state is State.PAUSED and now >= self._deadline

    def _check(self, message: WireMessage) -> None:
        match message:
            case Welcome(next_sequence):
                first, last = 1, self._sent_sequence
            case Ack(next_sequence):
                first, last = 0, self._reached_sequence
            case Nak(next_sequence) if next_sequence > 0:
                first, last = self.acked_sequence, self._reached_sequence
            case Nak() | Reject():
                return
            case _:
                raise Malformed(f"a logger does not send {type(message).__name__}")
        if not first <= next_sequence <= last:
            raise Malformed(f"{type(message).__name__} with sequence {next_sequence}; expected {first} to {last}")

    def _acknowledge(self, next_sequence: int) -> None:
        if next_sequence > self.acked_sequence:
            self.acked_sequence, self._pause_seconds = next_sequence, PAUSE_MIN_SECONDS
        while self._in_flight and self._in_flight[0][0] <= next_sequence:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        self.next_sequence = max(self.next_sequence, next_sequence)  # it came, though a NAK had asked for it again

    def _go_back(self, next_sequence: int) -> None:
        while self._in_flight and self._in_flight[-1][0] > next_sequence:
            self._in_flight_bytes -= self._in_flight.pop()[1]
        self.next_sequence = next_sequence

    def _clear_flight(self) -> None:
        self._in_flight.clear()
        self._in_flight_bytes = 0
