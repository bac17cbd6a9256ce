"""The link over real sockets, to loggers that are absent, late, frozen, restarted, forgetful or mad."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

import pytest
import zmq

from protocol.codec import decode_message
from protocol.limits import CONTROL_MESSAGE_SIZE_MAX_BYTES, CREDIT_BYTES
from protocol.messages import Gap
from protocol.record import Kind
from protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage, encode_wire
from support.fake_logger import FakeLogger
from support.programs import free_port
from support.recordings import START_NS, STREAM_ID, make_stream
from support.waiting import wait_until
from trainer.telemetry.link import LoggerLink, check_endpoint
from trainer.telemetry.outbox import Outbox
from trainer.telemetry.session import State

Connect = Callable[[str], LoggerLink]


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=2**24, wall_time_ns=START_NS, segment_size_bytes=2**16
    )
    yield made
    made.close(keep=False)


@pytest.fixture
def connect(outbox: Outbox) -> Iterator[Connect]:
    links: list[LoggerLink] = []

    def connect_to(endpoint: str) -> LoggerLink:
        links.append(LoggerLink(outbox, endpoint))
        return links[-1]

    yield connect_to
    for link in links:
        link.close()


def say(outbox: Outbox, count: int = 100, size: int = 200) -> int:
    """Keep records; return the number behind the last."""
    for number in range(count):
        outbox.append(Kind.SCALARS, number, START_NS, bytes([number % 256]) * size)
    return outbox.next_sequence


class Clock:
    """Goes on with ours, and faster when it is asked to: a timeout of seconds is then over in some turns."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        return monotonic() + self.ahead_seconds


CLOCK = Clock()


def drive(link: LoggerLink, until: Callable[[], object], *, hurry: bool = False) -> None:
    """Let the link turn until something is true."""

    def turn() -> object:
        if not link.step(CLOCK.now()):
            link.wait(0.005)
        CLOCK.ahead_seconds += 0.02 * hurry
        return until()

    wait_until(turn)


def all_acknowledged(link: LoggerLink, end: int) -> Callable[[], bool]:
    return lambda: link.session.acked_sequence == end


def check_all_there(logger: FakeLogger, end: int) -> None:
    assert [record.sequence for record in logger.records[STREAM_ID]] == list(range(1, end))


def test_everything_is_shipped_acknowledged_and_said_goodbye_to(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox)
    with FakeLogger() as logger:
        link = connect(logger.endpoint)
        drive(link, all_acknowledged(link, end))
        link.close()
        wait_until(lambda: logger.count(Bye))
    check_all_there(logger, end)
    assert logger.heard[0] == Hello(STREAM_ID, "demo", 0, 0, 1)


def test_a_logger_that_comes_late_gets_everything(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox)
    logger = FakeLogger()
    link = connect(logger.endpoint)
    for _ in range(5):
        assert not link.step(CLOCK.now())
        assert link.wait(0.001)
    assert link.session.state is State.OPENING
    with logger:
        drive(link, all_acknowledged(link, end))
    check_all_there(logger, end)


def test_no_logger_at_all_costs_nothing_and_is_left_at_once(outbox: Outbox, connect: Connect) -> None:
    say(outbox)
    link = connect(f"tcp://127.0.0.1:{free_port()}")
    for later in (0, 10, 100, 1000):
        assert not link.step(CLOCK.now() + later)
    before = monotonic()
    link.close()
    assert monotonic() - before < 1.0
    assert link.session.acked_sequence == 1


def test_a_frozen_logger_is_given_up_and_gets_everything_once_when_it_thaws(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox)
    with FakeLogger(credit_bytes=5000) as logger:
        link = connect(logger.endpoint)
        drive(link, lambda: link.session.acked_sequence > 10)
        logger.freeze()
        drive(link, lambda: link.session.next_sequence > link.session.acked_sequence)
        drive(link, lambda: link.session.state is State.PAUSED, hurry=True)
        logger.thaw()
        drive(link, all_acknowledged(link, end))
    check_all_there(logger, end)


def test_no_more_than_the_credit_is_sent_to_a_logger_that_does_not_acknowledge(
    outbox: Outbox, connect: Connect
) -> None:
    say(outbox, 1000)
    silent: Callable[[WireMessage], Sequence[WireMessage] | None] = lambda m: [] if isinstance(m, Data) else None  # noqa: E731
    with FakeLogger(silent, credit_bytes=50_000) as logger:
        link = connect(logger.endpoint)
        drive(link, lambda: sum(len(m.frames) for m in logger.heard if isinstance(m, Data)) > 45_000)
        for _ in range(20):
            assert not link.step(CLOCK.now())
            link.wait(0.001)
        sent = sum(len(message.frames) for message in logger.heard if isinstance(message, Data))
    assert 45_000 < sent <= 50_000


def test_a_record_larger_than_the_credit_is_sent_alone(outbox: Outbox, connect: Connect) -> None:
    say(outbox, 3)
    say(outbox, 1, 200_000)
    end = say(outbox, 3)
    with FakeLogger(credit_bytes=1000) as logger:
        link = connect(logger.endpoint)
        drive(link, all_acknowledged(link, end))
        runs = [len(message.frames) for message in logger.heard if isinstance(message, Data)]
    assert max(runs) > 200_000
    assert sorted(runs)[-2] <= 1000
    check_all_there(logger, end)


def test_a_restarted_logger_goes_on_where_its_journal_ends(outbox: Outbox, connect: Connect) -> None:
    """ZeroMQ connects again by itself; data without a HELLO are answered with NAK(0)."""
    end = say(outbox)
    with FakeLogger(credit_bytes=5000) as logger:
        link = connect(logger.endpoint)
        drive(link, lambda: link.session.acked_sequence > 10)
        for _ in range(3):
            logger.stop()
            logger.start()
            end = say(outbox, 20)
            drive(link, all_acknowledged(link, end), hurry=True)
        assert logger.count(Hello) >= 4
    check_all_there(logger, end)


def test_a_logger_with_an_empty_journal_is_told_what_it_will_never_get(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox, 1000)
    with FakeLogger() as logger:
        link = connect(logger.endpoint)
        drive(link, all_acknowledged(link, end))
        outbox.release(end)
        first = outbox.first_sequence
        assert 1 < first < end
        logger.stop()
        logger.records.clear()
        logger.start()
        end = say(outbox, 10)
        drive(link, all_acknowledged(link, end))
        assert link.session.hello(first) in logger.heard
    gap, *records = logger.records[STREAM_ID]
    assert (gap.kind, gap.sequence, gap.next_sequence) == (Kind.GAP, 1, first)
    message = decode_message(gap)
    assert isinstance(message, Gap)
    assert "another journal" in message.reason or "does not have" in message.reason
    assert [record.sequence for record in records] == list(range(first, end))


def test_a_refusal_for_now_is_tried_again(outbox: Outbox, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    end = say(outbox)
    refusals = iter([Reject("another peer sends this stream", retry=True)] * 2)
    answer: Callable[[WireMessage], list[WireMessage] | None] = lambda message: (  # noqa: E731
        [found] if isinstance(message, Hello) and (found := next(refusals, None)) else None
    )
    with FakeLogger(answer) as logger:
        link = connect(logger.endpoint)
        drive(link, all_acknowledged(link, end))
        assert logger.count(Hello) == 3
    check_all_there(logger, end)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{logger.endpoint} refuses run demo for now: another peer sends this stream"
    ], "said once, not at every try"


def test_a_refusal_for_good_ends_the_link(outbox: Outbox, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    say(outbox)
    said = [Reject("your run is not wanted", retry=False), Welcome(1, CREDIT_BYTES)]
    with FakeLogger(lambda _: said) as logger:
        link = connect(logger.endpoint)
        drive(link, lambda: link.session.state is State.REFUSED)
        for later in (0, 100, 10_000):
            assert not link.step(CLOCK.now() + later)
        assert not link.wait(60), "there is nothing to wait for"
        assert link.session.state is State.REFUSED
    assert logger.count(Hello) == 1
    assert logger.count(Data) == 0
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "refuses run demo for good: your run is not wanted" in record.message


RUBBISH = {
    "nothing": [b""],
    "one byte": [b"\1"],
    "another protocol": [b"HTTP/1.1 200 OK\r\n\r\n"],
    "a newer version": [b"\2\2rest"],
    "an unknown type": [b"\1\xff"],
    "no msgpack": [b"\1\2\xc1\xc1\xc1"],
    "the wrong fields": [b"\1\2\x80"],
    "a negative number": [b"\1\2\x82\xadnext_sequence\xff\xaccredit_bytes\x01"],
    "a trainer's message": [encode_wire(Bye())],
    "a welcome to nowhere": [Welcome(0, 1000)],
    "a welcome behind the end": [Welcome(10**6, 1000)],
    "an acknowledgement of what was never sent": [Welcome(1, 0), Ack(50, 1000)],
    "an acknowledgement of everything there will be": [Welcome(1, 0), Ack(2**63 - 1, 1000)],
    "a way back into the future": [Welcome(1, 0), Nak(2**63 - 1)],
    "an oversize message": [bytes(CONTROL_MESSAGE_SIZE_MAX_BYTES + 1)],
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_acknowledges_nothing_and_ends_nothing(
    outbox: Outbox, connect: Connect, rubbish: list[WireMessage | bytes], caplog: pytest.LogCaptureFixture
) -> None:
    end = say(outbox)
    mad = True
    with FakeLogger(lambda _: rubbish if mad else None) as logger:
        link = connect(logger.endpoint)
        drive(link, lambda: logger.count(Hello) >= 2, hurry=True)
        assert link.session.acked_sequence == 1
        mad = False
        drive(link, all_acknowledged(link, end), hurry=True)
    check_all_there(logger, end)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 1


def test_a_number_inside_a_gap_is_nowhere_to_begin(memory: Path) -> None:
    """No logger keeps a part of a gap; one that says so is tried again, and the sender lives."""
    outbox = Outbox(memory / "full", make_stream(), capacity_bytes=5000, wall_time_ns=START_NS)
    for _ in range(9):
        outbox.append(Kind.SCALARS, 0, START_NS, bytes(9000))
    outbox.append(Kind.SCALARS, 0, START_NS, b"")
    with FakeLogger(lambda _: [Welcome(5, 1000)]) as logger:
        link = LoggerLink(outbox, logger.endpoint)
        drive(link, lambda: logger.count(Hello) >= 2)
        assert logger.count(Data) == 0
        link.close()
    outbox.close(keep=False)


def test_sockets_that_run_out_are_waited_for(outbox: Outbox, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    end = say(outbox)
    with FakeLogger() as logger:
        link = connect(logger.endpoint)
        link._give_up(CLOCK.now())

        def no_socket(_kind: int) -> None:
            raise zmq.ZMQError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(link._context, "socket", no_socket)
            for later in (1, 2, 3):
                assert not link.step(CLOCK.now() + later)
            assert link.session.state is State.PAUSED
        drive(link, all_acknowledged(link, end), hurry=True)
    check_all_there(logger, end)


def test_messages_of_several_frames_are_refused(outbox: Outbox, connect: Connect) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    say(outbox)
    link = connect(f"tcp://127.0.0.1:{port}")
    drive(link, lambda: socket.poll(0))
    peer, _ = socket.recv_multipart()
    welcome = encode_wire(Welcome(1, 1000))
    socket.send_multipart([peer, welcome[:1], welcome[1:]])
    drive(link, lambda: link.session.state is State.PAUSED)
    context.destroy(linger=0)


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5555", "tcp://logger.example.org:1", "tcp://[::1]:65535", "ipc:///tmp/x y", "ipc://@abstract"],
)
def test_addresses_that_can_be_connected_to_are_taken(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", " ", "localhost", "5555", "localhost:5555", "tcp://", "tcp://:5555", "tcp://*:5555", "tcp://127.0.0.1"),
        *("tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:-1", "tcp://h:5555\n"),
        *("tcp://127.0.0.1:5555/x", "tcp://a b:1", "TCP://127.0.0.1:5555", "http://127.0.0.1:5555", "inproc://x"),
        *("udp://127.0.0.1:5555", "ipc://", "ipc://a\0b", "tcp://127.0.0.1:5555\0", "none", 5555, b"tcp://h:1", None),
    ],
)
def test_addresses_that_cannot_be_are_said_at_once(endpoint: str, outbox: Outbox) -> None:
    with pytest.raises(ValueError, match=r"expected .*tcp://127\.0\.0\.1:5555"):
        LoggerLink(outbox, endpoint)


def test_an_address_that_zeromq_refuses_is_said_at_once(outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="cannot connect"):
        LoggerLink(outbox, "ipc://" + "x" * 200)
