"""Connections that send and send, and never end a message: ZeroMQ keeps its parts in memory, however many there are.

A message is handed over when its last part has come, so nothing here can count the parts. The kernel counts bytes: when
so many have come over a connection since its last whole message as nobody honest has on its way, it is cut. That is
little before a stream was opened over it, and what its credit allows after that.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final

from protocol.limits import UNFINISHED_MAX_BYTES, UNOPENED_MAX_BYTES

# Between two looks: a loopback brings some 10 MB in the shorter time, and nobody who is known is in a hurry to be cut.
_LOOK_SECONDS: Final = 0.25
_LOOK_AT_STRANGERS_SECONDS: Final = 0.01
# tcpi_bytes_received in struct tcp_info (linux/tcp.h): behind 8 bytes, 24 numbers of 32 bits and 3 of 64.
_BYTES_RECEIVED: Final = struct.Struct("=128xQ")


class Unfinished:
    """Connections by their file descriptors; ``received`` says how many bytes came over one, ever."""

    def __init__(self, received: Callable[[int], int]) -> None:
        self._received = received
        self._strangers: set[int] = set()
        self._early: set[int] = set()
        self._marks: dict[int, int] = {}
        self._heard: set[int] = set()

    def __repr__(self) -> str:
        return f"<Unfinished of {len(self._marks)} connections, {len(self._strangers)} of strangers>"

    @property
    def look_seconds(self) -> float:
        """How long the next look can wait."""
        return _LOOK_AT_STRANGERS_SECONDS if self._strangers else _LOOK_SECONDS

    def come(self, descriptor: int) -> None:
        """Take in a connection; a descriptor that comes again is another one."""
        self._marks[descriptor] = 0
        if descriptor in self._early:
            self._early.discard(descriptor)
        else:
            self._strangers.add(descriptor)
            self._heard.discard(descriptor)

    def heard(self, descriptor: int, *, streams: bool) -> None:
        """Note that a whole message came over a connection, and whether a stream is open over it.

        The message may be here before the news that its connection is.
        """
        self._heard.add(descriptor)
        if streams:
            self._strangers.discard(descriptor)
            if descriptor not in self._marks:
                self._early.add(descriptor)

    def gone(self, descriptor: int) -> None:
        """Forget a connection."""
        self._marks.pop(descriptor, None)
        self._strangers.discard(descriptor)

    def look(self) -> list[int]:
        """Return the connections to cut, each once."""
        found = []
        for descriptor, mark in self._marks.items():
            received_bytes = self._received(descriptor)
            if descriptor in self._heard:
                self._marks[descriptor] = received_bytes
            elif received_bytes - mark > (
                UNOPENED_MAX_BYTES if descriptor in self._strangers else UNFINISHED_MAX_BYTES
            ):
                found.append(descriptor)
        self._heard.clear()
        for descriptor in found:
            self.gone(descriptor)
        return found


def received_bytes(descriptor: int) -> int:
    """Return how many bytes came over a TCP connection; 0 where nobody knows: ``ipc://``, or another system."""
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    except (OSError, AttributeError):
        return 0
    return int(_BYTES_RECEIVED.unpack(info)[0]) if len(info) == _BYTES_RECEIVED.size else 0
