"""A trainer's session and a logger's, and all that may happen between them: who keeps to its credit is not refused."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.peer import make_record

from tensorboard_sidecar.logger_service.intake.receive_session import ReceiveSession
from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Text
from tensorboard_sidecar.protocol.outbox.send_session import SendSession
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Nak, WireMessage

PEER = b"peer"


def record(sequence: int) -> bytes:
    """Return a record whose size differs from its neighbours', sometimes by far."""
    size_bytes = 500 if sequence % 11 == 0 else 7 * (sequence % 5)
    return make_record(sequence, kind=Kind.TEXT, body=encode_body(Text("t", "x" * size_bytes)))


class CreditMachine(RuleBasedStateMachine):
    """Two queues in order, as TCP has them; a journal that is two numbers; connections that end at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.credit_bytes = 50
        self.up: deque[bytes] = deque()
        self.down: deque[WireMessage] = deque()
        stream = Stream("demo")
        self.trainer, self.logger = SendSession(stream), ReceiveSession(stream, PEER, 0.0)
        self.next_sequence = self.durable_sequence = 1
        self.connect()

    def connect(self) -> None:
        """Open the stream; what came before is durable by then."""
        self.durable_sequence = self.next_sequence
        self.trainer.opened()
        self.trainer.hello(1)
        self.trainer.greeted(self.now)
        self.down.append(self.logger.welcome(PEER, self.durable_sequence, self.now, self.credit_bytes))

    def acknowledge(self) -> None:
        self.down.append(self.logger.acknowledge(self.durable_sequence, self.credit_bytes))

    @rule(records=st.integers(1, 6))
    def send(self, records: int) -> None:
        """Send as the link does: what fits, or one record that is larger."""
        first, frames = self.trainer.next_sequence, b""
        for sequence in range(first, first + records):
            more = record(sequence)
            if frames and len(frames) + len(more) > self.trainer.size_max_bytes:
                break
            frames += more
        else:
            sequence = first + records
        if self.trainer.may_send(len(frames)):
            self.up.append(frames)
            self.trainer.sent(FrameBatch(memoryview(frames), first, sequence), self.now)

    @precondition(lambda self: self.up)
    @rule(lost=st.sampled_from([False, False, False, True]))
    def arrive(self, lost: bool) -> None:
        """Have the oldest message arrive; never CreditExceeded. ZeroMQ may lose data, without a word."""
        frames = self.up.popleft()
        taken = None if lost else self.logger.take(memoryview(frames), self.next_sequence, self.now)
        if isinstance(taken, FrameBatch):
            self.next_sequence = taken.next_sequence
        elif isinstance(taken, Nak):
            self.down.append(taken)

    @precondition(lambda self: self.down)
    @rule()
    def answer(self) -> None:
        """Hear the logger; its answers are never Malformed."""
        self.trainer.receive(self.down.popleft(), self.now)

    @rule(turns=st.integers(1, 20))
    def go_on(self, turns: int) -> None:
        """Send and hear, and what came is not synced yet."""
        for _ in range(turns):
            while self.down:
                self.answer()
            self.send(2)
            if self.up:
                self.arrive(lost=False)

    @rule()
    def commit(self) -> None:
        if self.durable_sequence < self.next_sequence:
            self.durable_sequence = self.next_sequence
            self.logger.committed()
            self.acknowledge()

    @rule(back=st.integers(1, 3))
    def begin_a_segment(self, back: int) -> None:
        """All but the last runs become durable, and somebody says so."""
        self.durable_sequence = max(self.durable_sequence, self.next_sequence - back)
        self.acknowledge()

    @rule(credit_bytes=st.sampled_from([0, 1, 50, 100, 700]))
    def change_the_credit(self, credit_bytes: int) -> None:
        self.credit_bytes = credit_bytes
        self.acknowledge()

    @precondition(lambda self: self.now % 8 == 0)
    @rule()
    def fail(self) -> None:
        self.next_sequence = self.durable_sequence
        self.logger.hold(self.now)
        self.acknowledge()
        self.down.append(Nak(self.durable_sequence))

    @precondition(lambda self: self.logger.retry_at is not None)
    @rule()
    def resume(self) -> None:
        self.logger.resume()
        self.acknowledge()

    @precondition(lambda self: self.now % 16 == 0)
    @rule()
    def connect_anew(self) -> None:
        """All that is on its way is lost."""
        self.up.clear()
        self.down.clear()
        self.trainer.lost(self.now)
        self.connect()

    @invariant()
    def time_passes(self) -> None:
        self.now += 1.0


TestCreditMachine = CreditMachine.TestCase
TestCreditMachine.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
