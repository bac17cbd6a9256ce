"""The socket of a helper: messages of several clients, and clients that send rubbish, do not read, or are gone."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine.waiting import wait_until

from tensorboard_sidecar.logger_service.helper.server import Server
from tensorboard_sidecar.protocol.helper.messages import (
    FolderReport,
    HelperMessage,
    MessageBuffer,
    Report,
    StatusRequest,
    Sync,
    Trouble,
    Watch,
    pack_message,
)

STREAM = bytes(16)


@pytest.fixture
def server(memory: Path) -> Iterator[Server]:
    server = Server(memory / "socket")
    yield server
    server.close()


@pytest.fixture
def client(memory: Path, server: Server) -> Iterator[socket.socket]:
    del server
    with connect(memory) as client:
        yield client


def connect(memory: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    try:
        client.connect(str(memory / "socket"))
    except OSError:
        client.close()
        raise
    return client


def receive(server: Server, count: int) -> list[tuple[int, HelperMessage | None]]:
    found: list[tuple[int, HelperMessage | None]] = []

    def came() -> bool:
        found.extend(server.receive(0.0))
        return len(found) >= count

    wait_until(came, what=f"{count} messages")
    assert len(found) == count
    return found


def test_messages_of_a_client_come_in_order_however_they_are_cut(server: Server, client: socket.socket) -> None:
    data = pack_message(Watch(b"/runs")) + pack_message(Sync(STREAM, 1))
    came = []
    for start in range(len(data)):
        client.sendall(data[start : start + 1])
        came += list(server.receive(0.0))
    [(number, first), (again, second)] = came + receive(server, 2 - len(came))
    assert (number, first, second) == (again, Watch(b"/runs"), Sync(STREAM, 1))


def test_an_answer_goes_to_its_client(server: Server, client: socket.socket, memory: Path) -> None:
    with connect(memory) as other:
        client.sendall(pack_message(Watch(b"/one")))
        other.sendall(pack_message(Watch(b"/two")))
        numbers = {message: number for number, message in receive(server, 2)}
        server.send(numbers[Watch(b"/two")], Trouble("two"))
        server.send(numbers[Watch(b"/one")], Trouble("one"))
        assert list(MessageBuffer().add(client.recv(1000))) == [Trouble("one")]
        assert list(MessageBuffer().add(other.recv(1000))) == [Trouble("two")]
    server.send(12345, Trouble("to nobody"))


def test_a_client_that_is_gone_is_told_once(server: Server, client: socket.socket) -> None:
    client.sendall(pack_message(StatusRequest()))
    client.close()
    [(number, _), gone] = receive(server, 2)
    assert gone == (number, None)
    assert len(server) == 0
    server.send(number, Trouble("late"))


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x01\0\0\0\xc0", os.urandom(70_000)])
def test_a_client_that_sends_rubbish_is_cut_off_and_others_are_served(
    server: Server, client: socket.socket, memory: Path, rubbish: bytes
) -> None:
    with connect(memory) as other:
        client.sendall(b"\xff\xff\xff\x7f" + rubbish)
        [(_, gone)] = receive(server, 1)
        assert gone is None
        other.sendall(pack_message(StatusRequest()))
        [(_, message)] = receive(server, 1)
        assert message == StatusRequest()
    with pytest.raises(ConnectionError):  # noqa: PT012 - the end may come with either
        client.sendall(b"more")
        if client.recv(1) == b"":
            raise ConnectionResetError


def test_messages_before_the_rubbish_count(server: Server, client: socket.socket) -> None:
    client.sendall(pack_message(Watch(b"/runs")) + b"\xff" * 4)
    assert [message for _, message in receive(server, 2)] == [Watch(b"/runs"), None]


def test_a_client_that_does_not_read_is_cut_off_and_never_waited_for(server: Server, client: socket.socket) -> None:
    client.sendall(pack_message(StatusRequest()))
    [(number, _)] = receive(server, 1)
    for _ in range(200):
        server.send(number, Trouble("x" * 10_000))
    assert receive(server, 1) == [(number, None)]


def test_a_socket_that_a_killed_helper_left_is_replaced(memory: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(memory / "socket"))
    left.close()
    server = Server(memory / "socket")
    connect(memory).close()
    server.close()
    assert not (memory / "socket").exists()


def test_after_the_close_clients_learn_the_end(server: Server, client: socket.socket, memory: Path) -> None:
    client.sendall(pack_message(StatusRequest()))
    receive(server, 1)
    server.close()
    assert client.recv(1) == b""
    with pytest.raises(FileNotFoundError):
        connect(memory)


def test_a_message_larger_than_the_sockets_buffer_is_not_torn(server: Server, client: socket.socket) -> None:
    """The client is cut off instead."""
    client.sendall(pack_message(StatusRequest()))
    [(number, _)] = receive(server, 1)
    server.send(number, Report(1, 1, [FolderReport(b"/x" * 1000, 1, 0.0)] * 450))
    assert receive(server, 1) == [(number, None)]
