"""Dispatching: each kind of message reaches its part; a bad message is refused, counted, and harms no other peer."""

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logger.noted_logger import NotedLogger, refused
from support.logger.peer import make_record, make_run

from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage, encode_wire


@pytest.fixture
def logger(tmp_path: Path) -> NotedLogger:
    return NotedLogger(tmp_path)


def test_data_without_a_hello_are_answered_with_nak_0_once_a_second(logger: NotedLogger) -> None:
    assert logger.data(b"a", 1, 2) == [Nak(0)]
    assert logger.data(b"a", 2, 3) == []
    logger.wait(1.0)
    assert logger.data(b"a", 3, 4) == [Nak(0)]


def test_after_a_bye_the_records_are_durable_and_the_peer_has_no_stream(logger: NotedLogger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    assert logger.say(b"a", Bye()) == [Ack(4, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2, 3]
    assert logger.data(b"a", 4, 5) == [Nak(0)]
    assert logger.say(b"z", Bye()) == []


def test_a_peer_of_this_process_is_answered_there(logger: NotedLogger) -> None:
    answers: list[WireMessage] = []
    logger.dispatcher.replies.join(b"local", lambda message: answers.append(message) is None)
    assert logger.hello(b"local", Stream("demo")) == []
    assert answers == [Welcome(1, CREDIT_BYTES)]
    logger.dispatcher.replies.leave(b"local")
    assert logger.say(b"local", Bye()) == []
    assert len(logger.streams) == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "0 bytes"),
        (b"\x01", "1 bytes"),
        (b"\x07\x01", "version 7"),
        (b"\x01\x63", "unknown type 99"),
        (b"\x01\x01\xc1", "Hello"),
        (b"\x01\x01" + b"\x91" * 70_000, "limit"),
        (Hello(b"short", "demo", 0, 0, 1), "5 bytes"),
        (Hello(bytes(16), "../../etc", 0, 0, 1), "begins with a dot"),
        (Hello(bytes(16), "/etc", 0, 0, 1), "empty"),
        (Hello(bytes(16), "a\0b", 0, 0, 1), "control"),
        (Hello(bytes(16), "a" * 10_000, 0, 0, 1), "limit"),
        (Hello(bytes(16), "demo", -1, 0, 1), "rank -1"),
        (Hello(bytes(16), "demo", 0, 0, 0), "next sequence 0"),
        (Welcome(1, 1), "does not send Welcome"),
        (Ack(1, 1), "does not send Ack"),
        (Nak(1), "does not send Nak"),
    ],
)
def test_a_message_that_breaks_the_protocol_is_refused_with_the_reason(
    logger: NotedLogger, tmp_path: Path, message: WireMessage | bytes, reason: str
) -> None:
    assert refused(logger.say(b"a", message), reason)
    assert logger.dispatcher.counts.refused == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames",
    [
        b"rubbish",
        make_run(1, 3)[:-1],
        make_record(1) + make_record(3),
        make_record(1) + make_record(1),
        make_record(0, span=0, kind=Kind.SEGMENT),
        bytes(100),
        make_record(1)[:20] + b"\xff" + make_record(1)[21:],
    ],
)
def test_bad_data_cost_their_peer_the_session_and_no_other_peer_anything(logger: NotedLogger, frames: bytes) -> None:
    honest, bad = Stream("honest"), Stream("bad")
    logger.hello(b"honest", honest)
    logger.hello(b"bad", bad)
    logger.data(b"honest", 1, 3)
    (answer,) = logger.say(b"bad", Data(memoryview(frames)))
    assert isinstance(answer, Reject)
    assert not answer.retry
    assert logger.say(b"bad", Data(memoryview(make_run(1, 2)))) == [Nak(0)]
    logger.wait()
    assert Ack(3, CREDIT_BYTES) in logger.network.take(b"honest")
    assert logger.records(honest) == [1, 2]
    assert not (logger.folder / "bad").exists()


def test_a_flood_of_bad_messages_is_counted_and_neither_answered_nor_logged_each_time(
    logger: NotedLogger, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [logger.say(b"bad", b"\xff\xff") for _ in range(1000)]
    assert sum(map(len, answers)) == 1
    assert logger.dispatcher.counts.refused == 1000
    assert len(caplog.records) == 1


@pytest.mark.parametrize("call", ["check_owner", "open", "append", "next_sequence"])
@pytest.mark.parametrize(
    "fault",
    [
        IsADirectoryError(errno.EISDIR, "Is a directory", "/recordings/\udcff/key-name"),
        OSError(errno.EIO, "Input/output error"),
        UnicodeEncodeError("latin-1", "\u65e5", 0, 1, "a name that this locale cannot say"),
        RuntimeError("a fault of ours"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_fault_of_the_disk_costs_its_peer_a_hello_and_no_other_peer_anything(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch, call: str, fault: Exception
) -> None:
    """A folder in place of a file, a name that the locale cannot encode, a bug of the logger: the logger goes on."""
    honest, bad = Stream("honest"), Stream("bad")
    logger.hello(b"honest", honest)
    logger.data(b"honest", 1, 3)

    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        if call in ("append", "next_sequence"):
            logger.hello(b"bad", bad)
        patch.setattr(logger.journal, call, fail)
        answers = logger.data(b"bad", 1, 2) if call in ("append", "next_sequence") else logger.hello(b"bad", bad)
    if call == "append" and isinstance(fault, OSError):
        assert answers == [Ack(1, 0), Nak(1)], "the journal's own failure: the trainer waits"
        return
    assert refused(answers, printable(str(fault)), retry=True)
    assert logger.dispatcher.counts.refused == 1
    assert logger.dispatcher.counts.journal_failures == isinstance(fault, OSError)
    logger.wait(1.0)
    assert logger.hello(b"bad", bad) == [Welcome(1, CREDIT_BYTES)]
    logger.data(b"bad", 1, 2)
    logger.wait()
    assert (logger.records(honest), logger.records(bad)) == ([1, 2], [1])


def test_a_peer_that_ignores_its_credit_is_refused_and_cut(logger: NotedLogger) -> None:
    """The disk is nearly full, and there is no credit: data without credit fill no more of the disk."""
    logger.space = DiskSpace(1, 2**41)
    hostile, size_bytes = Stream("hostile"), 0
    assert logger.hello(b"hostile", hostile) == [Welcome(1, 0)]
    data = encode_wire(Data(memoryview(make_run(1, 2))))
    for _ in range(10):
        assert not logger.dispatcher.handle(b"hostile", data, logger.now)
        assert refused(logger.network.take(b"hostile"), "sent more than its credit allows")
        logger.hello(b"hostile", hostile)
        size_bytes += len(data)
    assert logger.dispatcher.counts.refused == 10
    assert logger.dispatcher.counts.record_bytes == 0
    assert not (logger.folder / "hostile").exists()


def test_an_honest_peers_connection_stays(logger: NotedLogger) -> None:
    logger.hello(b"a", Stream("demo"))
    for sequence in range(1, 100):
        data = encode_wire(Data(memoryview(make_run(sequence, sequence + 1))))
        assert logger.dispatcher.handle(b"a", data, logger.now)
        logger.wait(0.01)
    assert logger.dispatcher.handle(b"a", b"rubbish", logger.now), "a REJECT tells it why"


MESSAGES = [
    encode_wire(Hello(bytes(range(16)), "demo", 0, 0, 1)),
    encode_wire(Data(memoryview(make_run(1, 4)))),
    encode_wire(Bye()),
    encode_wire(Ack(1, 1)),
]


@st.composite
def wrong_bytes(draw: st.DrawFn) -> bytes:
    """Return random bytes, and messages with a few bytes changed, removed or inserted."""
    data = bytearray(draw(st.sampled_from([*MESSAGES, b"\x01\x04", b"\x01\x01"])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=6))
    return bytes(data[: draw(st.integers(0, len(data) + 40))])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"x", b"y"]), wrong_bytes()), max_size=30))
def test_no_bytes_of_other_peers_stop_an_honest_peer(
    tmp_path_factory: pytest.TempPathFactory, hostile: list[tuple[bytes, bytes]]
) -> None:
    root, stream = tmp_path_factory.mktemp("fuzz"), Stream("honest")
    logger = NotedLogger(root / "recordings")
    assert logger.hello(b"honest", stream) == [Welcome(1, CREDIT_BYTES)]
    for sequence, (peer, data) in enumerate(hostile, 1):
        logger.say(peer, data)
        assert logger.data(b"honest", sequence, sequence + 1) == []
    logger.wait()
    if hostile:
        assert logger.network.take(b"honest")[-1] == Ack(len(hostile) + 1, CREDIT_BYTES)
        assert logger.records(stream) == list(range(1, len(hostile) + 1))
    assert list(root.iterdir()) in ([], [logger.folder]), "nothing is written elsewhere"
