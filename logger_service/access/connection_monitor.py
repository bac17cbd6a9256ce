"""The connections below the messages: counts failed handshakes, and cuts connections beyond the bounds.

ZeroMQ reports the events of connections on a socket of their own, the monitor. A thread reads the monitor and watches
the connections, so that a connection that fills the memory is cut also while the receiver waits for a disk.

What "full" means: every connection is an open file, and open files are bounded. LRU: at the cap, the connection that
has been idle longest is closed for a new connection. A trainer whose idle connection was closed reconnects when it has
records to send. How many bytes may wait unread is decided in ``unread_bytes``.
"""

import errno
import logging
import resource
import socket
import struct
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

import zmq

from tensorboard_sidecar.logger_service.access.unread_bytes import UnreadBytes, received_bytes
from tensorboard_sidecar.logger_service.counters import Counters, counter
from tensorboard_sidecar.logger_service.limits import CONNECTIONS_FILES_DIVISOR, CONNECTIONS_MAX

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
        self._connections: dict[int, None] = {}

    def __repr__(self) -> str:
        return f"<ConnectionLru of {len(self)}, at most {self._connections_max}>"

    def __len__(self) -> int:
        return len(self._connections)

    def come(self, descriptor: int) -> int | None:
        """Add a connection; beyond the cap, remove and return the connection that has been idle longest."""
        self._connections.pop(descriptor, None)
        self._connections[descriptor] = None
        if len(self._connections) <= self._connections_max:
            return None
        longest_idle = next(iter(self._connections))
        del self._connections[longest_idle]
        return longest_idle

    def heard(self, descriptor: int) -> None:
        """Note a message over a connection."""
        if descriptor in self._connections:
            del self._connections[descriptor]
            self._connections[descriptor] = None

    def gone(self, descriptor: int) -> None:
        """Remove a connection."""
        self._connections.pop(descriptor, None)


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

    def __repr__(self) -> str:
        return f"<ConnectionMonitor: {self.counts}>"

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

    def opened(self, frame: zmq.Frame) -> None:
        """Note that the connection of a message has an open stream; called before the peer learns that."""
        self.heard(frame, 0, has_stream=True)

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
                with suppress(OSError):
                    _shut_down(longest_idle)
        elif reason := why_refused(event, value, keys=self._keys):
            self.counts.refused += 1
            self._warn("connection refused: %s (%d refused so far)", reason, self.counts.refused)

    def _cut_for_unread_bytes(self) -> None:
        for descriptor in self._unread.check():
            self.counts.hoarding += 1
            self._warn("connection cut: too many of its bytes wait unread (%d cut so far)", self.counts.hoarding)
            with suppress(OSError):
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
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(1, soft // CONNECTIONS_FILES_DIVISOR))


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
    with suppress(OSError, zmq.ZMQError):
        _shut_down(int(frame.get(zmq.SRCFD)))


def _shut_down(descriptor: int) -> None:
    """Shut a connection down; ZeroMQ then closes it. Raises OSError when the descriptor is no connection.

    The function needs no descriptor of its own: the connection may be cut because no descriptor is left.
    """
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        connection.shutdown(socket.SHUT_RDWR)
    finally:
        connection.detach()
