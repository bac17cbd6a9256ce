"""The connections below the messages: counts failed handshakes, and cuts connections beyond the bounds.

ZeroMQ reports the events of connections on a socket of their own, the monitor. A thread reads the monitor and watches
the connections, so that a connection that fills the memory is cut also while the receiver waits for a disk.

What "full" means: every connection is an open file, and open files are bounded. LRU: at the cap, the connection that
has been idle longest is closed for a new connection. A trainer whose idle connection was closed reconnects when it has
records to send.

ZeroMQ keeps some whole messages of a peer, and all parts of a message that has not ended, in memory without a bound.
The kernel counts the bytes that came over a connection; the receiver counts the bytes of the messages that it read. The
difference is unread. An honest trainer has at most its bytes on their way unread. Connections with more are cut:

Rule 1: a connection without a stream may have few unread bytes: a HELLO.
Rule 2: a connection with a stream may have twice its credit unread: after a NAK, the whole credit may come again behind
the data that are dropped. A single record may be as large, whatever the credit.
Rule 3: all connections together have a bound. Beyond it, connections without a stream are cut first, then the
connections with the most unread bytes. Whole messages of a connection that was cut stay in memory until the receiver
reads them. Until the receiver reports that no message waits, these bytes count as half: one bad peer then does not cost
all others their connections. When these bytes alone are twice the bound, all connections are cut; trainers reconnect.
"""

import errno
import logging
import resource
import socket
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

import zmq

from tensorboard_sidecar.logger_service import limits
from tensorboard_sidecar.logger_service.counters import Counters, counter

_MONITOR_ENDPOINT: Final = "inproc://connections"
_EVENTS: Final = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_MONITOR_STOPPED
)
_EVENT: Final = struct.Struct("=HI")  # event, value
_LOG_INTERVAL_SECONDS: Final = 1.0
# The bytes that ZMTP puts before a frame: flags, and the length in 1 or in 8 bytes. CURVE adds the name of the command,
# a nonce, flags and an authentication code.
_SHORT_MAX_BYTES: Final = 255
_SHORT_FRAME_BYTES: Final = 2
_LONG_FRAME_BYTES: Final = 9
_CURVE_BYTES: Final = 33
# Without keys, a peer that hangs up during the handshake was not refused: the peer tested whether a logger listens.
_HUNG_UP: Final = {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}
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

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConnectionCounts(Counters):
    """Counters since the start of the logger."""

    accepted: int = counter("connections begun")
    ended: int = counter("connections ended, by either side; also those that ZeroMQ cut for a frame that was too large")
    refused: int = counter("failed handshakes; with keys also peers that hung up without a key")
    crowded_out: int = counter("idle connections closed for new connections")
    hoarding: int = counter("connections cut because too many bytes waited unread")
    over_credit: int = counter("connections cut because the peer sent more than its credit")


class ConnectionLru:
    """Connections by file descriptor, the longest idle first; a descriptor that comes again is a new connection."""

    def __init__(self, connections_max: int) -> None:
        self._connections_max = connections_max
        self._connections: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connections)

    def come(self, descriptor: int) -> int | None:
        """Add a connection; beyond the cap, remove and return the connection that has been idle longest."""
        self._connections.pop(descriptor, None)
        self._connections[descriptor] = None
        return self._connections.popitem(last=False)[0] if len(self) > self._connections_max else None

    def heard(self, descriptor: int) -> None:
        """Note a message over a connection."""
        if descriptor in self._connections:
            self._connections.move_to_end(descriptor)

    def gone(self, descriptor: int) -> None:
        """Remove a connection."""
        self._connections.pop(descriptor, None)


class UnreadBytes:
    """Connections by file descriptor; ``received(descriptor)`` returns all bytes that ever came over a connection."""

    def __init__(self, received: Callable[[int], int], total_max_bytes: int = limits.UNREAD_TOTAL_MAX_BYTES) -> None:
        self._received, self._total_max_bytes = received, total_max_bytes
        self._without_stream: set[int] = set()
        self._read_bytes: dict[int, int] = {}
        # Connections whose first message is read before ZeroMQ reports the connection: bytes read, stream open.
        self._unreported: dict[int, tuple[int, bool]] = {}
        self._total_bytes = 0  # unread, of all connections, at the last check
        self._cut_bytes = 0  # unread, of connections that were cut

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
        return limits.UNREAD_BEFORE_STREAM_MAX_BYTES if descriptor in self._without_stream else limits.UNREAD_MAX_BYTES

    def _cut(self, descriptor: int, unread_bytes: int) -> None:
        self._total_bytes -= unread_bytes
        self._cut_bytes += unread_bytes
        self.gone(descriptor)


class ConnectionMonitor:
    """Watches the connections of ``server``, which is not bound yet; ``keys`` tells whether the server needs keys."""

    def __init__(self, context: "zmq.Context[zmq.SyncSocket]", server: "zmq.SyncSocket", *, keys: bool) -> None:
        self.counts = ConnectionCounts()
        self._connections, self._unread = ConnectionLru(connections_limit()), UnreadBytes(received_bytes)
        self._keys, self._server = keys, server
        self._logged_at = float("-inf")
        self._lock = threading.Lock()  # for _connections and _unread: held briefly, never during a wait
        server.monitor(_MONITOR_ENDPOINT, _EVENTS)
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.setsockopt(zmq.RCVHWM, 0)  # with any other mark, the I/O thread of ZeroMQ would wait for us
        self._monitor.connect(_MONITOR_ENDPOINT)
        self._thread = threading.Thread(target=self._watch, name="connections", daemon=True)

    def watch(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wire_size_bytes(self, size_bytes: int) -> int:
        """Return the size of a frame as ZMTP 3 sends it (rfc.zeromq.org/spec/23, with keys spec/26)."""
        if self._keys:
            size_bytes += _CURVE_BYTES
        return size_bytes + (_SHORT_FRAME_BYTES if size_bytes <= _SHORT_MAX_BYTES else _LONG_FRAME_BYTES)

    def heard(self, frame: zmq.Frame, wire_bytes: int, *, has_stream: bool) -> None:
        """Note a message that was read: its bytes on the wire, and whether its connection has an open stream."""
        with suppress(zmq.ZMQError):
            descriptor = int(frame.get(zmq.SRCFD))
            with self._lock:
                self._connections.heard(descriptor)
                self._unread.read(descriptor, wire_bytes, has_stream=has_stream)

    def drained(self) -> None:
        """Note that no whole message waits any more."""
        with self._lock:
            self._unread.drained()

    def cut_over_credit(self, frame: zmq.Frame) -> None:
        """Cut the connection of a peer that ignores its credit; bytes in the connection are lost with it."""
        self.counts.over_credit += 1
        cut(frame)

    def close(self) -> None:
        """Stop the thread, which was started; called before the server is closed."""
        self._server.disable_monitor()
        self._thread.join()

    def _watch(self) -> None:
        """Watch until ZeroMQ reports that the monitor stopped."""
        with closing(self._monitor):
            while True:
                self._monitor.poll(round(1000 * self._unread.check_interval_seconds))
                with self._lock:
                    if not self._read_events():
                        return
                    self._cut_for_unread_bytes()

    def _read_events(self) -> bool:
        """Handle the events that wait; return False when the monitor stopped."""
        with suppress(zmq.Again):
            while True:
                event, value = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event == zmq.EVENT_MONITOR_STOPPED:
                    return False
                self._handle(event, value)
        return True

    def _handle(self, event: int, value: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            self.counts.ended += 1
            self._connections.gone(value)
            self._unread.gone(value)
        elif event == zmq.EVENT_ACCEPTED:
            self.counts.accepted += 1
            self._unread.come(value)
            if (longest_idle := self._connections.come(value)) is not None:
                self.counts.crowded_out += 1
                _shut_down(longest_idle)
        elif reason := why_refused(event, value, keys=self._keys):
            self.counts.refused += 1
            self._warn("connection refused: %s (%d refused so far)", reason, self.counts.refused)

    def _cut_for_unread_bytes(self) -> None:
        for descriptor in self._unread.check():
            self.counts.hoarding += 1
            self._warn("connection cut: too many of its bytes wait unread (%d cut so far)", self.counts.hoarding)
            _shut_down(descriptor)

    def _warn(self, text: str, *arguments: object) -> None:
        """Log a warning, at most one a second."""
        if monotonic() - self._logged_at >= _LOG_INTERVAL_SECONDS:
            self._logged_at = monotonic()
            _log.warning(text, *arguments)


def connections_limit() -> int:
    """Return how many connections this process may have, given its limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.CONNECTIONS_MAX
    return min(limits.CONNECTIONS_MAX, max(1, soft // limits.CONNECTIONS_FILES_DIVISOR))


def why_refused(event: int, value: int, *, keys: bool) -> str:
    """Return why a handshake failed, in words; empty when the peer hung up and no ``keys`` are needed."""
    match event, value:
        case zmq.EVENT_HANDSHAKE_FAILED_AUTH, _:
            return "its key is not allowed"
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            return "keys are in use on one side only"
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
            return "the peer has another server's public key"
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, _:
            return f"its handshake is wrong (ZeroMQ's code {value:#x})"
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EFAULT:
            return "there is no authenticator, so no peer may connect"
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, reason if reason not in _HUNG_UP:
            return "the peer did not finish its handshake in time"
    return "the peer hung up when it was asked for a key" if keys else ""


def cut(frame: zmq.Frame) -> None:
    """Cut the connection of a message.

    When that connection has ended, a new connection may have its descriptor and be cut instead: its peer reconnects.
    """
    with suppress(zmq.ZMQError):
        _shut_down(int(frame.get(zmq.SRCFD)))


def received_bytes(descriptor: int) -> int:
    """Return how many bytes came over a TCP connection; 0 where the kernel does not say (``ipc://``, other systems)."""
    with suppress(OSError, AttributeError), _borrowed(descriptor) as connection:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        if len(info) == _BYTES_RECEIVED.size:
            return int(_BYTES_RECEIVED.unpack(info)[0])
    return 0


def _shut_down(descriptor: int) -> None:
    """Shut a connection down; ZeroMQ then closes it."""
    with suppress(OSError), _borrowed(descriptor) as connection:
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Yield a connection of ZeroMQ without opening a descriptor: there may be none left. Raises OSError."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield connection
    finally:
        connection.detach()
