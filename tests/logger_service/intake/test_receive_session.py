"""The rules of one stream, without disk or network; and a model of a trainer's session and a logger's together."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.logger.peer import make_record, make_run

from tensorboard_sidecar.logger_service.intake.credit import CreditExceeded
from tensorboard_sidecar.logger_service.intake.receive_session import (
    PAUSE_MAX_SECONDS,
    PAUSE_MIN_SECONDS,
    SILENCE_SECONDS,
    ReceiveSession,
    SessionTable,
)
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import Text
from tensorboard_sidecar.protocol.outbox.send_session import SendSession
from tensorboard_sidecar.protocol.record import FrameBatch, Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Nak, Welcome, WireMessage


@pytest.fixture
def session() -> ReceiveSession:
    session = ReceiveSession(Stream("demo"), b"peer", 0.0)
    session.welcome(b"peer", 1, 0.0)
    return session


def run(first_sequence: int, next_sequence: int) -> memoryview:
    return memoryview(make_run(first_sequence, next_sequence))


def test_a_batch_that_is_due_is_accepted_byte_for_byte(session: ReceiveSession) -> None:
    taken = session.receive(run(3, 6), 3, 0.0)
    assert isinstance(taken, FrameBatch)
    assert (taken.first_sequence, taken.next_sequence, bytes(taken.frames)) == (3, 6, make_run(3, 6))


def test_the_new_part_of_a_batch_is_accepted(session: ReceiveSession) -> None:
    taken = session.receive(run(1, 6), 4, 0.0)
    assert isinstance(taken, FrameBatch)
    assert bytes(taken.frames) == make_run(4, 6)


def test_records_that_came_before_are_dropped_without_an_answer(session: ReceiveSession) -> None:
    assert session.receive(run(1, 6), 6, 0.0) is None


def test_a_hole_gets_one_nak_until_a_batch_is_accepted(session: ReceiveSession) -> None:
    assert session.receive(run(5, 6), 3, 0.0) == Nak(3)
    assert session.receive(run(6, 7), 3, 0.0) is None
    assert isinstance(session.receive(run(3, 5), 3, 0.0), FrameBatch)
    assert session.receive(run(7, 8), 5, 0.0) == Nak(5)
    session.welcome(b"peer", 5, 0.0)
    assert session.receive(run(7, 8), 5, 0.0) == Nak(5), "a WELCOME forgets the last NAK"


@pytest.mark.parametrize("cut", [1, 12, -1])
def test_a_batch_with_a_torn_frame_is_refused_whole(session: ReceiveSession, cut: int) -> None:
    with pytest.raises(Malformed):
        session.receive(memoryview(make_run(1, 3) + make_record(3)[:cut]), 1, 0.0)


def test_a_paused_session_accepts_nothing_and_gives_no_credit(session: ReceiveSession) -> None:
    assert session.acknowledge(3) == Ack(3, CREDIT_BYTES)
    session.pause(10.0)
    assert session.receive(run(1, 2), 1, 10.0) is None
    assert session.receive(memoryview(b"rubbish"), 1, 10.0) is None
    assert session.acknowledge(3) == Ack(3, 0)
    assert session.welcome(b"peer", 3, 10.0) == Welcome(3, 0)


def test_after_a_pause_the_credit_is_one_batch_and_after_a_commit_the_share(session: ReceiveSession) -> None:
    session.pause(10.0)
    session.resume()
    assert session.acknowledge(1) == Ack(1, BATCH_SIZE_MAX_BYTES)
    assert isinstance(session.receive(run(1, 2), 1, 11.0), FrameBatch)
    assert session.committed(), "the trouble is over"
    assert session.acknowledge(2) == Ack(2, CREDIT_BYTES)
    assert not session.committed()


STATES = ("working", "paused", "retrying")


def credit_of(state: str, share_bytes: int) -> int:
    """Return the credit of a stream whose journal works, or failed and is paused, or failed and is tried again."""
    session = ReceiveSession(Stream("demo"), b"peer", 0.0)
    if state != "working":
        session.pause(10.0)
    if state == "retrying":
        session.resume()
    return session.credit_bytes(share_bytes)


@given(st.sampled_from(STATES), st.integers(0, CREDIT_BYTES))
def test_a_stream_never_gets_more_than_its_share(state: str, share: int) -> None:
    assert 0 <= credit_of(state, share) <= share


@given(st.integers(0, CREDIT_BYTES))
def test_a_stream_gets_nothing_in_a_pause_then_one_batch_then_its_share(share: int) -> None:
    assert credit_of("paused", share) == 0
    assert credit_of("retrying", share) == min(share, BATCH_SIZE_MAX_BYTES)
    assert credit_of("working", share) == share


@given(st.sampled_from(STATES), st.integers(0, CREDIT_BYTES), st.integers(0, CREDIT_BYTES))
def test_a_larger_share_never_shrinks_a_credit(state: str, share: int, other: int) -> None:
    assert credit_of(state, min(share, other)) <= credit_of(state, max(share, other))


def test_the_pause_doubles_with_every_failure_up_to_a_bound(session: ReceiveSession) -> None:
    pauses = []
    for _ in range(8):
        session.pause(100.0)
        assert session.retry_at is not None
        pauses.append(session.retry_at - 100.0)
        session.resume()
    assert pauses[:3] == [PAUSE_MIN_SECONDS, 2 * PAUSE_MIN_SECONDS, 4 * PAUSE_MIN_SECONDS]
    assert pauses[-1] == PAUSE_MAX_SECONDS


def test_a_peer_is_silent_when_nothing_came_for_long(session: ReceiveSession) -> None:
    session.receive(run(1, 2), 1, 50.0)
    assert not session.silent(50.0 + SILENCE_SECONDS - 0.1)
    assert session.silent(50.0 + SILENCE_SECONDS)
    session.welcome(b"other", 2, 100.0)
    assert session.peer == b"other"
    assert not session.silent(100.0)


def test_a_peer_may_send_as_far_as_its_credit_reaches(session: ReceiveSession) -> None:
    three = len(make_run(1, 4))
    session.welcome(b"peer", 1, 0.0, three)
    assert isinstance(session.receive(run(1, 3), 1, 0.0), FrameBatch)
    assert isinstance(session.receive(run(3, 4), 3, 0.0), FrameBatch)
    with pytest.raises(CreditExceeded, match=f"bytes since the WELCOME; {three} are allowed"):
        session.receive(run(4, 5), 4, 0.0)


def test_a_single_batch_larger_than_the_credit_is_accepted(session: ReceiveSession) -> None:
    session.welcome(b"peer", 1, 0.0, 1)
    assert isinstance(session.receive(run(1, 1000), 1, 0.0), FrameBatch)
    with pytest.raises(CreditExceeded):
        session.receive(run(1000, 1001), 1000, 0.0)
    session.acknowledge(1000, 1)
    assert isinstance(session.receive(run(1000, 2000), 1000, 0.0), FrameBatch)


def test_durable_bytes_can_be_sent_again(session: ReceiveSession) -> None:
    credit_bytes = len(make_run(1, 4))
    session.welcome(b"peer", 1, 0.0, credit_bytes)
    for first in range(1, 100, 3):
        assert isinstance(session.receive(run(first, first + 3), first, 0.0), FrameBatch)
        with pytest.raises(CreditExceeded):
            session.receive(run(first + 3, first + 4), first + 3, 0.0)
        session.acknowledge(first + 3, credit_bytes)


def test_a_credit_that_shrinks_takes_nothing_back(session: ReceiveSession) -> None:
    """A trainer may use its last credit until an ACK tells of the low-water mark, and no more."""
    session.welcome(b"peer", 1, 0.0, len(make_run(1, 7)))
    session.receive(run(1, 4), 1, 0.0)
    assert session.acknowledge(4, 0) == Ack(4, 0)
    assert isinstance(session.receive(run(4, 7), 4, 0.0), FrameBatch), "it was on its way"
    assert session.acknowledge(7, 0) == Ack(7, 0)
    with pytest.raises(CreditExceeded):
        session.receive(run(7, 8), 7, 0.0)


def test_data_that_come_again_or_behind_a_hole_cost_no_credit(session: ReceiveSession) -> None:
    session.welcome(b"peer", 1, 0.0, len(make_run(1, 9)))
    session.receive(run(1, 3), 1, 0.0)
    for _ in range(5):
        assert session.receive(run(1, 3), 3, 0.0) is None
        session.receive(run(5, 9), 3, 0.0)
    assert isinstance(session.receive(run(1, 9), 3, 0.0), FrameBatch), "six of them are new"


def test_records_that_the_journal_lost_give_their_credit_back(session: ReceiveSession) -> None:
    session.welcome(b"peer", 1, 0.0, len(make_run(1, 4)))
    session.receive(run(1, 4), 1, 0.0)
    session.pause(0.0)
    session.acknowledge(1)
    session.resume()
    assert isinstance(session.receive(run(1, 4), 1, 1.0), FrameBatch)


def test_without_credit_nothing_is_accepted(session: ReceiveSession) -> None:
    session.welcome(b"peer", 1, 0.0, 0)
    with pytest.raises(CreditExceeded):
        session.receive(run(1, 2), 1, 0.0)


def test_records_that_became_durable_with_their_segment_free_credit_too(session: ReceiveSession) -> None:
    """A new segment syncs the segment before; an ACK may report that before the commit of the remaining records."""
    credit_bytes = len(make_run(1, 4))
    session.welcome(b"peer", 1, 0.0, credit_bytes)
    session.receive(run(1, 3), 1, 0.0)
    session.receive(run(3, 4), 3, 0.0)
    session.acknowledge(3, credit_bytes)
    assert isinstance(session.receive(run(4, 6), 4, 0.0), FrameBatch)
    with pytest.raises(CreditExceeded):
        session.receive(run(6, 7), 6, 0.0)


PEER = b"peer"


def record(sequence: int) -> bytes:
    """Return a record; the sizes of neighbours differ, sometimes by far."""
    size_bytes = 500 if sequence % 11 == 0 else 7 * (sequence % 5)
    return make_record(sequence, kind=Kind.TEXT, body=encode_body(Text("t", "x" * size_bytes)))


class CreditMachine(RuleBasedStateMachine):
    """A trainer that keeps to its credit is never refused.

    Two queues in order, as TCP has them; a journal that is two numbers; connections that end at any time.
    """

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
        """Open the stream; all records that came before are durable by then."""
        self.durable_sequence = self.next_sequence
        self.trainer.opened()
        self.trainer.hello(1)
        self.trainer.greeted(self.now)
        self.down.append(self.logger.welcome(PEER, self.durable_sequence, self.now, self.credit_bytes))

    def acknowledge(self) -> None:
        self.down.append(self.logger.acknowledge(self.durable_sequence, self.credit_bytes))

    @rule(records=st.integers(1, 6))
    def send(self, records: int) -> None:
        """Send as the link does: as many records as fit, or one larger record."""
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
        """Deliver the oldest message; never CreditExceeded. ZeroMQ may lose data silently."""
        frames = self.up.popleft()
        taken = None if lost else self.logger.receive(memoryview(frames), self.next_sequence, self.now)
        if isinstance(taken, FrameBatch):
            self.next_sequence = taken.next_sequence
        elif isinstance(taken, Nak):
            self.down.append(taken)

    @precondition(lambda self: self.down)
    @rule()
    def answer(self) -> None:
        """Deliver an answer of the logger; answers are never Malformed."""
        self.trainer.receive(self.down.popleft(), self.now)

    @rule(turns=st.integers(1, 20))
    def go_on(self, turns: int) -> None:
        """Send and deliver for some turns, without a commit."""
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
        """All but the last batches become durable, and an ACK reports that."""
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
        self.logger.pause(self.now)
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
        """Everything on its way is lost."""
        self.up.clear()
        self.down.clear()
        self.trainer.lost(self.now)
        self.connect()

    @invariant()
    def time_passes(self) -> None:
        self.now += 1.0


TestCreditMachine = CreditMachine.TestCase
TestCreditMachine.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


def make(peer: bytes, owner: str = "") -> ReceiveSession:
    return ReceiveSession(Stream("demo"), peer, 0.0, owner)


def test_a_session_is_found_by_its_stream_and_by_its_peer() -> None:
    sessions, session = SessionTable(4), make(b"a")
    sessions.add(session)
    assert sessions.of_peer(b"a") is sessions.of_stream(session.stream.id) is session
    sessions.remove(session)
    assert sessions.of_peer(b"a") is sessions.of_stream(session.stream.id) is None
    assert len(sessions) == 0


def test_a_stream_handed_over_answers_to_its_new_peer_only() -> None:
    sessions, session = SessionTable(4), make(b"a")
    sessions.add(session)
    sessions.hand_over(session, b"b")
    assert sessions.of_peer(b"a") is None
    assert sessions.of_peer(b"b") is session
    assert session.peer == b"b"


def test_the_surplus_is_the_session_that_spoke_least_recently() -> None:
    sessions = SessionTable(2)
    first, second, third = make(b"1"), make(b"2"), make(b"3")
    sessions.add(first)
    sessions.add(second)
    assert sessions.surplus("") is None
    sessions.of_peer(b"1")
    sessions.add(third)
    assert sessions.surplus("") is second


def test_the_surplus_of_a_key_is_its_own() -> None:
    sessions = SessionTable(16, owner_sessions_max=2)
    other, *own = make(b"1", "other"), *(make(peer, "greedy") for peer in (b"2", b"3", b"4"))
    for session in (other, *own):
        assert sessions.surplus("greedy") is None
        sessions.add(session)
    assert sessions.surplus("greedy") is own[0]
    assert sessions.surplus("other") is sessions.surplus("") is None
