"""Whole conversations: a session, a correct logger, and all faults between the two."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.records.recordings import make_stream

from tensorboard_sidecar.protocol.outbox.send_session import SendSession, SendState
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.wire import Ack, Hello, Nak, Reject, Welcome, WireMessage

BATCH_BYTES = 300


class Logger:
    """Takes sequence numbers in order; ``durable`` survives a restart, ``received`` does not."""

    def __init__(self) -> None:
        self.received = self.durable = 1
        self.credit_bytes = 500
        self.greeted = False

    def hear(self, message: WireMessage | FrameBatch) -> WireMessage | None:
        if isinstance(message, Hello):
            self.greeted = True
            self.commit()
            return Welcome(self.durable, self.credit_bytes)
        assert isinstance(message, FrameBatch)
        if not self.greeted:
            return Nak(0)
        if message.first_sequence > self.received:
            return Nak(self.received)
        self.received = max(self.received, message.next_sequence)
        return None

    def commit(self) -> Ack:
        self.durable = self.received
        return Ack(self.durable, self.credit_bytes)

    def restart(self) -> None:
        self.received, self.greeted = self.durable, False


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.session = SendSession(make_stream())
        self.logger = Logger()
        self.sizes: list[int] = []
        self.now = 0.0
        self.connected = False
        self.to_logger: deque[WireMessage | FrameBatch] = deque()
        self.to_trainer: deque[WireMessage] = deque()

    @property
    def end(self) -> int:
        return len(self.sizes) + 1

    @rule(sizes=st.lists(st.integers(1, 200), max_size=8))
    def produce(self, sizes: list[int]) -> None:
        self.sizes += sizes

    @rule(seconds=st.floats(0, 7))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule(turns=st.integers(1, 5))
    def trainer_turns(self, turns: int) -> None:
        """Act like LoggerLink.step."""
        for _ in range(turns):
            session = self.session
            while self.to_trainer:
                session.receive(self.to_trainer.popleft(), self.now)
            if session.overdue(self.now):
                session.lost(self.now)
            if session.state is SendState.PAUSED:
                self.connected = False
                self.reconnect_below()
            if session.may_open(self.now):
                session.opened()
                self.connected = True
            if session.starved(self.now):
                session.opened()
            if session.state is SendState.OPENING and self.connected:
                self.to_logger.append(session.hello(1))
                session.greeted(self.now)
            self.send()

    @rule(messages=st.integers(0, 10), commits=st.booleans())
    def logger_turn(self, messages: int, commits: bool) -> None:
        for _ in range(min(messages, len(self.to_logger))):
            answer = self.logger.hear(self.to_logger.popleft())
            if answer is not None:
                self.to_trainer.append(answer)
        if commits and self.logger.greeted:
            self.to_trainer.append(self.logger.commit())

    @rule(credit=st.integers(0, 800))
    def credit_changes(self, credit: int) -> None:
        self.logger.credit_bytes = credit

    @rule()
    def reconnect_below(self) -> None:
        """Connect again, as ZeroMQ does by itself: messages in flight are lost, and the session is not told."""
        self.to_logger.clear()
        self.to_trainer.clear()
        self.logger.greeted = False

    @rule()
    def logger_restarts(self) -> None:
        self.logger.restart()
        self.reconnect_below()

    @rule()
    def journal_fails(self) -> None:
        """Lose the received records, drop new ones, and give no credit for a while."""
        if self.logger.greeted:
            self.to_logger = deque(message for message in self.to_logger if isinstance(message, Hello))
            self.logger.received = self.logger.durable
            self.to_trainer += [Ack(self.logger.durable, 0), Nak(self.logger.durable)]

    @rule()
    def somebody_else_speaks_for_the_stream(self) -> None:
        if self.session.state is SendState.GREETING:
            self.to_logger.clear()
            self.to_trainer.append(Reject("another peer sends this stream", retry=True))

    @invariant()
    def acknowledged_is_durable(self) -> None:
        assert self.session.acked_sequence <= self.logger.durable
        assert self.session.acked_sequence <= self.session.next_sequence <= self.end

    def teardown(self) -> None:
        """When the faults end, all records arrive."""
        self.logger.credit_bytes = 500
        for _ in range(200):
            if self.session.acked_sequence == self.end:
                return
            self.trainer_turns(3)
            self.logger_turn(1000, commits=True)
            self.now += 1.0
        raise AssertionError(f"{self.session!r} stands still before {self.end}")

    def send(self) -> None:
        session = self.session
        size_max = min(session.size_max_bytes, BATCH_BYTES)
        first = following = session.next_sequence
        size = 0
        while size_max > 0 and following < self.end and (size + self.sizes[following - 1] <= size_max or size == 0):
            size += self.sizes[following - 1]
            following += 1
        if following == first or not session.may_send(size) or not self.connected:
            return
        on_its_way = sum(len(run.frames) for run in self.to_logger if isinstance(run, FrameBatch))
        assert on_its_way + size <= 800 or following == first + 1, "beyond any credit that was ever given"
        run = FrameBatch(memoryview(bytes(size)), first, following)
        session.sent(run, self.now)
        self.to_logger.append(run)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
