"""Connections that send and send, and never end a message: ZeroMQ keeps its parts in memory, however many there are.

A message is handed over when its last part has come, so nothing here can count the parts. The kernel counts bytes: when
so many have come over a connection since its last whole message as no honest trainer has on its way, it is cut.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final

from protocol.limits import UNFINISHED_MAX_BYTES

LOOK_SECONDS: Final = 0.25
# tcpi_bytes_received in struct tcp_info (linux/tcp.h): behind 8 bytes, 24 numbers of 32 bits and 3 of 64.
_BYTES_RECEIVED: Final = struct.Struct("=128xQ")


class Unfinished:
    """Connections by their file descriptors; ``received`` says how many bytes came over one, ever."""

    def __init__(self, received: Callable[[int], int]) -> None:
        self._received = received
        self._marks: dict[int, int] = {}
        self._heard: set[int] = set()
        self._look_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Unfinished of {len(self._marks)} connections>"

    def come(self, descriptor: int) -> None:
        """Take in a connection."""
        self._marks[descriptor] = 0

    def heard(self, descriptor: int) -> None:
        """Note that a whole message came over a connection."""
        self._heard.add(descriptor)

    def gone(self, descriptor: int) -> None:
        """Forget a connection."""
        self._marks.pop(descriptor, None)

    def look(self, now: float) -> list[int]:
        """Return the connections to cut, each once; ``now`` is a steady time in seconds, four looks fit in one."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_SECONDS
        found = []
        for descriptor, mark in self._marks.items():
            received_bytes = self._received(descriptor)
            if descriptor in self._heard:
                self._marks[descriptor] = received_bytes
            elif received_bytes - mark > UNFINISHED_MAX_BYTES:
                found.append(descriptor)
        self._heard.clear()
        for descriptor in found:
            del self._marks[descriptor]
        return found


def received_bytes(descriptor: int) -> int:
    """Return how many bytes came over a TCP connection; 0 where nobody knows: ``ipc://``, or another system."""
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    except (OSError, AttributeError):
        return 0
    return int(_BYTES_RECEIVED.unpack(info)[0]) if len(info) == _BYTES_RECEIVED.size else 0
