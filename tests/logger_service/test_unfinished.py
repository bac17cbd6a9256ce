"""Messages that never end: what counts, and on a real connection."""

import resource
import socket
from contextlib import closing
from pathlib import Path
from time import sleep

import pytest
from support.receivers import make_receiver, served, turning
from support.zmtp import connect, speak_zmtp

from logger_service.unfinished import Unfinished, received_bytes
from protocol.limits import UNFINISHED_MAX_BYTES, UNOPENED_MAX_BYTES
from protocol.wire import Hello, encode_wire


class Counted:
    """A connection of a known trainer whose bytes the test counts."""

    def __init__(self, *, streams: bool = True) -> None:
        self.bytes = 0
        self.unfinished = Unfinished(lambda _: self.bytes)
        self.come(streams=streams)

    def come(self, *, streams: bool = True) -> None:
        self.bytes = 0
        self.unfinished.come(7)
        if streams:
            self.unfinished.heard(7, streams=True)
            assert self.unfinished.look() == []

    def look_after(self, more_bytes: int) -> list[int]:
        self.bytes += more_bytes
        return self.unfinished.look()


@pytest.mark.parametrize(("streams", "allowed_bytes"), [(False, UNOPENED_MAX_BYTES), (True, UNFINISHED_MAX_BYTES)])
def test_whoever_sends_too_much_without_a_message_is_found_once(streams: bool, allowed_bytes: int) -> None:
    counted = Counted(streams=streams)
    assert counted.look_after(allowed_bytes) == []
    assert counted.look_after(1) == [7]
    assert counted.look_after(1) == []


@pytest.mark.parametrize(("streams", "allowed_bytes"), [(False, UNOPENED_MAX_BYTES), (True, UNFINISHED_MAX_BYTES)])
def test_a_whole_message_begins_the_count_anew(streams: bool, allowed_bytes: int) -> None:
    counted = Counted(streams=streams)
    for _ in range(5):
        counted.unfinished.heard(7, streams=streams)
        assert counted.look_after(allowed_bytes) == []
    assert counted.look_after(allowed_bytes + 1) == [7]


def test_a_descriptor_that_comes_again_is_another_connection() -> None:
    counted = Counted()
    assert counted.look_after(UNFINISHED_MAX_BYTES) == []
    counted.unfinished.gone(7)
    counted.come()
    assert counted.look_after(UNFINISHED_MAX_BYTES) == []
    counted.unfinished.heard(7, streams=True)
    counted.come(streams=False)
    assert counted.look_after(UNOPENED_MAX_BYTES + 1) == [7]


def test_a_trainer_that_is_heard_before_its_connection_is_known_is_no_stranger() -> None:
    counted = Counted()
    counted.unfinished.gone(7)
    counted.unfinished.heard(7, streams=True)
    counted.unfinished.come(7)
    counted.bytes = 0
    assert counted.unfinished.look() == []
    assert counted.look_after(UNFINISHED_MAX_BYTES) == []
    counted.unfinished.gone(7)
    counted.come(streams=False)
    assert counted.look_after(UNOPENED_MAX_BYTES + 1) == [7]


def test_strangers_are_looked_at_more_often() -> None:
    counted = Counted()
    seldom = counted.unfinished.look_seconds
    counted.come(streams=False)
    assert counted.unfinished.look_seconds <= seldom / 10
    counted.unfinished.gone(7)
    assert counted.unfinished.look_seconds == seldom


def test_the_kernel_counts_what_came(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, connect(f"tcp://127.0.0.1:{server.getsockname()[1]}") as one:
        other, _ = server.accept()
        with other:
            one.sendall(bytes(12_345))
            other.recv(12_345, socket.MSG_WAITALL)
            assert received_bytes(other.fileno()) == 12_345
    with socket.socket(socket.AF_UNIX) as local, (tmp_path / "file").open("wb") as file:
        assert received_bytes(local.fileno()) == received_bytes(file.fileno()) == 0


PART = b"\x03" + (2**20).to_bytes(8, "big") + bytes(2**20)  # a long frame, and more to come


def test_a_message_that_never_ends_is_cut_and_costs_bounded_memory(tmp_path: Path) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as hoarder:
        hoard(hoarder, 64 * UNOPENED_MAX_BYTES)
        assert receiver.connections.counts.unfinished == 1
        assert served(receiver)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) < 64 * 2**20


def test_a_trainer_may_send_a_long_message_and_no_endless_one(tmp_path: Path) -> None:
    with turning(make_receiver(tmp_path)) as receiver, speak_zmtp(receiver.endpoint) as trainer:
        hello = encode_wire(Hello(bytes(range(16)), "demo", 0, 0, 1))
        trainer.sendall(bytes([0, len(hello)]) + hello)
        assert trainer.recv(1)
        trainer.sendall(32 * PART)
        sleep(2 * Unfinished(received_bytes).look_seconds)
        assert receiver.connections.counts.unfinished == 0
        hoard(trainer, 4 * UNFINISHED_MAX_BYTES)
        assert receiver.connections.counts.unfinished == 1


def test_it_is_cut_while_the_receiver_waits_for_its_disk(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    with closing(receiver), speak_zmtp(receiver.endpoint) as hoarder:
        hoard(hoarder, 64 * UNOPENED_MAX_BYTES)
        assert receiver.connections.counts.unfinished == 1


def hoard(connection: socket.socket, size_bytes: int) -> None:
    """Send frames of a message without an end until the other side has enough, which it must have before long."""
    connection.settimeout(2)
    with pytest.raises(OSError):  # noqa: PT011, PT012 - the kernel's: a reset, or nobody reads any more
        for _ in range(size_bytes // len(PART)):
            connection.sendall(PART)
