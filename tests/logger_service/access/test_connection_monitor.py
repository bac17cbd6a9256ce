"""Connections below the messages: why a handshake failed, which connections are cut, how unread bytes are counted."""

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from time import sleep

import pytest
import zmq
from support.logger.key_ring import KeyRing
from support.logger.peer import Peer, make_record
from support.logger.receivers import make_receiver, served, turning
from support.logger.zmtp import connect, ends, speak_zmtp
from support.machine.waiting import wait_until

from tensorboard_sidecar.logger_service.access.connection_monitor import (
    ConnectionLru,
    UnreadBytes,
    connections_limit,
    cut,
    received_bytes,
    why_refused,
)
from tensorboard_sidecar.logger_service.limits import (
    CONNECTIONS_MAX,
    CREDIT_TOTAL_BYTES,
    UNREAD_BEFORE_STREAM_MAX_BYTES,
    UNREAD_MAX_BYTES,
    UNREAD_TOTAL_MAX_BYTES,
)
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data, Hello, encode_wire


@pytest.mark.parametrize(
    ("event", "value", "words"),
    [
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, "not allowed"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, "one side only"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, "another server's public key"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_UNSPECIFIED, "0x10000000"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EFAULT, "no authenticator"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EAGAIN, "in time"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.ECONNRESET, "hung up"),
    ],
)
def test_every_refusal_has_its_reason(event: int, value: int, words: str) -> None:
    assert words in why_refused(event, value, keys=True)


def test_a_peer_that_hangs_up_where_no_key_is_needed_was_not_refused() -> None:
    assert why_refused(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EPIPE, keys=False) == ""


def test_a_connection_is_cut_by_a_message_that_came_over_it() -> None:
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    server.bind("tcp://127.0.0.1:*")
    with speak_zmtp(server.getsockopt_string(zmq.LAST_ENDPOINT)) as connection:
        connection.sendall(b"\x00\x02hi")
        assert server.poll(20_000)
        cut(server.recv_multipart(copy=False)[-1])
        assert ends(connection)
    context.destroy(linger=0)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 8, hard)
    )
    opened = []
    try:
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_is_cut_where_no_file_can_be_opened_any_more() -> None:
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    server.bind("tcp://127.0.0.1:*")
    with speak_zmtp(server.getsockopt_string(zmq.LAST_ENDPOINT)) as connection:
        connection.sendall(b"\x00\x02hi")
        assert server.poll(20_000)
        message = server.recv_multipart(copy=False)
        with no_descriptors_left():
            cut(message[-1])
        assert ends(connection)
    context.destroy(linger=0)


def test_a_connection_that_is_gone_is_left_alone() -> None:
    cut(zmq.Frame(b"of no connection"))


def lru_of(*descriptors: int, connections_max: int = 3) -> ConnectionLru:
    lru = ConnectionLru(connections_max)
    for descriptor in descriptors:
        assert lru.come(descriptor) is None
    return lru


def test_at_the_cap_the_longest_idle_connection_is_closed() -> None:
    lru = lru_of(1, 2, 3)
    lru.heard(1)
    assert [lru.come(4), lru.come(5), lru.come(6)] == [2, 3, 1]
    assert len(lru) == 3


def test_a_connection_that_is_gone_makes_room() -> None:
    lru = lru_of(1, 2, 3)
    lru.gone(2)
    assert lru.come(4) is None
    assert lru.come(5) == 1


def test_a_descriptor_that_comes_again_is_a_new_connection() -> None:
    lru = lru_of(1, 2, 3)
    assert lru.come(1) is None
    assert lru.come(4) == 2


def test_a_connection_that_was_cut_may_still_send_and_end() -> None:
    lru = lru_of(1, 2, 3)
    lru.come(4)
    lru.heard(1)
    lru.gone(1)
    assert len(lru) == 3


def test_connections_take_half_of_the_open_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_limit() >= 1
    assert connections_limit() <= CONNECTIONS_MAX
    assert soft == resource.RLIM_INFINITY or connections_limit() == min(soft // 2, CONNECTIONS_MAX)


MIB = 2**20


class Counted:
    """Connections whose received bytes the test sets."""

    def __init__(self, total_max_bytes: int = UNREAD_TOTAL_MAX_BYTES) -> None:
        self.bytes: dict[int, int] = {}
        self.unread = UnreadBytes(lambda descriptor: self.bytes[descriptor], total_max_bytes)

    def come(self, *descriptors: int, has_stream: bool = True) -> None:
        for descriptor in descriptors:
            self.bytes[descriptor] = 0
            self.unread.come(descriptor)
            if has_stream:
                self.unread.read(descriptor, 0, has_stream=True)
        assert self.unread.check() == []

    def check_after(self, **more_bytes: int) -> list[int]:
        """Check when more bytes have come: ``_7=100`` over connection 7."""
        for name, size_bytes in more_bytes.items():
            self.bytes[int(name[1:])] += size_bytes
        return sorted(self.unread.check())


BOTH = pytest.mark.parametrize(
    ("has_stream", "allowed_bytes"), [(False, UNREAD_BEFORE_STREAM_MAX_BYTES), (True, UNREAD_MAX_BYTES)]
)


@BOTH
def test_a_connection_with_too_many_unread_bytes_is_found_once(has_stream: bool, allowed_bytes: int) -> None:
    counted = Counted()
    counted.come(7, has_stream=has_stream)
    assert counted.check_after(_7=allowed_bytes) == []
    assert counted.check_after(_7=1) == [7]
    assert counted.check_after(_7=1) == []


@BOTH
def test_only_bytes_that_were_read_are_no_longer_unread(has_stream: bool, allowed_bytes: int) -> None:
    """A small message that is read now and then must not hide large ones: eight of 64 MiB could wait."""
    counted = Counted()
    counted.come(7, has_stream=has_stream)
    for _ in range(5):
        assert counted.check_after(_7=allowed_bytes) == []
        counted.unread.read(7, allowed_bytes, has_stream=has_stream)
    assert counted.check_after(_7=allowed_bytes) == []
    counted.unread.read(7, 10, has_stream=has_stream)
    assert counted.check_after(_7=11) == [7]


def test_a_descriptor_that_comes_again_is_another_connection() -> None:
    counted = Counted()
    counted.come(7)
    assert counted.check_after(_7=UNREAD_MAX_BYTES) == []
    counted.unread.gone(7)
    counted.come(7)
    assert counted.check_after(_7=UNREAD_MAX_BYTES) == []
    counted.come(7, has_stream=False)
    assert counted.check_after(_7=UNREAD_BEFORE_STREAM_MAX_BYTES + 1) == [7]


def test_bytes_of_a_descriptors_former_connection_do_not_count_as_read() -> None:
    """The last message of a connection is read when another connection has the descriptor already."""
    counted = Counted()
    counted.come(7)
    counted.unread.read(7, 64 * MIB, has_stream=True)
    assert counted.check_after(_7=1) == []
    assert counted.check_after(_7=UNREAD_MAX_BYTES) == []
    assert counted.check_after(_7=1) == [7]


def test_a_stream_opened_before_its_connection_is_reported_counts() -> None:
    counted = Counted()
    counted.unread.read(7, 100, has_stream=True)
    counted.unread.read(7, 100, has_stream=False)
    counted.bytes[7] = 200
    counted.unread.come(7)
    assert counted.check_after() == []
    assert counted.check_after(_7=UNREAD_MAX_BYTES) == []
    assert counted.check_after(_7=1) == [7]


def test_a_message_of_a_connection_that_is_gone_opens_no_stream_for_the_next() -> None:
    counted = Counted()
    counted.unread.read(7, 100, has_stream=True)
    assert counted.unread.check() == []
    counted.come(7, has_stream=False)
    assert counted.check_after(_7=UNREAD_BEFORE_STREAM_MAX_BYTES + 1) == [7]


def test_beyond_the_total_the_largest_are_cut_until_the_rest_fits() -> None:
    counted = Counted(total_max_bytes=100 * MIB)
    counted.come(1, 2, 3, 4)
    assert counted.check_after(_1=10 * MIB, _2=50 * MIB, _3=20 * MIB, _4=20 * MIB) == []
    assert counted.check_after(_1=MIB) == [2]
    assert counted.check_after(_1=MIB) == []


def test_connections_without_a_stream_are_cut_before_trainers() -> None:
    counted = Counted(total_max_bytes=4 * MIB)
    counted.come(1)
    counted.come(2, 3, 4, has_stream=False)
    assert counted.check_after(_1=3 * MIB, _2=MIB, _3=MIB // 4, _4=100) == [2]
    assert counted.check_after(_3=MIB // 2, _4=100) == [3]


def test_unread_bytes_of_cut_connections_count_until_they_are_read() -> None:
    """One connection after the other is cut while nothing is read: all of them together stay within a bound."""
    total_bytes = 100 * MIB
    counted = Counted(total_bytes)
    counted.come(*range(1000))
    kept_bytes, connected = 0, set(range(1000))
    while connected:
        kept_bytes += 10 * MIB
        connected -= set(counted.check_after(**{f"_{min(connected)}": 10 * MIB}))
    assert total_bytes < kept_bytes <= 3 * total_bytes
    counted.unread.drained()
    counted.come(2000)
    assert counted.check_after(_2000=90 * MIB) == []


def test_a_hello_that_waits_costs_no_connection() -> None:
    counted = Counted(total_max_bytes=1)
    counted.come(7, has_stream=False)
    assert counted.check_after(_7=1000) == []


def test_the_bounds_leave_an_honest_trainer_all_that_it_may_send() -> None:
    """A trainer: its whole credit or the largest record, and both again after a NAK. All trainers: the total credit."""
    frame_bytes = 16 + 2 + 9 + 33
    assert 2 * (RECORD_SIZE_MAX_BYTES + frame_bytes) <= UNREAD_MAX_BYTES
    assert UNREAD_TOTAL_MAX_BYTES >= CREDIT_TOTAL_BYTES


def test_checks_are_frequent_without_a_stream_and_with_many_unread_bytes() -> None:
    counted = Counted(total_max_bytes=100 * MIB)
    seldom = counted.unread.check_interval_seconds
    counted.come(7, has_stream=False)
    assert counted.unread.check_interval_seconds <= seldom / 10
    counted.unread.gone(7)
    assert counted.unread.check_interval_seconds == seldom
    counted.come(8)
    counted.check_after(_8=13 * MIB)
    assert counted.unread.check_interval_seconds <= seldom / 10
    counted.unread.read(8, 13 * MIB, has_stream=True)
    counted.unread.check()
    assert counted.unread.check_interval_seconds == seldom


def test_checks_of_many_connections_are_rarer() -> None:
    counted = Counted()
    counted.come(*range(4000), has_stream=False)
    assert 0.05 < counted.unread.check_interval_seconds <= 0.1


def test_the_kernel_counts_the_bytes_that_came(tmp_path: Path) -> None:
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
def test_the_bytes_read_are_the_bytes_that_came(tmp_path: Path, with_keys: bool) -> None:
    """Otherwise the unread bytes of an honest trainer would grow with every message until the trainer is cut."""
    ring = KeyRing(tmp_path) if with_keys else None
    keys = ring.make_trainer() if ring else None
    receiver = make_receiver(tmp_path / "recordings", keys=ring.logger if ring else None)
    with turning(receiver), Peer(receiver.endpoint, Stream("demo"), keys) as peer:
        peer.hello()
        unread_bytes = []
        for sequence, size_bytes in enumerate([0, 120, 155, 190, 1000, 70_000, 2**21], 1):
            peer.send(Data(memoryview(make_record(sequence, kind=Kind.TEXT, body=bytes(size_bytes)))))
            peer.wait_acked(sequence + 1)
            sleep(0.15)
            unread_bytes.append(receiver.connections._unread._total_bytes)
        peer.send_raw(b"", b"x" * 300, b"")
        assert peer.receive()
    assert len(set(unread_bytes)) == 1, unread_bytes
    assert unread_bytes[0] < 1000, "of the handshake"


PART = b"\x03" + (2**20).to_bytes(8, "big") + bytes(2**20)  # a long frame, and more to come


def test_a_message_that_never_ends_is_cut_and_costs_bounded_memory(tmp_path: Path) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as sender:
        fill(sender, 64 * UNREAD_BEFORE_STREAM_MAX_BYTES)
        assert receiver.connections.counts.hoarding == 1
        assert served(receiver)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) < 64 * 2**20


def test_a_trainer_may_send_a_long_message_and_no_endless_one(tmp_path: Path) -> None:
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as trainer:
        say_hello(trainer, bytes(range(16)))
        assert trainer.recv(1)
        trainer.sendall(32 * PART)
        sleep(2 * UnreadBytes(received_bytes).check_interval_seconds)
        assert receiver.connections.counts.hoarding == 0
        fill(trainer, 4 * UNREAD_MAX_BYTES)
        assert receiver.connections.counts.hoarding == 1


def test_an_endless_message_is_cut_while_the_receiver_waits_for_its_disk(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    with closing(receiver), speak_zmtp(receiver.endpoint) as sender:
        fill(sender, 64 * UNREAD_BEFORE_STREAM_MAX_BYTES)
        assert receiver.connections.counts.hoarding == 1


def test_peers_that_ignore_their_credit_are_cut_while_the_disk_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeroMQ would keep eight messages of each, as large as a message may be."""
    monkeypatch.setattr("tensorboard_sidecar.logger_service.limits.UNREAD_MAX_BYTES", 8 * MIB)
    receiver = make_receiver(tmp_path)
    data = encode_wire(Data(memoryview(make_record(1, kind=Kind.IMAGES, body=bytes(2 * MIB)))))
    message = b"\x02" + len(data).to_bytes(8, "big") + data
    with ExitStack() as stack:
        peers = [stack.enter_context(speak_zmtp(receiver.endpoint)) for _ in range(4)]
        for number, peer in enumerate(peers):
            say_hello(peer, bytes([number] * 16))
        wait_until(lambda: receiver.turn(0.1) or len(receiver.dispatcher.streams) == 4, seconds=20)
        for peer in peers:  # from here on the receiver waits for its disk
            fill(peer, 200 * MIB, message)
        assert receiver.connections.counts.hoarding == 4
        with turning(receiver):
            assert served(receiver)


def test_a_trainer_that_keeps_to_its_credit_is_not_cut_however_long_the_disk_stalls(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    with closing(receiver), speak_zmtp(receiver.endpoint) as trainer:
        say_hello(trainer, bytes(16))
        wait_until(lambda: receiver.turn(0.1) or len(receiver.dispatcher.streams) == 1, seconds=20)
        body_size = RECORD_SIZE_MAX_BYTES - HEADER_SIZE_BYTES
        data = encode_wire(Data(memoryview(make_record(1, kind=Kind.IMAGES, body=bytes(body_size)))))
        trainer.sendall(b"\x02" + len(data).to_bytes(8, "big") + data)
        sleep(5 * UnreadBytes(received_bytes).check_interval_seconds)
        assert receiver.connections.counts.hoarding == 0
        wait_until(lambda: receiver.turn(0.1) or receiver.dispatcher.counts.records == 1, seconds=20)


def say_hello(connection: socket.socket, stream_id: bytes) -> None:
    hello = encode_wire(Hello(stream_id, "demo", 0, 0, 1))
    connection.sendall(bytes([0, len(hello)]) + hello)


def fill(connection: socket.socket, size_bytes: int, message: bytes = PART) -> None:
    """Send messages, or frames of an endless message, until the receiver cuts the connection, which must be soon."""
    connection.settimeout(2)
    with pytest.raises(OSError):  # noqa: PT011, PT012 - an error of the kernel: a reset, or a closed connection
        for _ in range(size_bytes // len(message)):
            connection.sendall(message)
