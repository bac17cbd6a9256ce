"""A hand-written ZMTP 3.0 client (rfc.zeromq.org/spec/23), to send bytes that no library sends."""

import socket
from typing import Final

from support.logger.peer import DEADLINE_SECONDS

# The greeting, security NULL, and READY of a DEALER.
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)
READY: Final = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"


def connect(endpoint: str) -> socket.socket:
    """Return a connection without any bytes sent."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(DEADLINE_SECONDS)
    return connection


def speak_zmtp(endpoint: str) -> socket.socket:
    """Return a connection after the handshake, which may send any bytes."""
    connection = connect(endpoint)
    connection.sendall(GREETING[:10])
    connection.recv(10, socket.MSG_WAITALL)
    connection.sendall(GREETING[10:] + bytes([4, len(READY)]) + READY)
    answer = b""
    while b"ROUTER" not in answer:
        part = connection.recv(1024)
        assert part, f"{endpoint} hung up"
        answer += part
    return connection


def ends(connection: socket.socket) -> bool:
    """Tell whether the other side closes the connection."""
    try:
        while connection.recv(65536):
            continue
    except ConnectionResetError:
        pass
    return True
