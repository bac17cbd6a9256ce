"""Which outboxes are adopted, and when: real outboxes and a real journal; only the clock is the test's."""

import errno
import shutil
import socket
from pathlib import Path

import pytest
from support.logger.adopting import ENDPOINT, Host
from support.records.recordings import START_NS, make_stream
from support.running.spoken import read_recording

from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace
from tensorboard_sidecar.logger_service.intake.orphan_intake import (
    GRACE_SECONDS,
    LOOK_SECONDS,
    OTHERS_GRACE_SECONDS,
    TURN_SIZE_BYTES,
    OrphanIntake,
    is_own_host,
)
from tensorboard_sidecar.protocol.codec import decode_message, encode_scalars
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox import orphan as orphan_module
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import PATIENCE_SECONDS, RETRY_SECONDS
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, read_destination, write_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.wire import Bye, Reject, Welcome
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog, Spill
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

PEER = b"peer"


@pytest.fixture
def host(memory: Path, tmp_path: Path) -> Host:
    return Host(memory, tmp_path / "recordings")


def test_what_a_trainer_left_is_in_the_journal_once_and_the_outbox_is_gone(host: Host) -> None:
    stream = make_stream()
    folder = host.abandon(stream, 500)
    host.grace()
    assert host.logger.records(stream) == list(range(1, 501))
    assert not folder.exists()
    assert (host.intake.delivered, host.intake.records, host.intake.failed) == (1, 500, 0)


@pytest.mark.parametrize("memory_lost", [False, True])
def test_what_it_had_moved_to_disk_comes_too_even_alone(memory: Path, tmp_path: Path, *, memory_lost: bool) -> None:
    """Memory is lost when the machine restarts; the disk is not."""
    roots, disk = [memory / "shm", tmp_path / "disk"], tmp_path / "disk"
    for root in roots:
        root.mkdir()
    host = Host(roots[0], tmp_path / "recordings")
    host.intake = OrphanIntake(roots, host.logger.dispatcher, [ENDPOINT])
    stream = make_stream()
    outbox = Outbox(roots[0] / "outbox", stream, capacity_bytes=2**15, wall_time_ns=START_NS, segment_size_bytes=8192)
    backlog = Backlog(outbox, Spill(outbox.folder, disk / "spill", 2**30))
    for step in range(500):
        outbox.append(Kind.SCALARS, step, START_NS, encode_scalars({"a" * 300: float(step)}))
        while backlog.step(0.0):
            pass
    backlog.close(keep=True)
    if memory_lost:
        shutil.rmtree(outbox.folder)
    host.grace()
    records = host.logger.records(stream)
    assert records == list(range(1, len(records) + 1))
    assert len(records) > 300 if memory_lost else len(records) == 500
    assert not [path for root in roots for path in root.iterdir()]
    assert (host.intake.delivered, host.intake.failed) == (1, 0)


def test_what_is_for_this_logger_is_adopted_as_what_names_none(host: Host) -> None:
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination("tcp://localhost:5555"))
    host.grace()
    assert host.intake.delivered == 1


def test_what_is_for_another_logger_here_is_left_to_that_one_for_a_minute(host: Host) -> None:
    """The other logger, if up, adopts within seconds. A run is better in the wrong place than nowhere."""
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination("tcp://127.0.0.1:6666"))
    host.wait(OTHERS_GRACE_SECONDS - LOOK_SECONDS)
    assert (host.intake.delivered, host.intake.failed) == (0, 0)
    host.grace()
    assert host.intake.delivered == 1


def test_what_is_for_a_logger_on_another_machine_is_left_for_good_and_said_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination("tcp://logger-box:5555"))
    host.wait(10 * OTHERS_GRACE_SECONDS)
    assert folder.exists()
    assert (host.intake.delivered, host.intake.failed) == (0, 1)
    [said] = [record.getMessage() for record in caplog.records]
    assert "it is for the logger at tcp://logger-box:5555" in said
    assert f"drain {folder}" in said


def test_what_is_for_another_name_of_this_logger_is_adopted(host: Host) -> None:
    """A logger in a container listens on all addresses, and does not know the names that trainers use."""
    everywhere = "tcp://0.0.0.0:5555"
    host.intake = OrphanIntake([host.root], host.logger.dispatcher, [everywhere, "tcp://logger:5555"])
    for number, endpoint in enumerate(("tcp://logger:5555", "tcp://127.0.0.1:5555", "tcp://other-box:5555")):
        folder = host.abandon(make_stream(f"run{number}", stream_id=bytes([number] * 16)), 10)
        write_destination(folder, Destination(endpoint))
    host.grace()
    assert (host.intake.delivered, host.intake.failed) == (2, 1)
    assert folder.exists()


def test_what_is_only_recorded_is_no_loggers(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """The owner named no logger, so no complaint is logged."""
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination(NO_LOGGER, host.root / "recordings"))
    host.wait(10 * OTHERS_GRACE_SECONDS)
    assert folder.exists()
    assert (host.intake.delivered, host.intake.failed) == (0, 0)
    assert not caplog.records


def test_what_is_recorded_too_is_adopted_and_stays_for_its_recording(host: Host) -> None:
    stream = make_stream()
    folder = host.abandon(stream, 10)
    write_destination(folder, Destination(ENDPOINT, host.root / "recordings", "key"))
    host.grace()
    host.wait(10 * OTHERS_GRACE_SECONDS)
    assert host.logger.records(stream) == list(range(1, 11))
    assert (host.intake.delivered, host.intake.failed) == (1, 0)
    assert read_destination(folder) == Destination(NO_LOGGER, host.root / "recordings", "key")
    orphan = OrphanedOutbox(folder)
    assert orphan.next_sequence == 11
    orphan.close(keep=False)


def test_a_volume_that_takes_no_note_does_not_end_the_logger(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination(ENDPOINT, host.root / "recordings"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(orphan_module.outbox_files, "write_destination", refuse)
        host.grace()
        assert (host.intake.delivered, host.intake.failed) == (0, 1)
        assert "Read-only file system" in caplog.text
    host.wait(RETRY_SECONDS + LOOK_SECONDS)
    assert (host.intake.delivered, host.intake.failed) == (1, 0)
    assert read_destination(folder).endpoint == NO_LOGGER


def test_an_outbox_whose_trainer_lives_is_left_alone_and_adopted_once_it_is_gone(host: Host) -> None:
    outbox = host.outbox(make_stream(), 10)
    host.wait(60)
    assert host.intake.delivered == host.intake.failed == 0
    outbox.close(keep=True)
    host.wait(GRACE_SECONDS - LOOK_SECONDS)
    assert outbox.folder.exists(), "somebody else may want it"
    host.grace()
    assert host.intake.delivered == 1


def test_a_trainer_that_comes_back_within_the_grace_has_it(host: Host) -> None:
    """When the trainer is gone again, the grace period begins again."""
    folder = host.abandon(make_stream(), 10)
    host.wait(LOOK_SECONDS)
    orphan = OrphanedOutbox(folder)
    host.wait(60)
    orphan.close(keep=True)
    host.wait(GRACE_SECONDS - LOOK_SECONDS)
    assert folder.exists()
    host.grace()
    assert not folder.exists()


def test_while_the_stream_has_another_peer_it_is_tried_again_later(host: Host) -> None:
    stream = make_stream()
    folder = host.abandon(stream, 10)
    host.logger.hello(PEER, stream)
    host.logger.now += LOOK_SECONDS
    for _ in range(10):
        host.logger.hello(PEER, stream)
        host.wait(1.0)
    assert folder.exists()
    assert host.intake.failed == 1
    OrphanedOutbox(folder).close(keep=True)  # nobody holds it meanwhile
    host.wait(RETRY_SECONDS + LOOK_SECONDS)
    assert not folder.exists(), "the other peer fell silent"
    assert host.logger.records(stream) == list(range(1, 11))
    assert host.intake.failed == 0


def test_damaged_outboxes_are_left_and_said_once_and_cost_the_others_nothing(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    for number, spoil in enumerate((b"", b"no head", b"\0" * 100)):
        folder = host.abandon(make_stream(f"bad{number}", stream_id=bytes([number] * 16)), 5)
        for segment in folder.glob("*.segment"):
            segment.write_bytes(spoil)
    good = make_stream("zebra")
    host.abandon(good, 20)
    host.wait(100)
    assert host.logger.records(good) == list(range(1, 21))
    assert (host.intake.delivered, host.intake.failed) == (1, 3)
    assert caplog.text.count("is not adopted") == 3


@pytest.mark.parametrize("given_sequence", [2**63, 2**64 - 1])
def test_a_number_that_no_trainer_gives_out_does_not_end_the_logger(host: Host, given_sequence: int) -> None:
    folder = host.abandon(make_stream(), 5)
    with (folder / OWNER_LOCK).open("r+b") as lock:
        lock.write(given_sequence.to_bytes(8, "little"))
    host.grace()
    assert (host.intake.delivered, host.intake.failed) == (0, 1)
    assert folder.exists()
    OrphanedOutbox(folder).close(keep=True)


def test_what_a_kill_left_of_a_deleted_outbox_is_deleted(host: Host) -> None:
    folder = host.abandon(make_stream(), 5)
    for segment in folder.glob("*.segment"):
        segment.unlink()
    host.wait(60.0)
    assert not folder.exists()
    assert (host.intake.delivered, host.intake.failed) == (0, 0)


def test_a_folder_that_others_can_write_is_left(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Other users could send in a trainer's name, without a key."""
    folder = host.abandon(make_stream(), 5)
    folder.chmod(0o777)
    host.grace()
    assert folder.exists()
    assert "not a private folder" in caplog.text


def test_an_outbox_that_vanishes_or_a_root_that_is_not_there_is_nothing(host: Host, tmp_path: Path) -> None:
    folder = host.abandon(make_stream(), 5)
    host.wait(LOOK_SECONDS)
    shutil.rmtree(folder)
    host.grace()
    assert host.intake.delivered == host.intake.failed == 0
    nowhere = OrphanIntake([tmp_path / "nowhere"], host.logger.dispatcher, [ENDPOINT])
    assert not nowhere.step(0.0)


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


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", socket.gethostname(), socket.gethostname().upper()])
def test_its_name_and_its_addresses_are_this_machine(host: str) -> None:
    assert is_own_host(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "other-box", "", "a b", "127.0.0.1:5555", "1.2.3"])
def test_others_are_not(host: str) -> None:
    """Two of these addresses are for documentation alone: no machine has them."""
    assert not is_own_host(host)


def test_a_machine_is_known_by_its_short_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.example.org")
    assert is_own_host("box.example.org")
    assert is_own_host("box")
    assert not is_own_host("box.example.com")
