"""What came over each connection and was not taken from it yet: ZeroMQ keeps that in memory, however much it is.

It keeps the whole messages of a peer that wait for us, some of them, and the parts of one that has not ended, all of
them. The kernel counts the bytes that came over a connection, and we those of the messages that were taken; the
difference is its hoard. A trainer's is what it has on its way, at most. Who has more is cut:

Rule 1: over a connection without a stream little is due: a HELLO.
Rule 2: over one with a stream, what its credit allows, twice: after a NAK all of it may come again behind what is
dropped. A single record may be as large, whatever the credit.
Rule 3: so much together. Strangers go first, then who hoards most. What was cut may have sent whole messages, which
stay until the receiver comes round; until it says so they count, as half, so that one hoarder does not cost all others
their connections. When they alone are twice the bound, all connections are cut: a trainer comes again.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final

from tensorboard_sidecar.logger_service.limits import (
    UNREAD_BEFORE_STREAM_MAX_BYTES,
    UNREAD_MAX_BYTES,
    UNREAD_TOTAL_MAX_BYTES,
)

# Between two looks: a loopback brings some 20 MB in the shorter time, and where nobody hoards there is no hurry.
_LOOK_SECONDS: Final = 0.1
_LOOK_SOON_SECONDS: Final = 0.01
# To look at one takes some microseconds: a crowd is looked at less often, so that it costs a fraction of a core.
_LOOK_SECONDS_EACH: Final = 2e-5
# From where on hoards are looked at more often, as a share of what they may be.
_SOON_SHARE: Final = 8
# A HELLO that waits, with its handshake. Nobody is cut for that.
_NO_HOARD_BYTES: Final = 2**14
# tcpi_bytes_received in struct tcp_info (linux/tcp.h): behind 8 bytes, 24 numbers of 32 bits and 3 of 64.
_BYTES_RECEIVED: Final = struct.Struct("=128xQ")


class UnreadBytes:
    """Connections by their file descriptors; ``received`` says how many bytes came over one, ever."""

    def __init__(self, received: Callable[[int], int], total_max_bytes: int = UNREAD_TOTAL_MAX_BYTES) -> None:
        self._received, self._total_max_bytes = received, total_max_bytes
        self._strangers: set[int] = set()
        self._taken_bytes: dict[int, int] = {}
        # Of connections that are heard of before they are known: what was taken, and whether a stream is open.
        self._early: dict[int, tuple[int, bool]] = {}
        self._total_bytes = self._left_bytes = 0

    def __repr__(self) -> str:
        connections, strangers = len(self._taken_bytes), len(self._strangers)
        return f"<UnreadBytes of {connections} connections, {strangers} strangers: {self._total_bytes}>"

    @property
    def look_seconds(self) -> float:
        """How long the next look can wait."""
        hurry = self._strangers or _SOON_SHARE * (self._total_bytes + self._left_bytes) > self._total_max_bytes
        return min(_LOOK_SECONDS, max(_LOOK_SOON_SECONDS if hurry else _LOOK_SECONDS, self._look_costs_seconds))

    @property
    def _look_costs_seconds(self) -> float:
        return _LOOK_SECONDS_EACH * len(self._taken_bytes)

    def come(self, descriptor: int) -> None:
        """Take in a connection; a descriptor that comes again is another one."""
        self._taken_bytes[descriptor], streams = self._early.pop(descriptor, (0, False))
        self._strangers.discard(descriptor)
        if not streams:
            self._strangers.add(descriptor)

    def took(self, descriptor: int, size_bytes: int, *, streams: bool) -> None:
        """Note that a message of so many bytes of the wire was taken, and whether a stream is open over its connection.

        The message may be here before the news that its connection is.
        """
        if descriptor in self._taken_bytes:
            self._taken_bytes[descriptor] += size_bytes
            if streams:
                self._strangers.discard(descriptor)
        else:
            before_bytes, streamed = self._early.get(descriptor, (0, False))
            self._early[descriptor] = (before_bytes + size_bytes, streams or streamed)

    def drained(self) -> None:
        """Note that no whole message waits any more."""
        self._left_bytes = 0

    def gone(self, descriptor: int) -> None:
        """Forget a connection."""
        self._taken_bytes.pop(descriptor, None)
        self._strangers.discard(descriptor)

    def look(self) -> list[int]:
        """Return the connections to cut, each once; to be called when all news of connections was told."""
        self._early.clear()  # of connections that are gone again
        hoards = {}
        for descriptor, taken_bytes in self._taken_bytes.items():
            received_bytes = self._received(descriptor)
            self._taken_bytes[descriptor] = min(taken_bytes, received_bytes)  # a descriptor's former owner's, perhaps
            hoards[descriptor] = received_bytes - self._taken_bytes[descriptor]
        self._total_bytes = sum(hoards.values())
        found = [descriptor for descriptor, hoard_bytes in hoards.items() if hoard_bytes > self._allowed(descriptor)]
        for descriptor in found:
            self._cut(descriptor, hoards.pop(descriptor))
        for descriptor in sorted(hoards, key=lambda one: (one in self._strangers, hoards[one]), reverse=True):
            if self._total_bytes + self._left_bytes // 2 <= self._total_max_bytes:
                break
            if hoards[descriptor] > _NO_HOARD_BYTES or self._left_bytes // 2 > self._total_max_bytes:
                found.append(descriptor)
                self._cut(descriptor, hoards[descriptor])
        return found

    def _allowed(self, descriptor: int) -> int:
        return UNREAD_BEFORE_STREAM_MAX_BYTES if descriptor in self._strangers else UNREAD_MAX_BYTES

    def _cut(self, descriptor: int, hoard_bytes: int) -> None:
        self._total_bytes -= hoard_bytes
        self._left_bytes += hoard_bytes
        self.gone(descriptor)


def received_bytes(descriptor: int) -> int:
    """Return how many bytes came over a TCP connection; 0 where nobody knows: ``ipc://``, or another system.

    Without a descriptor of our own: there may be none left.
    """
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    except OSError:
        return 0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    except (OSError, AttributeError):
        return 0
    finally:
        connection.detach()
    return int(_BYTES_RECEIVED.unpack(info)[0]) if len(info) == _BYTES_RECEIVED.size else 0
