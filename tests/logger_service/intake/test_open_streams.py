"""Opening, filling, committing and closing streams, with a real journal and a network that only notes the messages."""

import errno
import logging
from pathlib import Path

import pytest
from support.logger.noted_logger import ACK_SECONDS, INTERVAL_SECONDS, NotedLogger, NotedNetwork, refused
from support.logger.peer import make_record
from support.machine.sick_disk import SickDisk

from tensorboard_sidecar.logger_service.folders.low_water import LOOK_SECONDS, DiskSpace
from tensorboard_sidecar.logger_service.intake.open_streams import REPLY_INTERVAL_SECONDS, Replies
from tensorboard_sidecar.logger_service.intake.receive_session import PAUSE_MIN_SECONDS, SILENCE_SECONDS
from tensorboard_sidecar.logger_service.limits import CREDIT_TOTAL_BYTES, STREAMS_A_KEY_MAX
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Welcome, WireMessage, encode_wire


@pytest.fixture
def logger(tmp_path: Path) -> NotedLogger:
    return NotedLogger(tmp_path)


def test_a_stream_is_welcomed_and_acknowledged_after_the_commit(logger: NotedLogger) -> None:
    stream = Stream("team/demo")
    assert logger.hello(b"a", stream) == [Welcome(1, CREDIT_BYTES)]
    assert logger.data(b"a", 1, 4) == []
    assert logger.data(b"a", 4, 6) == []
    logger.wait(INTERVAL_SECONDS / 2)
    assert logger.network.take(b"a") == []
    logger.wait(INTERVAL_SECONDS / 2)
    assert logger.network.take(b"a") == [Ack(6, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2, 3, 4, 5]
    assert logger.dispatcher.counts.records == 5


def test_nothing_is_acknowledged_before_the_disk_has_it(logger: NotedLogger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(4, CREDIT_BYTES)]
    logger.data(b"a", 4, 6)
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.wait()
    assert logger.network.take(b"a") == [Ack(4, 0), Nak(4)]


def test_a_first_batch_that_cannot_be_synced_is_not_acknowledged(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.data(b"a", 1, 4)
    logger.wait()
    assert [reply for reply in logger.network.take(b"a") if isinstance(reply, Ack) and reply.next_sequence > 1] == []
    disk.error = 0
    assert logger.hello(b"a", stream) == [Welcome(1, 0)]


def test_a_hello_makes_no_folder(logger: NotedLogger, tmp_path: Path) -> None:
    logger.hello(b"a", Stream("demo"))
    assert list(tmp_path.iterdir()) == []


def test_after_a_hole_the_peer_is_sent_back_once(logger: NotedLogger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 3)
    assert logger.data(b"a", 5, 6) == [Nak(3)]
    assert logger.data(b"a", 6, 7) == []
    logger.data(b"a", 3, 7)
    logger.wait()
    assert logger.records(stream) == [1, 2, 3, 4, 5, 6]


def test_the_whole_stream_sent_again_adds_nothing(logger: NotedLogger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 9)
    logger.data(b"a", 1, 9)
    logger.wait()
    assert logger.hello(b"a", stream) == [Welcome(9, CREDIT_BYTES)]
    logger.data(b"a", 1, 9)
    logger.wait()
    assert logger.records(stream) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert logger.dispatcher.counts.records == 8


def test_a_gap_counts_for_all_the_numbers_it_stands_for(logger: NotedLogger) -> None:
    logger.hello(b"a", Stream("demo"))
    logger.say(b"a", Data(memoryview(make_record(1, span=99, kind=Kind.GAP) + make_record(100))))
    logger.wait()
    assert logger.network.take(b"a") == [Ack(101, CREDIT_BYTES)]


def test_another_logger_on_the_same_journal_goes_on(logger: NotedLogger, tmp_path: Path) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    logger.wait()
    again = NotedLogger(tmp_path)
    assert again.hello(b"b", stream, 4) == [Welcome(4, CREDIT_BYTES)]


def test_a_trainer_ahead_of_the_journal_is_told_where_the_journal_ends(
    logger: NotedLogger, caplog: pytest.LogCaptureFixture
) -> None:
    assert logger.hello(b"a", Stream("demo"), next_sequence=50) == [Welcome(1, CREDIT_BYTES)]
    assert "records 1 to 49 are not in this journal" in caplog.text


def test_a_second_peer_is_refused_while_the_first_is_there(logger: NotedLogger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    assert refused(logger.hello(b"b", stream), "another peer", retry=True)
    assert logger.data(b"b", 1, 2) == [Nak(0)]
    logger.network.take(b"a")
    logger.data(b"a", 1, 3)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(3, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2]


def test_a_trainer_that_connects_anew_takes_over_from_a_peer_that_is_gone(logger: NotedLogger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    logger.network.gone.add(b"a")
    assert logger.hello(b"b", stream) == [Welcome(4, CREDIT_BYTES)], "what came is made durable first"
    assert logger.data(b"a", 4, 5) == []
    logger.data(b"b", 4, 5)
    logger.wait()
    assert logger.network.take(b"b") == [Ack(5, CREDIT_BYTES)]


def test_a_peer_takes_over_from_a_peer_that_was_silent_for_long(logger: NotedLogger) -> None:
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.wait(SILENCE_SECONDS - 0.1)
    assert refused(logger.hello(b"b", stream), "another peer", retry=True)
    logger.wait(0.1)
    assert logger.hello(b"b", stream) == [Welcome(1, CREDIT_BYTES)]
    assert logger.data(b"a", 1, 2) == [Nak(0)], "the first must ask again, and is the second now"


def test_a_stream_known_under_another_name_is_refused(logger: NotedLogger) -> None:
    logger.hello(b"a", Stream("demo", id=bytes(16)))
    assert refused(logger.hello(b"b", Stream("else", id=bytes(16))), "is known as")
    assert logger.data(b"a", 1, 2) == []


def test_a_peer_sends_the_stream_of_its_last_hello(logger: NotedLogger) -> None:
    first, second = Stream("first"), Stream("second")
    logger.hello(b"a", first)
    logger.data(b"a", 1, 4)
    assert logger.hello(b"a", second) == [Ack(4, CREDIT_BYTES), Welcome(1, CREDIT_BYTES)]
    logger.data(b"a", 1, 3)
    logger.wait()
    assert (logger.records(first), logger.records(second)) == ([1, 2, 3], [1, 2])


def test_beyond_the_bound_the_stream_of_the_quietest_peer_is_closed(tmp_path: Path) -> None:
    logger = NotedLogger(tmp_path, streams_max=2)
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
def test_while_the_journal_fails_nothing_is_acknowledged_and_then_everything_continues(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """The trainer gets no credit, then credit for one batch, then its share; each record is in the journal once."""
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

    logger.wait(PAUSE_MIN_SECONDS)
    assert logger.network.take(b"a") == [Ack(4, BATCH_SIZE_MAX_BYTES)]
    at_once = logger.data(b"a", 4, 6)
    logger.wait()
    assert at_once + logger.network.take(b"a") == [Ack(4, 0), Nak(4)]
    assert sum("cannot be written" in record.message for record in caplog.records) == 1, "said once"

    disk.error = 0
    logger.wait(PAUSE_MIN_SECONDS)
    assert logger.network.take(b"a") == [], "the pause has doubled"
    logger.wait(PAUSE_MIN_SECONDS)
    assert logger.network.take(b"a") == [Ack(4, BATCH_SIZE_MAX_BYTES)]
    logger.data(b"a", 4, 8)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(8, CREDIT_BYTES)]
    assert logger.records(stream) == [1, 2, 3, 4, 5, 6, 7]
    assert "written again" in caplog.text


def test_a_peer_that_leaves_while_the_journal_fails_is_forgotten(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.hello(b"a", Stream("demo"))
    disk = SickDisk(monkeypatch, "write")
    disk.error = errno.ENOSPC
    logger.data(b"a", 1, 2)
    assert logger.streams.due_at == logger.now + PAUSE_MIN_SECONDS
    logger.say(b"a", Bye())
    assert logger.streams.due_at == float("inf")


def test_a_journal_that_cannot_be_read_is_a_reason_to_ask_later(
    logger: NotedLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream("demo")
    (tmp_path / stream.run / stream.folder_name).mkdir(parents=True)
    disk = SickDisk(monkeypatch, "scandir")
    disk.error = errno.EIO
    assert refused(logger.hello(b"a", stream), "cannot be used", retry=True)
    logger.wait(1.0)
    disk.error = 0
    assert logger.hello(b"a", stream) == [Welcome(1, CREDIT_BYTES)]


def test_a_damaged_recording_is_refused_and_not_overwritten(logger: NotedLogger, tmp_path: Path) -> None:
    stream = Stream("demo")
    folder = tmp_path / stream.run / stream.folder_name
    folder.mkdir(parents=True)
    segment = folder / f"{1:020d}.segment"
    segment.write_bytes(b"this is no segment head")
    assert refused(logger.hello(b"a", stream), "segment head")
    assert segment.read_bytes() == b"this is no segment head"


def test_a_disk_that_is_nearly_full_gives_no_credit_but_accepts_data_on_their_way(
    logger: NotedLogger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.wait(LOOK_SECONDS)
    logger.network.take(b"a")
    logger.space = DiskSpace(1000, 2**41)
    logger.wait(LOOK_SECONDS)
    assert logger.network.take(b"a") == [Ack(1, 0)], "told at once, as it may be about to send"
    logger.data(b"a", 1, 6)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(6, 0)]
    assert logger.hello(b"b", Stream("other")) == [Welcome(1, 0)]
    assert logger.streams.credit_held_back_bytes == 2 * CREDIT_BYTES
    assert logger.streams.failure(logger.now) == "", "nothing failed"
    logger.space = DiskSpace(2**40, 2**41)
    logger.wait(LOOK_SECONDS)
    assert logger.network.take(b"a") == [Ack(6, CREDIT_BYTES)]
    assert logger.network.take(b"b") == [Ack(1, CREDIT_BYTES)]
    assert logger.streams.credit_held_back_bytes == 0
    assert caplog.text.count("trainers keep their records") == caplog.text.count("there is room again") == 1


def test_a_failure_is_reported_until_a_commit_succeeds_or_the_trainer_is_silent(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.hello(b"a", Stream("demo"))
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.data(b"a", 1, 4)
    logger.wait()
    assert "the journal cannot be written: " in logger.streams.failure(logger.now)
    disk.error = 0
    logger.wait(PAUSE_MIN_SECONDS)
    assert logger.streams.failure(logger.now), "not tried yet"
    logger.data(b"a", 1, 4)
    logger.wait()
    assert logger.streams.failure(logger.now) == ""
    disk.error = errno.EIO
    logger.data(b"a", 4, 6)
    logger.wait()
    assert logger.streams.failure(logger.now)
    logger.wait(SILENCE_SECONDS)
    assert logger.streams.failure(logger.now) == ""


def test_the_time_until_the_ack_is_counted(logger: NotedLogger, monkeypatch: pytest.MonkeyPatch) -> None:
    logger.hello(b"a", Stream("demo"))
    logger.data(b"a", 1, 4)
    logger.data(b"a", 4, 6)
    logger.wait()
    counts = logger.streams.ack_durations.counts()
    assert sum(counts.buckets) == 2
    assert counts.sum_seconds == pytest.approx(2 * (INTERVAL_SECONDS + ACK_SECONDS))
    assert sum(logger.journal.sync_durations.counts().buckets) == 1
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.data(b"a", 6, 7)
    logger.wait()
    assert sum(logger.streams.ack_durations.counts().buckets) == 2, "there was none"
    assert sum(logger.journal.sync_durations.counts().buckets) == 2


def test_progress_names_the_run_and_the_durable_sequence(logger: NotedLogger) -> None:
    stream = Stream("team/demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    assert logger.streams.progress == {}
    logger.wait()
    assert logger.streams.progress == {stream.id: ("team/demo", 4)}


def hello(logger: NotedLogger, number: int, owner: str = "") -> WireMessage:
    """Send the HELLO of a new peer, for a new stream with the key ``owner``; return the answer."""
    stream, peer = Stream("demo", number), number.to_bytes(4, "big")
    message = encode_wire(Hello(stream.id, stream.run, stream.rank, 0, 1))
    logger.dispatcher.handle(peer, message, logger.now, owner)
    return logger.network.sent[peer][-1]


def test_all_streams_share_the_total_credit(tmp_path: Path) -> None:
    logger = NotedLogger(tmp_path, streams_max=10_000)
    alone = CREDIT_TOTAL_BYTES // CREDIT_BYTES
    for number in range(1, 2 * alone + 1):
        assert hello(logger, number) == Welcome(1, min(CREDIT_BYTES, CREDIT_TOTAL_BYTES // number))
    for number in range(2 * alone + 1, 5000):
        answer = hello(logger, number)
    assert answer == Welcome(1, BATCH_SIZE_MAX_BYTES)


def test_the_streams_of_a_key_are_bounded_and_cost_other_keys_nothing(tmp_path: Path) -> None:
    logger = NotedLogger(tmp_path, streams_max=2 * STREAMS_A_KEY_MAX)
    hello(logger, 0, "other")
    for number in range(1, STREAMS_A_KEY_MAX + 2):
        hello(logger, number, "greedy")
    assert len(logger.streams) == STREAMS_A_KEY_MAX + 1

    def must_say_hello(number: int, owner: str) -> bool:
        peer = number.to_bytes(4, "big")
        logger.now += 2.0
        before = len(logger.network.sent[peer])
        logger.dispatcher.handle(peer, b"\x01\x04", logger.now, owner)  # DATA without a record
        return logger.network.sent[peer][before:] == [Nak(0)]

    assert must_say_hello(1, "greedy"), "its own first stream had to go"
    assert not must_say_hello(2, "greedy")
    assert not must_say_hello(0, "other")


def answered(replies: Replies, network: NotedNetwork, peer: bytes, now_seconds: float) -> bool:
    """Tell whether a peer without a stream gets a reply now."""
    replies.send_limited(peer, Nak(0), now_seconds)
    return network.take(peer) == [Nak(0)]


def test_each_peer_is_answered_once_a_second() -> None:
    network = NotedNetwork()
    replies = Replies(network.send)
    assert answered(replies, network, b"a", 5.0)
    assert not answered(replies, network, b"a", 5.0 + REPLY_INTERVAL_SECONDS / 2)
    assert answered(replies, network, b"b", 5.0)
    assert answered(replies, network, b"a", 5.0 + REPLY_INTERVAL_SECONDS)


def test_a_peer_that_is_forgotten_is_answered_at_once() -> None:
    network = NotedNetwork()
    replies = Replies(network.send)
    assert answered(replies, network, b"a", 5.0)
    replies.stream_opened(b"a")
    replies.stream_opened(b"nobody")
    assert answered(replies, network, b"a", 5.0)


def test_many_peers_take_bounded_memory() -> None:
    network = NotedNetwork()
    replies = Replies(network.send, peers_max=3)
    for number in range(1000):
        assert answered(replies, network, b"%d" % number, 5.0)
    assert repr(replies) == "<Replies: 0 peers in this process, 3 limited>"
    assert not answered(replies, network, b"999", 5.0)
    assert answered(replies, network, b"0", 5.0), "it is forgotten"


def test_a_reply_goes_to_a_peer_of_this_process_or_else_over_the_network() -> None:
    network, delivered = NotedNetwork(), list[WireMessage]()
    replies = Replies(network.send)
    replies.join(b"local", lambda message: delivered.append(message) is None)
    assert replies.send(b"local", Nak(1))
    assert replies.send(b"remote", Nak(2))
    assert (delivered, network.take(b"local"), network.take(b"remote")) == ([Nak(1)], [], [Nak(2)])
    replies.leave(b"local")
    replies.send(b"local", Bye())
    assert (delivered, network.take(b"local")) == ([Nak(1)], [Bye()])


def test_a_peer_that_is_gone_is_reported() -> None:
    network = NotedNetwork()
    network.gone.add(b"a")
    assert not Replies(network.send).send(b"a", Bye())


def test_limited_replies_are_one_a_second_and_not_limited_after_a_stream_was_opened() -> None:
    network = NotedNetwork()
    replies = Replies(network.send)
    for now_seconds in (5.0, 5.5, 6.0):
        replies.send_limited(b"a", Nak(0), now_seconds)
    assert network.take(b"a") == [Nak(0)] * 2
    replies.stream_opened(b"a")
    replies.send_limited(b"a", Nak(0), 6.1)
    assert network.take(b"a") == [Nak(0)]
