"""What is counted of what came and was not taken, and who is cut; also on real connections."""

import resource
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from time import sleep

import pytest
from support.key_ring import KeyRing
from support.peer import Peer, make_record
from support.receivers import make_receiver, served, turning
from support.waiting import wait_until
from support.zmtp import connect, speak_zmtp

from tensorboard_sidecar.logger_service.access.unread_bytes import UnreadBytes, received_bytes
from tensorboard_sidecar.logger_service.limits import (
    CREDIT_TOTAL_BYTES,
    UNREAD_BEFORE_STREAM_MAX_BYTES,
    UNREAD_MAX_BYTES,
    UNREAD_TOTAL_MAX_BYTES,
)
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data, Hello, encode_wire

MIB = 2**20


class Counted:
    """Connections whose bytes the test counts."""

    def __init__(self, total_max_bytes: int = UNREAD_TOTAL_MAX_BYTES) -> None:
        self.bytes: dict[int, int] = {}
        self.hoards = UnreadBytes(lambda descriptor: self.bytes[descriptor], total_max_bytes)

    def come(self, *descriptors: int, streams: bool = True) -> None:
        for descriptor in descriptors:
            self.bytes[descriptor] = 0
            self.hoards.come(descriptor)
            if streams:
                self.hoards.took(descriptor, 0, streams=True)
        assert self.hoards.look() == []

    def look_after(self, **more_bytes: int) -> list[int]:
        """Look when more has come: ``_7=100`` over connection 7."""
        for name, size_bytes in more_bytes.items():
            self.bytes[int(name[1:])] += size_bytes
        return sorted(self.hoards.look())


BOTH = pytest.mark.parametrize(
    ("streams", "allowed_bytes"), [(False, UNREAD_BEFORE_STREAM_MAX_BYTES), (True, UNREAD_MAX_BYTES)]
)


@BOTH
def test_whoever_hoards_too_much_is_found_once(streams: bool, allowed_bytes: int) -> None:
    counted = Counted()
    counted.come(7, streams=streams)
    assert counted.look_after(_7=allowed_bytes) == []
    assert counted.look_after(_7=1) == [7]
    assert counted.look_after(_7=1) == []


@BOTH
def test_only_what_was_taken_is_no_hoard_any_more(streams: bool, allowed_bytes: int) -> None:
    """A small message now and then hides no large ones: it was so, and eight of 64 MiB could wait."""
    counted = Counted()
    counted.come(7, streams=streams)
    for _ in range(5):
        assert counted.look_after(_7=allowed_bytes) == []
        counted.hoards.took(7, allowed_bytes, streams=streams)
    assert counted.look_after(_7=allowed_bytes) == []
    counted.hoards.took(7, 10, streams=streams)
    assert counted.look_after(_7=11) == [7]


def test_a_descriptor_that_comes_again_is_another_connection() -> None:
    counted = Counted()
    counted.come(7)
    assert counted.look_after(_7=UNREAD_MAX_BYTES) == []
    counted.hoards.gone(7)
    counted.come(7)
    assert counted.look_after(_7=UNREAD_MAX_BYTES) == []
    counted.come(7, streams=False)
    assert counted.look_after(_7=UNREAD_BEFORE_STREAM_MAX_BYTES + 1) == [7]


def test_what_a_former_owner_of_a_descriptor_had_sent_pays_for_nothing() -> None:
    """Its last message is taken when another connection has the descriptor already."""
    counted = Counted()
    counted.come(7)
    counted.hoards.took(7, 64 * MIB, streams=True)
    assert counted.look_after(_7=1) == []
    assert counted.look_after(_7=UNREAD_MAX_BYTES) == []
    assert counted.look_after(_7=1) == [7]


def test_a_trainer_that_is_heard_before_its_connection_is_known_is_no_stranger() -> None:
    counted = Counted()
    counted.hoards.took(7, 100, streams=True)
    counted.hoards.took(7, 100, streams=False)
    counted.bytes[7] = 200
    counted.hoards.come(7)
    assert counted.look_after() == []
    assert counted.look_after(_7=UNREAD_MAX_BYTES) == []
    assert counted.look_after(_7=1) == [7]


def test_a_message_of_a_connection_that_is_gone_makes_no_stranger_known() -> None:
    counted = Counted()
    counted.hoards.took(7, 100, streams=True)
    assert counted.hoards.look() == []
    counted.come(7, streams=False)
    assert counted.look_after(_7=UNREAD_BEFORE_STREAM_MAX_BYTES + 1) == [7]


def test_of_many_that_hoard_the_largest_go_until_the_rest_fit() -> None:
    counted = Counted(total_max_bytes=100 * MIB)
    counted.come(1, 2, 3, 4)
    assert counted.look_after(_1=10 * MIB, _2=50 * MIB, _3=20 * MIB, _4=20 * MIB) == []
    assert counted.look_after(_1=MIB) == [2]
    assert counted.look_after(_1=MIB) == []


def test_strangers_go_before_trainers() -> None:
    counted = Counted(total_max_bytes=4 * MIB)
    counted.come(1)
    counted.come(2, 3, 4, streams=False)
    assert counted.look_after(_1=3 * MIB, _2=MIB, _3=MIB // 4, _4=100) == [2]
    assert counted.look_after(_3=MIB // 2, _4=100) == [3]


def test_what_those_who_were_cut_had_sent_counts_until_it_is_taken() -> None:
    """One hoarder after the other is cut while nothing is taken: all of them together cannot take what they like."""
    total_bytes = 100 * MIB
    counted = Counted(total_bytes)
    counted.come(*range(1000))
    kept_bytes, connected = 0, set(range(1000))
    while connected:
        kept_bytes += 10 * MIB
        connected -= set(counted.look_after(**{f"_{min(connected)}": 10 * MIB}))
    assert total_bytes < kept_bytes <= 3 * total_bytes
    counted.hoards.drained()
    counted.come(2000)
    assert counted.look_after(_2000=90 * MIB) == []


def test_a_hello_that_waits_is_no_hoard() -> None:
    counted = Counted(total_max_bytes=1)
    counted.come(7, streams=False)
    assert counted.look_after(_7=1000) == []


def test_the_bounds_leave_an_honest_trainer_all_that_it_may_send() -> None:
    """Its whole credit or the largest record, and that again after a NAK; all of them together, their credit."""
    frame_bytes = 16 + 2 + 9 + 33
    assert 2 * (RECORD_SIZE_MAX_BYTES + frame_bytes) <= UNREAD_MAX_BYTES
    assert UNREAD_TOTAL_MAX_BYTES >= CREDIT_TOTAL_BYTES


def test_strangers_and_hoards_are_looked_at_more_often() -> None:
    counted = Counted(total_max_bytes=100 * MIB)
    seldom = counted.hoards.look_seconds
    counted.come(7, streams=False)
    assert counted.hoards.look_seconds <= seldom / 10
    counted.hoards.gone(7)
    assert counted.hoards.look_seconds == seldom
    counted.come(8)
    counted.look_after(_8=13 * MIB)
    assert counted.hoards.look_seconds <= seldom / 10
    counted.hoards.took(8, 13 * MIB, streams=True)
    counted.hoards.look()
    assert counted.hoards.look_seconds == seldom


def test_a_crowd_is_looked_at_less_often() -> None:
    counted = Counted()
    counted.come(*range(4000), streams=False)
    assert 0.05 < counted.hoards.look_seconds <= 0.1


def test_the_kernel_counts_what_came(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, connect(f"tcp://127.0.0.1:{server.getsockname()[1]}") as one:
        other, _ = server.accept()
        with other:
            one.sendall(bytes(12_345))
            other.recv(12_345, socket.MSG_WAITALL)
            assert received_bytes(other.fileno()) == 12_345
    with socket.socket(socket.AF_UNIX) as local, (tmp_path / "file").open("wb") as file:
        assert received_bytes(local.fileno()) == received_bytes(file.fileno()) == 0
    assert received_bytes(10_000) == 0


@pytest.mark.parametrize("with_keys", [False, True], ids=["plain", "keys"])
def test_what_is_taken_is_what_came_byte_for_byte(tmp_path: Path, with_keys: bool) -> None:
    """Or else an honest trainer's hoard would grow by some bytes with every message, and it would be cut one day."""
    ring = KeyRing(tmp_path) if with_keys else None
    keys = ring.make_trainer() if ring else None
    receiver = make_receiver(tmp_path / "recordings", keys=ring.logger if ring else None)
    with turning(receiver), Peer(receiver.endpoint, Stream("demo"), keys) as peer:
        peer.hello()
        hoards = []
        for sequence, size_bytes in enumerate([0, 120, 155, 190, 1000, 70_000, 2**21], 1):
            peer.send(Data(memoryview(make_record(sequence, kind=Kind.TEXT, body=bytes(size_bytes)))))
            peer.wait_acked(sequence + 1)
            sleep(0.15)
            hoards.append(receiver.connections._hoards._total_bytes)
        peer.send_raw(b"", b"x" * 300, b"")
        assert peer.receive()
    assert len(set(hoards)) == 1, hoards
    assert hoards[0] < 1000, "of the handshake"


PART = b"\x03" + (2**20).to_bytes(8, "big") + bytes(2**20)  # a long frame, and more to come


def test_a_message_that_never_ends_is_cut_and_costs_bounded_memory(tmp_path: Path) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as hoarder:
        hoard(hoarder, 64 * UNREAD_BEFORE_STREAM_MAX_BYTES)
        assert receiver.connections.counts.hoarding == 1
        assert served(receiver)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) < 64 * 2**20


def test_a_trainer_may_send_a_long_message_and_no_endless_one(tmp_path: Path) -> None:
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as trainer:
        say_hello(trainer, bytes(range(16)))
        assert trainer.recv(1)
        trainer.sendall(32 * PART)
        sleep(2 * UnreadBytes(received_bytes).look_seconds)
        assert receiver.connections.counts.hoarding == 0
        hoard(trainer, 4 * UNREAD_MAX_BYTES)
        assert receiver.connections.counts.hoarding == 1


def test_it_is_cut_while_the_receiver_waits_for_its_disk(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    with closing(receiver), speak_zmtp(receiver.endpoint) as hoarder:
        hoard(hoarder, 64 * UNREAD_BEFORE_STREAM_MAX_BYTES)
        assert receiver.connections.counts.hoarding == 1


def test_peers_that_ignore_their_credit_are_cut_while_the_disk_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeroMQ would keep eight messages of each, as large as a message may be."""
    monkeypatch.setattr("tensorboard_sidecar.logger_service.access.unread_bytes.UNREAD_MAX_BYTES", 8 * MIB)
    receiver = make_receiver(tmp_path)
    data = encode_wire(Data(memoryview(make_record(1, kind=Kind.IMAGES, body=bytes(2 * MIB)))))
    message = b"\x02" + len(data).to_bytes(8, "big") + data
    with ExitStack() as stack:
        peers = [stack.enter_context(speak_zmtp(receiver.endpoint)) for _ in range(4)]
        for number, peer in enumerate(peers):
            say_hello(peer, bytes([number] * 16))
        wait_until(lambda: receiver.turn(0.1) or receiver.reception.streams == 4, seconds=20)
        for peer in peers:  # from here on the receiver waits for its disk
            hoard(peer, 200 * MIB, message)
        assert receiver.connections.counts.hoarding == 4
        with turning(receiver):
            assert served(receiver)


def test_a_trainer_that_keeps_to_its_credit_is_not_cut_however_long_the_disk_stalls(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    with closing(receiver), speak_zmtp(receiver.endpoint) as trainer:
        say_hello(trainer, bytes(16))
        wait_until(lambda: receiver.turn(0.1) or receiver.reception.streams == 1, seconds=20)
        body_size = RECORD_SIZE_MAX_BYTES - HEADER_SIZE_BYTES
        data = encode_wire(Data(memoryview(make_record(1, kind=Kind.IMAGES, body=bytes(body_size)))))
        trainer.sendall(b"\x02" + len(data).to_bytes(8, "big") + data)
        sleep(5 * UnreadBytes(received_bytes).look_seconds)
        assert receiver.connections.counts.hoarding == 0
        wait_until(lambda: receiver.turn(0.1) or receiver.reception.counts.records == 1, seconds=20)


def say_hello(connection: socket.socket, stream_id: bytes) -> None:
    hello = encode_wire(Hello(stream_id, "demo", 0, 0, 1))
    connection.sendall(bytes([0, len(hello)]) + hello)


def hoard(connection: socket.socket, size_bytes: int, message: bytes = PART) -> None:
    """Send messages, or frames of an endless one, until the other side has enough, which it must have before long."""
    connection.settimeout(2)
    with pytest.raises(OSError):  # noqa: PT011, PT012 - the kernel's: a reset, or nobody reads any more
        for _ in range(size_bytes // len(message)):
            connection.sendall(message)
