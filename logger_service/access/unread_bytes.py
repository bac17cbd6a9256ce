"""The bytes of each connection that came and were not read yet: ZeroMQ keeps all of them in memory, without a bound.

ZeroMQ keeps some whole messages of a peer, and all parts of a message that has not ended. The kernel counts the bytes
that came over a connection; the receiver counts the bytes of the messages that it read. The difference is unread. An
honest trainer has at most its bytes on their way unread. Connections with more are cut:

Rule 1: a connection without a stream may have few unread bytes: a HELLO.
Rule 2: a connection with a stream may have twice its credit unread: after a NAK, the whole credit may come again behind
the data that are dropped. A single record may be as large, whatever the credit.
Rule 3: all connections together have a bound. Beyond it, connections without a stream are cut first, then the
connections with the most unread bytes. Whole messages of a connection that was cut stay in memory until the receiver
reads them. Until the receiver reports that no message waits, these bytes count as half: one bad peer then does not cost
all others their connections. When these bytes alone are twice the bound, all connections are cut; trainers reconnect.
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

# Between two checks: a loopback brings some 20 MB in the shorter time; with few unread bytes the longer time is enough.
_CHECK_SECONDS: Final = 0.1
_CHECK_SOON_SECONDS: Final = 0.01
# The check of one connection takes some microseconds: with many connections the checks are rarer, so that all checks
# together cost a fraction of a core.
_CHECK_SECONDS_EACH: Final = 2e-5
# From this share of the bound on, the checks are frequent.
_SOON_SHARE: Final = 8
# A HELLO that waits, with its handshake. Rule 3 cuts no connection for so few bytes.
_HELLO_MAX_BYTES: Final = 2**14
# tcpi_bytes_received in struct tcp_info (linux/tcp.h): behind 8 bytes, 24 numbers of 32 bits and 3 of 64.
_BYTES_RECEIVED: Final = struct.Struct("=128xQ")


class UnreadBytes:
    """Connections by file descriptor; ``received(descriptor)`` returns all bytes that ever came over a connection."""

    def __init__(self, received: Callable[[int], int], total_max_bytes: int = UNREAD_TOTAL_MAX_BYTES) -> None:
        self._received, self._total_max_bytes = received, total_max_bytes
        self._without_stream: set[int] = set()
        self._read_bytes: dict[int, int] = {}
        # Connections whose first message is read before ZeroMQ reports the connection: bytes read, stream open.
        self._unreported: dict[int, tuple[int, bool]] = {}
        self._total_bytes = 0  # unread, of all connections, at the last check
        self._cut_bytes = 0  # unread, of connections that were cut

    def __repr__(self) -> str:
        connections, without_stream = len(self._read_bytes), len(self._without_stream)
        return f"<UnreadBytes of {connections} connections, {without_stream} without a stream: {self._total_bytes}>"

    @property
    def check_interval_seconds(self) -> float:
        """How long the next check can wait."""
        much_unread = _SOON_SHARE * (self._total_bytes + self._cut_bytes) > self._total_max_bytes
        seconds = _CHECK_SOON_SECONDS if self._without_stream or much_unread else _CHECK_SECONDS
        return min(_CHECK_SECONDS, max(seconds, _CHECK_SECONDS_EACH * len(self._read_bytes)))

    def come(self, descriptor: int) -> None:
        """Add a connection; a descriptor that comes again is a new connection."""
        self._read_bytes[descriptor], has_stream = self._unreported.pop(descriptor, (0, False))
        self._without_stream.discard(descriptor)
        if not has_stream:
            self._without_stream.add(descriptor)

    def read(self, descriptor: int, size_bytes: int, *, has_stream: bool) -> None:
        """Note a message of ``size_bytes`` on the wire that was read, and whether its connection has an open stream.

        The message may be read before ZeroMQ reports the connection.
        """
        if descriptor in self._read_bytes:
            self._read_bytes[descriptor] += size_bytes
            if has_stream:
                self._without_stream.discard(descriptor)
        else:
            before_bytes, had_stream = self._unreported.get(descriptor, (0, False))
            self._unreported[descriptor] = (before_bytes + size_bytes, has_stream or had_stream)

    def drained(self) -> None:
        """Note that no whole message waits any more."""
        self._cut_bytes = 0

    def gone(self, descriptor: int) -> None:
        """Remove a connection."""
        self._read_bytes.pop(descriptor, None)
        self._without_stream.discard(descriptor)

    def check(self) -> list[int]:
        """Return the connections to cut, each once; called after all events of connections were handled."""
        self._unreported.clear()  # these connections ended before their report
        unread = {}
        for descriptor, read_bytes in self._read_bytes.items():
            received_bytes = self._received(descriptor)
            # More read than received: the last message of a connection that had the same descriptor before.
            self._read_bytes[descriptor] = min(read_bytes, received_bytes)
            unread[descriptor] = received_bytes - self._read_bytes[descriptor]
        self._total_bytes = sum(unread.values())
        to_cut = [descriptor for descriptor, unread_bytes in unread.items() if unread_bytes > self._bound(descriptor)]
        for descriptor in to_cut:
            self._cut(descriptor, unread.pop(descriptor))
        for descriptor in sorted(unread, key=lambda one: (one in self._without_stream, unread[one]), reverse=True):
            if self._total_bytes + self._cut_bytes // 2 <= self._total_max_bytes:
                break
            if unread[descriptor] > _HELLO_MAX_BYTES or self._cut_bytes // 2 > self._total_max_bytes:
                to_cut.append(descriptor)
                self._cut(descriptor, unread[descriptor])
        return to_cut

    def _bound(self, descriptor: int) -> int:
        return UNREAD_BEFORE_STREAM_MAX_BYTES if descriptor in self._without_stream else UNREAD_MAX_BYTES

    def _cut(self, descriptor: int, unread_bytes: int) -> None:
        self._total_bytes -= unread_bytes
        self._cut_bytes += unread_bytes
        self.gone(descriptor)


def received_bytes(descriptor: int) -> int:
    """Return how many bytes came over a TCP connection; 0 where the kernel does not say (``ipc://``, other systems).

    The function needs no descriptor of its own: there may be none left.
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
