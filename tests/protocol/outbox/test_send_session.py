"""The session's decisions, one by one; test_send_session_model.py plays whole conversations."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.golden import FINDING
from support.records.recordings import STREAM_ID, make_stream

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES, SEQUENCE_MAX
from tensorboard_sidecar.protocol.outbox.send_session import (
    ANSWER_TIMEOUT_SECONDS,
    PAUSE_MAX_SECONDS,
    PAUSE_MIN_SECONDS,
    SendSession,
    SendState,
    SendWindow,
)
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Findings, Hello, Nak, Reject, Welcome, WireMessage

END = 100


def run(first: int, following: int, size: int = 10) -> FrameBatch:
    return FrameBatch(memoryview(bytes(size)), first, following)


def streaming(credit: int = 1000, *, sent: int = 0) -> SendSession:
    """Return a session with a WELCOME at 1 and ``sent`` sent records of 10 bytes, all at time 0."""
    session = SendSession(make_stream())
    session.opened()
    session.greeted(0.0)
    session.receive(Welcome(1, credit), 0.0)
    for sequence in range(1, sent + 1):
        session.sent(run(sequence, sequence + 1), 0.0)
    return session


def test_a_hello_says_who_speaks_and_what_is_held() -> None:
    session = SendSession(make_stream("team/run", rank=3, attempt=2))
    assert session.hello(17) == Hello(STREAM_ID, "team/run", 3, 2, 17)


def test_nothing_is_sent_before_a_welcome() -> None:
    session = SendSession(make_stream(), sent_sequence=5)
    assert session.size_max_bytes == 0
    session.opened()
    session.greeted(0.0)
    assert session.size_max_bytes == 0
    session.receive(Welcome(5, 100), 0.0)
    assert (session.next_sequence, session.acked_sequence, session.size_max_bytes) == (5, 5, 100)


def test_credit_is_what_may_be_on_its_way() -> None:
    session = streaming(credit=25, sent=2)
    assert session.size_max_bytes == 5
    assert session.may_send(5)
    assert not session.may_send(6)
    session.receive(Ack(2, 25), 1.0)
    assert session.size_max_bytes == 15


def test_a_record_larger_than_the_credit_goes_alone() -> None:
    """Otherwise the record would never be sent. Without any credit the record is not sent."""
    session = streaming(credit=25)
    assert session.may_send(1_000_000)
    session.sent(run(1, 2, 1_000_000), 0.0)
    assert not session.may_send(1)
    session.receive(Ack(2, 0), 0.0)
    assert not session.may_send(1)


def test_a_nak_goes_back_and_acknowledges_nothing() -> None:
    """Received records may be lost with the logger: only an ACK lets the trainer delete records."""
    session = streaming(credit=100, sent=6)
    session.receive(Nak(4), 1.0)
    assert (session.acked_sequence, session.next_sequence) == (1, 4)
    assert session.size_max_bytes == 70, "three runs are still on their way to the disk"
    session.receive(Ack(4, 100), 1.0)
    assert (session.acked_sequence, session.size_max_bytes) == (4, 100)


def test_a_nak_of_nothing_asks_for_a_hello_once() -> None:
    session = streaming(sent=3)
    session.receive(Nak(0), 1.0)
    assert session.state.value == "opening"
    session.greeted(1.0)
    session.receive(Nak(0), 1.0)  # to the second record, sent before the HELLO
    assert session.state.value == "greeting"
    session.receive(Welcome(2, 1000), 1.0)
    assert (session.state.value, session.next_sequence) == ("streaming", 2)


def test_a_logger_may_have_what_was_sent_before_it_asked_to_begin_again() -> None:
    """Records that were sent on a lost link may have arrived."""
    session = streaming(sent=5)
    session.receive(Nak(3), 1.0)
    session.lost(1.0)
    session.opened()
    session.greeted(2.0)
    session.receive(Welcome(6, 1000), 2.0)
    assert (session.acked_sequence, session.next_sequence) == (6, 6)


def test_an_orphan_may_have_been_sent_to_its_end_by_others() -> None:
    session = SendSession(make_stream(), sent_sequence=END)
    with pytest.raises(Malformed):
        session.receive(Welcome(END + 1, 1000), 0.0)
    session.receive(Welcome(END, 1000), 0.0)
    assert session.acked_sequence == END


def test_a_logger_with_another_journal_starts_it_from_what_it_has() -> None:
    session = streaming(sent=5)
    session.receive(Ack(6, 1000), 0.0)
    session.lost(0.0)
    session.receive(Welcome(1, 1000), 0.0)
    assert (session.acked_sequence, session.next_sequence) == (1, 1)


@pytest.mark.parametrize(
    "message",
    [
        Welcome(0, 10),
        Welcome(7, 10),
        Welcome(END, 10),
        Ack(7, 10),
        Ack(END, 10),
        Nak(7),
        Nak(2),
        Hello(STREAM_ID, "run", 0, 0, 1),
        Data(memoryview(b"")),
        Bye(),
    ],
)
def test_what_no_logger_says_is_malformed_and_changes_nothing(message: WireMessage) -> None:
    """An acknowledgement of records that were never sent would delete those records."""
    session = streaming(credit=100, sent=5)
    session.receive(Ack(3, 100), 0.0)
    before = dict(vars(session))
    with pytest.raises(Malformed):
        session.receive(message, 1.0)
    assert vars(session) == before


def test_what_a_nak_asked_for_may_arrive_all_the_same() -> None:
    """The batch was in flight when the journal failed, and arrived when the journal could be written again."""
    session = streaming(sent=5)
    session.receive(Nak(1), 0.0)
    session.receive(Ack(4, 1000), 0.0)
    assert (session.acked_sequence, session.next_sequence) == (4, 4)
    session.receive(Nak(6), 0.0)
    assert (session.acked_sequence, session.next_sequence) == (4, 6)
    with pytest.raises(Malformed):
        session.receive(Ack(7, 1000), 0.0)


def test_silence_is_a_loss_only_while_an_answer_is_due() -> None:
    late = ANSWER_TIMEOUT_SECONDS + 0.1
    idle = streaming()
    assert not idle.overdue(1e9)
    waiting = streaming(sent=2)
    assert not waiting.overdue(ANSWER_TIMEOUT_SECONDS - 0.1)
    assert waiting.overdue(late)
    waiting.receive(Ack(2, 1000), 4.0)
    assert not waiting.overdue(late)
    waiting.receive(Ack(3, 1000), 4.0)
    assert not waiting.overdue(1e9)
    greeting = SendSession(make_stream())
    greeting.opened()
    assert not greeting.overdue(1e9), "a link that is not up owes nothing"
    greeting.greeted(10.0)
    assert greeting.overdue(10.0 + late)


def test_no_credit_is_asked_about_again() -> None:
    """A logger with a full disk may have been restarted, and then knows no session before a HELLO."""
    session = streaming(credit=100)
    assert not session.starved(1e9)
    session.receive(Ack(1, 0), 10.0)
    assert not session.starved(10.0 + ANSWER_TIMEOUT_SECONDS - 0.1)
    assert session.starved(10.0 + ANSWER_TIMEOUT_SECONDS)
    session.opened()
    session.greeted(20.0)
    session.receive(Welcome(1, 0), 20.0)
    assert not session.starved(20.0 + ANSWER_TIMEOUT_SECONDS - 0.1)


def test_a_new_run_on_an_idle_link_starts_the_clock() -> None:
    session = streaming()
    session.sent(run(1, 2), 1000.0)
    assert not session.overdue(1000.0 + ANSWER_TIMEOUT_SECONDS - 0.1)


def test_pauses_double_until_something_is_acknowledged() -> None:
    session = SendSession(make_stream())
    now, pauses = 0.0, []
    for _ in range(8):
        session.opened()
        session.lost(now)
        start = now
        while not session.may_open(now):
            now += 0.05
        pauses.append(now - start)
    assert pauses[0] == pytest.approx(PAUSE_MIN_SECONDS, abs=0.06)
    assert all(later <= 2 * earlier + 0.11 for earlier, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(PAUSE_MAX_SECONDS, abs=0.06)
    session.opened()
    session.receive(Welcome(1, 100), now)
    session.sent(run(1, 2), now)
    session.receive(Ack(2, 100), now)
    session.lost(now)
    assert session.may_open(now + PAUSE_MIN_SECONDS)


def test_a_refusal_for_now_is_tried_again_and_one_for_good_is_not() -> None:
    session = streaming(sent=2)
    session.receive(Reject("busy", retry=True), 0.0)
    assert (session.state, session.reason) == (SendState.PAUSED, "busy")
    assert session.may_open(PAUSE_MAX_SECONDS)
    session.opened()
    session.receive(Reject("no\x07", retry=False), 0.0)
    assert (session.state, session.reason) == (SendState.REFUSED, "no\\x07")
    assert not session.may_open(1e9)
    assert not session.overdue(1e9)
    assert session.size_max_bytes == 0


sequences = st.one_of(st.integers(0, END + 3), st.integers(0, SEQUENCE_MAX))
answers = st.one_of(
    st.builds(Welcome, sequences, st.integers(0, 2 * CREDIT_BYTES)),
    st.builds(Ack, sequences, st.integers(0, 2 * CREDIT_BYTES)),
    st.builds(Nak, sequences),
    st.builds(Reject, st.text(max_size=9), st.booleans()),
    st.builds(Bye),
)


@given(said=st.lists(st.tuples(answers, st.booleans()), max_size=30))
def test_whatever_a_peer_says_acknowledges_nothing_that_was_not_there(said: list[tuple[WireMessage, bool]]) -> None:
    session = streaming(sent=5)
    highest = session.next_sequence
    for number, (answer, sends) in enumerate(said):
        with suppress(Malformed):
            session.receive(answer, float(number))
        assert 1 <= session.acked_sequence <= session.next_sequence <= highest
        if sends and session.may_send(10) and session.next_sequence < END:
            highest = max(highest, session.next_sequence + 1)
            session.sent(run(session.next_sequence, session.next_sequence + 1), float(number))


def make_window() -> SendWindow:
    """Return a window with three batches of 100 bytes in flight, of 10 records each."""
    window = SendWindow()
    window.restart(1, 1000)
    for next_sequence in (11, 21, 31):
        window.send(next_sequence, 100)
    return window


def test_a_new_window_has_no_credit() -> None:
    window = SendWindow()
    assert (window.free_bytes, window.idle) == (0, True)


def test_batches_in_flight_use_the_credit() -> None:
    window = make_window()
    assert (window.next_sequence, window.in_flight_bytes, window.free_bytes) == (31, 300, 700)


def test_an_acknowledgement_frees_whole_batches() -> None:
    window = make_window()
    assert window.acknowledge(25, 1000)
    assert (window.acked_sequence, window.in_flight_bytes, window.free_bytes) == (25, 100, 900)


def test_an_old_acknowledgement_is_no_progress_but_brings_credit() -> None:
    window = make_window()
    window.acknowledge(21, 1000)
    assert not window.acknowledge(11, 50)
    assert (window.acked_sequence, window.free_bytes) == (21, -50)


def test_a_nak_goes_back_and_keeps_earlier_batches_in_flight() -> None:
    window = make_window()
    window.go_back(11)
    assert (window.acked_sequence, window.next_sequence, window.reached_sequence) == (1, 11, 31)
    assert window.in_flight_bytes == 100


def test_records_that_arrived_in_spite_of_a_nak_are_not_sent_again() -> None:
    window = make_window()
    window.go_back(11)
    assert window.acknowledge(31, 1000)
    assert (window.next_sequence, window.idle) == (31, True)


def test_a_welcome_begins_again() -> None:
    window = make_window()
    window.restart(6, 500)
    assert (window.acked_sequence, window.next_sequence, window.reached_sequence) == (6, 6, 6)
    assert (window.free_bytes, window.idle) == (500, True)


def test_findings_are_taken_and_change_nothing_else() -> None:
    """They are no answer: a logger that tells findings and acknowledges nothing is given up as any other."""
    taken = list[Finding]()
    session = SendSession(make_stream(), 5, taken.extend)
    assert session.hello(1).findings
    assert not SendSession(make_stream()).hello(1).findings
    session.opened()
    session.greeted(0.0)
    before = dict(vars(session))
    session.receive(Findings([FINDING]), 1.0)
    assert taken == [FINDING]
    assert vars(session) == before
    assert session.overdue(ANSWER_TIMEOUT_SECONDS)
    assert not session.answered
    SendSession(make_stream()).receive(Findings([FINDING]), 1.0)  # never asked for: ignored
