"""What peers are told, with a real journal and a network that only notes what was sent."""

import errno
import logging
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.peer import make_record, make_run
from support.sick_disk import SickDisk

from logger_service.journal import Journal
from logger_service.reception import Reception
from logger_service.session import HOLD_MIN_SECONDS, SILENCE_SECONDS
from protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from protocol.record import Kind, parse_sequence
from protocol.recording_reader import RecordingReader
from protocol.stream import Stream
from protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage, encode_wire

INTERVAL_SECONDS = 0.05


class NotedNetwork:
    """Notes what each peer was sent; those in ``gone`` cannot be reached."""

    def __init__(self) -> None:
        self.sent: defaultdict[bytes, list[WireMessage]] = defaultdict(list)
        self.gone: set[bytes] = set()

    def send(self, peer: bytes, message: WireMessage) -> bool:
        if peer in self.gone:
            return False
        self.sent[peer].append(message)
        return True

    def take(self, peer: bytes) -> list[WireMessage]:
        """Return what the peer was sent since the last call."""
        return self.sent.pop(peer, [])


class Logger:
    """A reception on ``folder`` and a clock that only tests move."""

    def __init__(self, folder: Path, *, streams_max: int = 16) -> None:
        self.folder, self.now = folder, 1000.0
        self.network = NotedNetwork()
        journal = Journal(folder, lambda: 10**18, commit_interval_seconds=INTERVAL_SECONDS, commit_size_bytes=10_000)
        self.reception = Reception(journal, self.network.send, streams_max=streams_max)

    def say(self, peer: bytes, message: WireMessage | bytes) -> list[WireMessage]:
        """Have a peer say something; return what it is told at once."""
        self.network.take(peer)
        data = message if isinstance(message, bytes) else encode_wire(message)
        self.reception.handle(peer, data, self.now)
        return self.network.take(peer)

    def hello(self, peer: bytes, stream: Stream, next_sequence: int = 1) -> list[WireMessage]:
        return self.say(peer, Hello(stream.id, stream.run, stream.rank, stream.attempt, next_sequence))

    def data(self, peer: bytes, first_sequence: int, next_sequence: int) -> list[WireMessage]:
        return self.say(peer, Data(memoryview(make_run(first_sequence, next_sequence))))

    def wait(self, seconds: float = INTERVAL_SECONDS) -> None:
        """Let time pass."""
        self.now += seconds
        self.reception.tick(self.now)

    def records(self, stream: Stream) -> list[int]:
        """Return what is in the journal of a stream."""
        reader = RecordingReader(self.folder / stream.run / stream.folder_name)
        found = []
        while payloads := reader.read_payloads():
            found += [parse_sequence(payload)[1] for payload in payloads]
        reader.close()
        return found


@pytest.fixture
def logger(tmp_path: Path) -> Logger:
    return Logger(tmp_path)


def refused(answers: list[WireMessage], reason: str, *, retry: bool = False) -> bool:
    """Tell whether the answers are one REJECT that names the reason."""
    (answer,) = answers
    assert isinstance(answer, Reject), answer
    return reason in answer.reason and answer.retry == retry


def test_a_stream_is_welcomed_and_acknowledged_after_the_commit(logger: Logger) -> None:
    stream = Stream("team/demo")
    assert logger.hello(b"a", stream) == [Welcome(1, CREDIT_BYTES)]
    assert logger.data(b"a", 1, 4) == []
    assert logger.data(b"a", 4, 6) == []
    logger.wait(INTERVAL_SECONDS / 2)
    assert logger.network.take(b"a") == []
    logger.wait(INTERVAL_SECONDS / 2)
    assert logger.network.take(b"a") == [Ack(6, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2, 3, 4, 5]
    assert logger.reception.counts.records == 5


def test_nothing_is_acknowledged_before_the_disk_has_it(logger: Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.wait()
    assert logger.network.take(b"a") == [Ack(1, 0), Nak(1)]


def test_a_hello_makes_no_folder(logger: Logger, tmp_path: Path) -> None:
    logger.hello(b"a", Stream("demo"))
    assert list(tmp_path.iterdir()) == []


def test_data_without_a_hello_are_asked_for_one_once_a_second(logger: Logger) -> None:
    assert logger.data(b"a", 1, 2) == [Nak(0)]
    assert logger.data(b"a", 2, 3) == []
    logger.wait(1.0)
    assert logger.data(b"a", 3, 4) == [Nak(0)]


def test_after_a_hole_the_peer_is_sent_back_once(logger: Logger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 3)
    assert logger.data(b"a", 5, 6) == [Nak(3)]
    assert logger.data(b"a", 6, 7) == []
    logger.data(b"a", 3, 7)
    logger.wait()
    assert logger.records(stream) == [1, 2, 3, 4, 5, 6]


def test_the_whole_stream_sent_again_adds_nothing(logger: Logger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 9)
    logger.data(b"a", 1, 9)
    logger.wait()
    assert logger.hello(b"a", stream) == [Welcome(9, CREDIT_BYTES)]
    logger.data(b"a", 1, 9)
    logger.wait()
    assert logger.records(stream) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert logger.reception.counts.records == 8


def test_a_gap_counts_for_all_the_numbers_it_stands_for(logger: Logger) -> None:
    logger.hello(b"a", Stream("demo"))
    logger.say(b"a", Data(memoryview(make_record(1, span=99, kind=Kind.GAP) + make_record(100))))
    logger.wait()
    assert logger.network.take(b"a") == [Ack(101, CREDIT_BYTES)]


def test_another_logger_on_the_same_journal_goes_on(logger: Logger, tmp_path: Path) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    logger.wait()
    again = Logger(tmp_path)
    assert again.hello(b"b", stream, 4) == [Welcome(4, CREDIT_BYTES)]


def test_a_trainer_ahead_of_the_journal_is_told_where_the_journal_ends(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    assert logger.hello(b"a", Stream("demo"), next_sequence=50) == [Welcome(1, CREDIT_BYTES)]
    assert "records 1 to 49 are not in this journal" in caplog.text


def test_a_second_peer_is_refused_while_the_first_is_there(logger: Logger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    assert refused(logger.hello(b"b", stream), "another peer", retry=True)
    assert logger.data(b"b", 1, 2) == [Nak(0)]
    logger.network.take(b"a")
    logger.data(b"a", 1, 3)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(3, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2]


def test_a_trainer_that_connects_anew_takes_over_from_a_peer_that_is_gone(logger: Logger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    logger.network.gone.add(b"a")
    assert logger.hello(b"b", stream) == [Welcome(4, CREDIT_BYTES)], "what came is made durable first"
    assert logger.data(b"a", 4, 5) == []
    logger.data(b"b", 4, 5)
    logger.wait()
    assert logger.network.take(b"b") == [Ack(5, CREDIT_BYTES)]


def test_a_peer_takes_over_from_one_that_was_silent_for_long(logger: Logger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.wait(SILENCE_SECONDS - 0.1)
    assert refused(logger.hello(b"b", stream), "another peer", retry=True)
    logger.wait(0.1)
    assert logger.hello(b"b", stream) == [Welcome(1, CREDIT_BYTES)]
    assert logger.data(b"a", 1, 2) == [Nak(0)], "the first must ask again, and is the second now"


def test_a_stream_known_under_another_name_is_refused(logger: Logger) -> None:
    logger.hello(b"a", Stream("demo", id=bytes(16)))
    assert refused(logger.hello(b"b", Stream("else", id=bytes(16))), "is known as")
    assert logger.data(b"a", 1, 2) == []


def test_a_peer_speaks_for_the_stream_it_named_last(logger: Logger) -> None:
    first, second = Stream("first"), Stream("second")
    logger.hello(b"a", first)
    logger.data(b"a", 1, 4)
    assert logger.hello(b"a", second) == [Ack(4, CREDIT_BYTES), Welcome(1, CREDIT_BYTES)]
    logger.data(b"a", 1, 3)
    logger.wait()
    assert (logger.records(first), logger.records(second)) == ([1, 2, 3], [1, 2])


def test_after_a_bye_the_stream_is_kept_and_the_peer_is_a_stranger(logger: Logger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    assert logger.say(b"a", Bye()) == [Ack(4, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2, 3]
    assert logger.data(b"a", 4, 5) == [Nak(0)]
    assert logger.say(b"z", Bye()) == []


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
def test_what_breaks_the_protocol_is_refused_with_the_reason(
    logger: Logger, tmp_path: Path, message: WireMessage | bytes, reason: str
) -> None:
    assert refused(logger.say(b"a", message), reason)
    assert logger.reception.counts.refused == 1
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
def test_bad_data_cost_their_peer_the_session_and_nobody_else_anything(logger: Logger, frames: bytes) -> None:
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


def test_a_flood_of_rubbish_is_counted_and_neither_answered_nor_logged_each_time(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [logger.say(b"bad", b"\xff\xff") for _ in range(1000)]
    assert sum(map(len, answers)) == 1
    assert logger.reception.counts.refused == 1000
    assert len(caplog.records) == 1


def test_peers_beyond_the_bound_cost_the_quietest_a_hello_more(tmp_path: Path) -> None:
    logger = Logger(tmp_path, streams_max=2)
    streams = [Stream("demo", rank) for rank in range(3)]
    for rank, stream in enumerate(streams):
        logger.hello(b"%d" % rank, stream)
        logger.data(b"%d" % rank, 1, 3)
    assert logger.network.take(b"0")[-1] == Ack(3, CREDIT_BYTES), "committed before it is forgotten"
    assert logger.data(b"0", 3, 4) == [Nak(0)]
    assert logger.hello(b"0", streams[0], 3) == [Welcome(3, CREDIT_BYTES)]
    logger.data(b"0", 3, 4)
    logger.wait()
    assert [logger.records(stream) for stream in streams] == [[1, 2, 3], [1, 2], [1, 2]]


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_while_the_journal_fails_nothing_is_acknowledged_and_then_all_goes_on(
    logger: Logger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """The trainer gets no credit, then one batch to try with, then all of it; each record is there once."""
    caplog.set_level(logging.INFO)
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(4, CREDIT_BYTES)]

    disk = SickDisk(monkeypatch, call)
    disk.error = errno.ENOSPC
    at_once = logger.data(b"a", 4, 6)
    logger.wait()
    assert at_once + logger.network.take(b"a") == [Ack(4, 0), Nak(4)]
    assert logger.data(b"a", 6, 8) == [], "dropped: there is no place for it"
    assert logger.hello(b"a", stream) == [Welcome(4, 0)]

    logger.wait(HOLD_MIN_SECONDS)
    assert logger.network.take(b"a") == [Ack(4, BATCH_SIZE_MAX_BYTES)]
    at_once = logger.data(b"a", 4, 6)
    logger.wait()
    assert at_once + logger.network.take(b"a") == [Ack(4, 0), Nak(4)]
    assert sum("cannot be written" in record.message for record in caplog.records) == 1, "said once"

    disk.error = 0
    logger.wait(HOLD_MIN_SECONDS)
    assert logger.network.take(b"a") == [], "the pause has doubled"
    logger.wait(HOLD_MIN_SECONDS)
    assert logger.network.take(b"a") == [Ack(4, BATCH_SIZE_MAX_BYTES)]
    logger.data(b"a", 4, 8)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(8, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2, 3, 4, 5, 6, 7]
    assert "written again" in caplog.text


def test_a_journal_that_cannot_be_read_is_a_reason_to_ask_later(
    logger: Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream("demo")
    (tmp_path / stream.run / stream.folder_name).mkdir(parents=True)
    disk = SickDisk(monkeypatch, "scandir")
    disk.error = errno.EIO
    assert refused(logger.hello(b"a", stream), "cannot be read", retry=True)
    disk.error = 0
    assert logger.hello(b"a", stream) == [Welcome(1, CREDIT_BYTES)]


def test_a_damaged_recording_is_refused_and_not_overwritten(logger: Logger, tmp_path: Path) -> None:
    stream = Stream("demo")
    folder = tmp_path / stream.run / stream.folder_name
    folder.mkdir(parents=True)
    segment = folder / f"{1:020d}.segment"
    segment.write_bytes(b"this is no segment head")
    assert refused(logger.hello(b"a", stream), "segment head")
    assert segment.read_bytes() == b"this is no segment head"


MESSAGES = [
    encode_wire(Hello(bytes(range(16)), "demo", 0, 0, 1)),
    encode_wire(Data(memoryview(make_run(1, 4)))),
    encode_wire(Bye()),
    encode_wire(Ack(1, 1)),
]


@st.composite
def wrong_bytes(draw: st.DrawFn) -> bytes:
    """Rubbish, and messages with a few bytes changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from([*MESSAGES, b"\x01\x04", b"\x01\x01"])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=6))
    return bytes(data[: draw(st.integers(0, len(data) + 40))])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([b"x", b"y"]), wrong_bytes()), max_size=30))
def test_no_bytes_from_others_keep_an_honest_peer_from_being_served(
    tmp_path_factory: pytest.TempPathFactory, hostile: list[tuple[bytes, bytes]]
) -> None:
    root, stream = tmp_path_factory.mktemp("fuzz"), Stream("honest")
    logger = Logger(root / "recordings")
    assert logger.hello(b"honest", stream) == [Welcome(1, CREDIT_BYTES)]
    for sequence, (peer, data) in enumerate(hostile, 1):
        logger.say(peer, data)
        assert logger.data(b"honest", sequence, sequence + 1) == []
    logger.wait()
    if hostile:
        assert logger.network.take(b"honest")[-1] == Ack(len(hostile) + 1, CREDIT_BYTES)
        assert logger.records(stream) == list(range(1, len(hostile) + 1))
    assert list(root.iterdir()) in ([], [logger.folder]), "nothing is written elsewhere"
