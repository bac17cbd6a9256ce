from tensorboard_sidecar.logger_service.intake.receive_session import ReceiveSession
from tensorboard_sidecar.logger_service.intake.session_table import SessionTable
from tensorboard_sidecar.protocol.stream import Stream


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
