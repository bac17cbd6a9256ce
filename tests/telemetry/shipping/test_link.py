"""The link over real sockets, to loggers that are absent, late, frozen, restarted, forgetful or mad."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

import pytest
import zmq
from support.logger.driven_link import DrivenLink
from support.logger.fake_logger import FakeLogger
from support.machine.waiting import wait_until
from support.records.golden import FINDING
from support.records.recordings import START_NS, STREAM_ID, make_stream
from support.running.programs import free_port

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import CONTROL_MESSAGE_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.send_session import SendState
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.wire import (
    Ack,
    Bye,
    Data,
    Findings,
    Hello,
    Nak,
    Reject,
    Welcome,
    WireMessage,
    encode_wire,
)
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink

Connect = Callable[[str], DrivenLink]


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=2**24, wall_time_ns=START_NS, segment_size_bytes=2**16
    )
    yield made
    made.close(keep=False)


@pytest.fixture
def connect(outbox: Outbox) -> Iterator[Connect]:
    links: list[DrivenLink] = []

    def connect_to(endpoint: str) -> DrivenLink:
        links.append(DrivenLink(outbox, endpoint))
        return links[-1]

    yield connect_to
    for driven in links:
        driven.link.close()


def say(outbox: Outbox, count: int = 100, size: int = 200) -> int:
    """Append records; return the sequence number after the last."""
    for number in range(count):
        outbox.append(Kind.SCALARS, number, START_NS, bytes([number % 256]) * size)
    return outbox.next_sequence


def check_all_there(logger: FakeLogger, end: int) -> None:
    assert [record.sequence for record in logger.records[STREAM_ID]] == list(range(1, end))


def test_everything_is_shipped_acknowledged_and_said_goodbye_to(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox)
    with FakeLogger() as logger:
        link = connect(logger.endpoint)
        link.drive_to(end)
        link.link.close()
        wait_until(lambda: logger.count(Bye))
    check_all_there(logger, end)
    assert logger.heard[0] == Hello(STREAM_ID, "demo", 0, 0, 1)


def test_a_logger_that_comes_late_gets_everything(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox)
    logger = FakeLogger()
    link = connect(logger.endpoint)
    for _ in range(5):
        assert not link.turn()
        assert link.link.wait(0.001)
    assert link.session.state is SendState.OPENING
    with logger:
        link.drive_to(end)
    check_all_there(logger, end)


def test_no_logger_at_all_costs_nothing_and_is_left_at_once(outbox: Outbox, connect: Connect) -> None:
    say(outbox)
    link = connect(f"tcp://127.0.0.1:{free_port()}")
    for later in (0, 10, 100, 1000):
        assert not link.turn(later_seconds=later)
    before = monotonic()
    link.link.close()
    assert monotonic() - before < 20.0
    assert link.session.acked_sequence == 1


def test_a_frozen_logger_is_given_up_and_gets_everything_once_when_it_thaws(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox)
    with FakeLogger(credit_bytes=5000) as logger:
        link = connect(logger.endpoint)
        link.drive(lambda: link.session.acked_sequence > 10)
        logger.freeze()
        link.drive(lambda: link.session.next_sequence > link.session.acked_sequence)
        link.drive(lambda: link.session.state is SendState.PAUSED, hurry=True)
        logger.thaw()
        link.drive_to(end)
    check_all_there(logger, end)


def test_no_more_than_the_credit_is_sent_to_a_logger_that_does_not_acknowledge(
    outbox: Outbox, connect: Connect
) -> None:
    say(outbox, 1000)
    silent: Callable[[WireMessage], Sequence[WireMessage] | None] = lambda m: [] if isinstance(m, Data) else None  # noqa: E731 - a type of its own
    with FakeLogger(silent, credit_bytes=50_000) as logger:
        link = connect(logger.endpoint)
        link.drive(lambda: sum(len(m.frames) for m in logger.heard if isinstance(m, Data)) > 45_000)
        for _ in range(20):
            assert not link.turn()
            link.link.wait(0.001)
        sent = sum(len(message.frames) for message in logger.heard if isinstance(message, Data))
    assert 45_000 < sent <= 50_000


def test_a_record_larger_than_the_credit_is_sent_alone(outbox: Outbox, connect: Connect) -> None:
    say(outbox, 3)
    say(outbox, 1, 200_000)
    end = say(outbox, 3)
    with FakeLogger(credit_bytes=1000) as logger:
        link = connect(logger.endpoint)
        link.drive_to(end)
        runs = [len(message.frames) for message in logger.heard if isinstance(message, Data)]
    assert max(runs) > 200_000
    assert sorted(runs)[-2] <= 1000
    check_all_there(logger, end)


def test_a_restarted_logger_goes_on_where_its_journal_ends(outbox: Outbox, connect: Connect) -> None:
    """ZeroMQ connects again by itself; data without a HELLO are answered with NAK(0)."""
    end = say(outbox)
    with FakeLogger(credit_bytes=5000) as logger:
        link = connect(logger.endpoint)
        link.drive(lambda: link.session.acked_sequence > 10)
        for _ in range(3):
            logger.stop()
            logger.start()
            end = say(outbox, 20)
            link.drive_to(end, hurry=True)
        assert logger.count(Hello) >= 4
    check_all_there(logger, end)


def test_a_logger_that_gave_no_credit_and_was_restarted_is_found_again(outbox: Outbox, connect: Connect) -> None:
    """Nothing is in flight, and the restarted logger knows no session: the trainer must send a HELLO."""
    end = say(outbox)
    with FakeLogger(credit_bytes=0) as full:
        link = connect(full.endpoint)
        link.drive(lambda: link.session.state is SendState.STREAMING)
    with FakeLogger(endpoint=full.endpoint) as logger:
        link.drive_to(end, hurry=True)
    check_all_there(logger, end)


def test_a_logger_with_an_empty_journal_is_told_what_it_will_never_get(outbox: Outbox, connect: Connect) -> None:
    end = say(outbox, 1000)
    with FakeLogger() as logger:
        link = connect(logger.endpoint)
        link.drive_to(end)
        outbox.release(end)
        first = outbox.first_sequence
        assert 1 < first < end
        logger.stop()
        logger.records.clear()
        logger.start()
        end = say(outbox, 10)
        link.drive_to(end)
        assert link.session.hello(first) in logger.heard
    gap, *records = logger.records[STREAM_ID]
    assert (gap.kind, gap.sequence, gap.next_sequence) == (Kind.GAP, 1, first)
    assert isinstance(decode_message(gap), Gap)
    assert [record.sequence for record in records] == list(range(first, end))


def test_a_refusal_for_now_is_tried_again(outbox: Outbox, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    end = say(outbox)
    refusals = iter([Reject("another peer sends this stream", retry=True)] * 2)
    answer: Callable[[WireMessage], list[WireMessage] | None] = lambda message: (  # noqa: E731 - a type of its own
        [found] if isinstance(message, Hello) and (found := next(refusals, None)) else None
    )
    with FakeLogger(answer) as logger:
        link = connect(logger.endpoint)
        link.drive_to(end)
        assert logger.count(Hello) == 3
    check_all_there(logger, end)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{logger.endpoint} refuses run demo for now: another peer sends this stream"
    ], "said once, not at every try"


def test_a_refusal_for_good_ends_the_link(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    said: list[WireMessage] = [Reject("your run is not wanted", retry=False), Welcome(1, CREDIT_BYTES)]
    with FakeLogger(lambda _: said) as logger:
        link = connect(logger.endpoint)
        link.drive(lambda: link.session.state is SendState.REFUSED)
        for later in (0, 100, 10_000):
            assert not link.turn(later_seconds=later)
        assert not link.link.wait(60), "there is nothing to wait for"
        assert link.session.state is SendState.REFUSED
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
        link.drive(lambda: logger.count(Hello) >= 2, hurry=True)
        assert link.session.acked_sequence == 1
        mad = False
        link.drive_to(end, hurry=True)
    check_all_there(logger, end)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 1


BAD_FINDINGS = {"no msgpack": b"\1\x08\xc1", "no fields": b"\1\x08\x80", "the longest": b"\1\x08" + bytes(2**16 - 2)}


@pytest.mark.parametrize("rubbish", BAD_FINDINGS.values(), ids=BAD_FINDINGS)
def test_findings_that_cannot_be_read_cost_nothing(
    outbox: Outbox, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the connection nor the findings before and behind them, nor a line for each of them."""
    end, taken = say(outbox), list[Finding]()

    with FakeLogger() as logger:
        honest = logger._hear

        def hear(peer: bytes, message: WireMessage) -> Sequence[WireMessage | bytes]:
            told: list[WireMessage | bytes] = [Findings([FINDING]), rubbish, rubbish]
            return [*told, *honest(peer, message)] if isinstance(message, Hello | Data) else honest(peer, message)

        logger._hear = hear  # type: ignore[method-assign]
        driven = DrivenLink(outbox, logger.endpoint, take_findings=taken.extend)
        driven.drive_to(end)
        driven.link.close()
    check_all_there(logger, end)
    assert logger.count(Hello) == 1
    assert taken == [FINDING] * (1 + logger.count(Data))
    [said] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "tells findings that cannot be read" in said.getMessage()


def test_a_number_inside_a_gap_is_nowhere_to_begin(memory: Path) -> None:
    """No logger keeps a part of a gap. A logger that claims to is tried again, and the sender survives."""
    outbox = Outbox(memory / "full", make_stream(), capacity_bytes=5000, wall_time_ns=START_NS)
    for _ in range(9):
        outbox.append(Kind.SCALARS, 0, START_NS, bytes(9000))
    outbox.append(Kind.SCALARS, 0, START_NS, b"")
    with FakeLogger(lambda _: [Welcome(5, 1000)]) as logger:
        link = DrivenLink(outbox, logger.endpoint)
        link.drive(lambda: logger.count(Hello) >= 2)
        assert logger.count(Data) == 0
        link.link.close()
    outbox.close(keep=False)


def test_sockets_that_run_out_are_waited_for(outbox: Outbox, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    end = say(outbox)
    with FakeLogger() as logger:
        link = connect(logger.endpoint)
        link.link._give_up(0.0)

        def no_socket(_kind: int) -> None:
            raise zmq.ZMQError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(link.link._context, "socket", no_socket)
            for later in (1, 2, 3):
                assert not link.turn(later_seconds=later)
            assert link.session.state is SendState.PAUSED
        link.drive_to(end, hurry=True)
    check_all_there(logger, end)


def test_messages_of_several_frames_are_refused(outbox: Outbox, connect: Connect) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    say(outbox)
    link = connect(f"tcp://127.0.0.1:{port}")
    link.drive(lambda: socket.poll(0))
    peer, _ = socket.recv_multipart()
    socket.send_multipart([peer, encode_wire(Welcome(1, 1000)), b"and more"])
    link.drive(lambda: link.session.state is SendState.PAUSED)
    context.destroy(linger=0)


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [("localhost:5555", "expected the logger's address"), ("ipc://{}/" + "x" * 200, "cannot conn")],
)
def test_an_address_that_cannot_be_is_said_at_once(outbox: Outbox, tmp_path: Path, endpoint: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LoggerLink(outbox, endpoint.replace("{}", str(tmp_path)))
