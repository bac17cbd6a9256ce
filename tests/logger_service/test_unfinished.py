"""Messages that never end: what counts, and on a real connection."""

import resource
import socket
from pathlib import Path

import pytest
from support.receivers import make_receiver, served, turning
from support.zmtp import connect, speak_zmtp

from logger_service.unfinished import LOOK_SECONDS, Unfinished, received_bytes
from protocol.limits import UNFINISHED_MAX_BYTES


class Counted:
    """Connections whose bytes the test counts."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.unfinished = Unfinished(lambda descriptor: self.bytes[descriptor])
        self.now = 0.0

    def come(self, descriptor: int) -> None:
        self.bytes[descriptor] = 0
        self.unfinished.come(descriptor)

    def look(self) -> list[int]:
        self.now += LOOK_SECONDS
        return self.unfinished.look(self.now)


def test_whoever_sends_too_much_without_a_message_is_found_once() -> None:
    counted = Counted()
    counted.come(7)
    counted.bytes[7] = UNFINISHED_MAX_BYTES
    assert counted.look() == []
    counted.bytes[7] += 1
    assert counted.look() == [7]
    assert counted.look() == []


def test_a_whole_message_begins_the_count_anew() -> None:
    counted = Counted()
    counted.come(7)
    for _ in range(5):
        counted.bytes[7] += UNFINISHED_MAX_BYTES
        counted.unfinished.heard(7)
        assert counted.look() == []
    counted.bytes[7] += UNFINISHED_MAX_BYTES + 1
    assert counted.look() == [7]


def test_a_descriptor_that_comes_again_is_another_connection() -> None:
    counted = Counted()
    counted.come(7)
    counted.bytes[7] = UNFINISHED_MAX_BYTES
    assert counted.look() == []
    counted.unfinished.gone(7)
    counted.come(7)
    counted.bytes[7] = UNFINISHED_MAX_BYTES
    assert counted.look() == []


def test_connections_are_looked_at_four_times_a_second() -> None:
    counted = Counted()
    counted.come(7)
    assert counted.look() == []
    counted.bytes[7] = 2 * UNFINISHED_MAX_BYTES
    assert counted.unfinished.look(counted.now + 0.9 * LOOK_SECONDS) == []
    assert counted.look() == [7]


def test_the_kernel_counts_what_came(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, connect(f"tcp://127.0.0.1:{server.getsockname()[1]}") as one:
        other, _ = server.accept()
        with other:
            one.sendall(bytes(12_345))
            other.recv(12_345, socket.MSG_WAITALL)
            assert received_bytes(other.fileno()) == 12_345
    with socket.socket(socket.AF_UNIX) as local, (tmp_path / "file").open("wb") as file:
        assert received_bytes(local.fileno()) == received_bytes(file.fileno()) == 0


def test_a_message_that_never_ends_is_cut_and_costs_bounded_memory(tmp_path: Path) -> None:
    part = b"\x03" + (2**20).to_bytes(8, "big") + bytes(2**20)  # a long frame, and more to come
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as hoarder:
        with pytest.raises(OSError):  # noqa: PT011, PT012 - the kernel's: a reset, or nobody reads any more
            for _ in range(4 * UNFINISHED_MAX_BYTES // len(part)):
                hoarder.sendall(part)
        assert receiver.connections.counts.unfinished == 1
        assert served(receiver)
    grown_bytes = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
    assert grown_bytes < 4 * UNFINISHED_MAX_BYTES
