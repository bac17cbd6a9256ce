"""The delivery of an adopted outbox into a real journal, turn by turn; the clock is the test's."""

from pathlib import Path

import pytest
from support.logger.adopting import Host
from support.records.recordings import make_stream
from support.running.spoken import read_recording

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.intake.local_peer import TURN_SIZE_BYTES
from tensorboard_sidecar.logger_service.intake.orphan_intake import GRACE_SECONDS, LOOK_SECONDS
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import PATIENCE_SECONDS, RETRY_SECONDS
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.wire import Bye, Reject, Welcome

PEER = b"peer"


@pytest.fixture
def host(memory: Path, tmp_path: Path) -> Host:
    return Host(memory, tmp_path / "recordings")


def test_it_goes_on_where_the_journal_ends(host: Host) -> None:
    stream = make_stream()
    outbox = host.outbox(stream, 300)
    reception = host.logger
    assert reception.hello(PEER, stream) == [Welcome(1, CREDIT_BYTES)]
    reception.data(PEER, 1, 101)
    reception.wait()
    reception.say(PEER, Bye())
    outbox.close(keep=True)
    host.grace()
    assert reception.records(stream) == list(range(1, 301))
    assert host.intake.records == 200


def test_what_another_logger_has_acknowledged_is_left_to_it(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    outbox = host.outbox(make_stream(), 500)
    outbox.release(400)
    assert outbox.first_sequence > 1
    outbox.close(keep=True)
    host.wait(200)
    assert outbox.folder.exists()
    assert caplog.text.count("acknowledged by another logger") == 1
    assert f"tensorboard-sidecar drain {outbox.folder}" in caplog.text
    assert len(host.logger.dispatcher.streams) == 0


def test_a_flipped_byte_is_told_as_a_gap(host: Host) -> None:
    stream = make_stream()
    folder = host.abandon(stream, 100)
    segment = min(folder.glob("*.segment"))
    data = bytearray(segment.read_bytes())
    data[2000] ^= 1
    segment.write_bytes(data)
    host.grace()
    assert not folder.exists()
    records = read_recording(host.logger.folder / stream.run / stream.folder_name)
    (gap,) = [record for record in records if record.kind == Kind.GAP]
    assert isinstance(decode_message(gap), Gap)
    assert sum(record.span for record in records) == 100


def test_without_credit_it_waits_and_goes_on_when_there_is_room(host: Host) -> None:
    host.logger.space = DiskSpace(0, 2**40)
    stream = make_stream()
    folder = host.abandon(stream, 100)
    host.grace()
    assert folder.exists()
    assert not host.logger.folder.exists(), "nothing is written"
    host.logger.space = DiskSpace(2**40, 2**40)
    host.wait(3.0)
    assert host.logger.records(stream) == list(range(1, 101))
    assert not folder.exists()


def test_a_logger_that_has_no_room_for_long_does_not_keep_it_from_others(host: Host) -> None:
    host.logger.space = DiskSpace(0, 2**40)
    folder = host.abandon(make_stream(), 100)
    host.wait(GRACE_SECONDS + 2 * LOOK_SECONDS + PATIENCE_SECONDS + 1.0)
    OrphanedOutbox(folder).close(keep=True)
    host.logger.space = DiskSpace(2**40, 2**40)
    host.wait(RETRY_SECONDS + LOOK_SECONDS + 1.0)
    assert not folder.exists()


def test_a_turn_is_bounded(host: Host) -> None:
    """Live trainers wait for at most TURN_SIZE_BYTES of an adopted outbox."""
    stream = make_stream()
    host.abandon(stream, 8000, size_bytes=500, segment_size_bytes=2**20)
    now = host.logger.now
    host.intake.step(now)
    now += LOOK_SECONDS + GRACE_SECONDS
    assert host.intake.step(now)
    before = host.logger.dispatcher.counts.record_bytes
    for _ in range(5):
        host.intake.step(now)
    assert 0 < host.logger.dispatcher.counts.record_bytes - before <= TURN_SIZE_BYTES
    host.grace()
    assert host.logger.records(stream) == list(range(1, 8001))


def test_a_logger_that_stops_in_the_middle_lets_go_of_it(host: Host) -> None:
    stream = make_stream()
    folder = host.abandon(stream, 8000, size_bytes=500, segment_size_bytes=2**20)
    host.intake.step(host.logger.now)
    for _ in range(2):
        host.intake.step(host.logger.now + LOOK_SECONDS + GRACE_SECONDS)
    host.intake.close()
    OrphanedOutbox(folder).close(keep=True)
    again = Host(host.root, host.logger.folder)
    again.logger.now = host.logger.now
    again.grace()
    assert again.logger.records(stream) == list(range(1, 8001))
    assert not folder.exists()


def test_another_stream_of_the_same_id_is_refused_for_good(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.logger.hello(PEER, make_stream("demo", rank=1))
    folder = host.abandon(make_stream("demo"), 5)
    host.grace()
    assert folder.exists()
    assert "is known as" in caplog.text
    assert not [said for said in host.logger.network.take(PEER) if isinstance(said, Reject)]
