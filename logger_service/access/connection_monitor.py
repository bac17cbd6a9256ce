"""The connections below the messages: those that fail to shake hands are counted, and those that hoard are cut.

ZeroMQ says what happens to connections, one by one, on a socket of its own (a monitor). A thread reads it and looks at
them, so that whoever fills our memory is cut also while the receiver waits for a disk.
"""

import errno
import logging
import socket
import struct
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

import zmq

from tensorboard_sidecar.logger_service.access.connection_lru import ConnectionLru, connections_limit
from tensorboard_sidecar.logger_service.access.unread_bytes import UnreadBytes, received_bytes
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
_SAY_INTERVAL_SECONDS: Final = 1.0
# Before a part of a message: flags, and its length in 1 or in 8 bytes. With keys also a command's name, a nonce, flags
# of its own and a code that authenticates it.
_SHORT_MAX_BYTES: Final = 255
_SHORT_FRAME_BYTES: Final = 2
_LONG_FRAME_BYTES: Final = 9
_CURVE_BYTES: Final = 33
# Where there are no keys, whoever hangs up by itself was not refused: it looked whether somebody listens.
_HUNG_UP: Final = {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConnectionCounts(Counters):
    """Counters since the start of the logger."""

    accepted: int = counter("connections begun")
    ended: int = counter("connections ended, by either side; also those that ZeroMQ cut for a frame above its limit")
    refused: int = counter("connections refused before their first message")
    crowded_out: int = counter("connections cut to make room for others")
    hoarding: int = counter("connections cut for too many unread bytes, or for a message without an end")
    over_credit: int = counter("connections cut for more bytes than their credit allows")


class ConnectionMonitor:
    """What is known of the connections of ``server``, which is not bound yet."""

    def __init__(self, context: "zmq.Context[zmq.SyncSocket]", server: "zmq.SyncSocket", *, keys: bool) -> None:
        self.counts = ConnectionCounts()
        self._crowd, self._hoards = ConnectionLru(connections_limit()), UnreadBytes(received_bytes)
        self._keys, self._server = keys, server
        self._said_at = float("-inf")
        self._lock = threading.Lock()  # for the crowd and the hoards: short, and never held while we wait
        server.monitor(_MONITOR_ENDPOINT, _EVENTS)
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.setsockopt(zmq.RCVHWM, 0)  # ZeroMQ's own thread would wait for us at any other mark
        self._monitor.connect(_MONITOR_ENDPOINT)
        self._thread = threading.Thread(target=self._watch, name="connections", daemon=True)

    def __repr__(self) -> str:
        return f"<ConnectionMonitor: {self.counts}>"

    def watch(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wire_size_bytes(self, size_bytes: int) -> int:
        """Return how long a part of a message is as ZMTP 3 sends it (rfc.zeromq.org/spec/23, with keys spec/26)."""
        if self._keys:
            size_bytes += _CURVE_BYTES
        return size_bytes + (_SHORT_FRAME_BYTES if size_bytes <= _SHORT_MAX_BYTES else _LONG_FRAME_BYTES)

    def heard(self, frame: zmq.Frame, wire_bytes: int, *, streams: bool) -> None:
        """Note that a message was taken, how long it was on the wire, and whether its connection has a stream open."""
        with suppress(zmq.ZMQError):
            descriptor = int(frame.get(zmq.SRCFD))
            with self._lock:
                self._crowd.heard(descriptor)
                self._hoards.took(descriptor, wire_bytes, streams=streams)

    def opened(self, frame: zmq.Frame) -> None:
        """Note that a stream is opened over the connection that a message came by; before its sender learns it."""
        self.heard(frame, 0, streams=True)

    def drained(self) -> None:
        """Note that no whole message waits any more."""
        with self._lock:
            self._hoards.drained()

    def cut_over_credit(self, frame: zmq.Frame) -> None:
        """Cut the connection of a peer that ignores its credit, and what it has sent on top with it."""
        self.counts.over_credit += 1
        cut(frame)

    def close(self) -> None:
        """Look no more, once it was begun; to be called before the server is closed."""
        self._server.disable_monitor()
        self._thread.join()

    def _watch(self) -> None:
        """Look until ZeroMQ says that there is no more to see."""
        with closing(self._monitor):
            while True:
                self._monitor.poll(round(1000 * self._hoards.look_seconds))
                with self._lock:
                    if not self._take_news():
                        return
                    self._cut_hoarders()

    def _take_news(self) -> bool:
        """Note what happened; tell whether more can."""
        with suppress(zmq.Again):
            while True:
                event, value = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event == zmq.EVENT_MONITOR_STOPPED:
                    return False
                self._note(event, value)
        return True

    def _note(self, event: int, value: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            self.counts.ended += 1
            self._crowd.gone(value)
            self._hoards.gone(value)
        elif event == zmq.EVENT_ACCEPTED:
            self.counts.accepted += 1
            self._hoards.come(value)
            if (surplus := self._crowd.come(value)) is not None:
                self.counts.crowded_out += 1
                with suppress(OSError):
                    _shut_down(surplus)
        elif why := why_refused(event, value, keys=self._keys):
            self.counts.refused += 1
            self._say("connection refused: %s (%d refused so far)", why, self.counts.refused)

    def _cut_hoarders(self) -> None:
        for descriptor in self._hoards.look():
            self.counts.hoarding += 1
            self._say("connection cut: too much has come over it that waits (%d cut so far)", self.counts.hoarding)
            with suppress(OSError):
                _shut_down(descriptor)

    def _say(self, text: str, *what: object) -> None:
        if monotonic() - self._said_at >= _SAY_INTERVAL_SECONDS:
            self._said_at = monotonic()
            _log.warning(text, *what)


def why_refused(event: int, value: int, *, keys: bool) -> str:
    """Return why a handshake failed, for people; nothing when the other side hung up and needed no ``keys``."""
    match event, value:
        case zmq.EVENT_HANDSHAKE_FAILED_AUTH, _:
            return "its key is not allowed"
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            return "keys are in use on one side only"
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
            return "it has another server's public key"
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, _:
            return f"its handshake is wrong (ZeroMQ's code {value:#x})"
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EFAULT:
            return "there is no authenticator, so nobody is let in"
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, reason if reason not in _HUNG_UP:
            return "it did not finish its handshake in time"
    return "it hung up when it was asked for a key" if keys else ""


def cut(frame: zmq.Frame) -> None:
    """Cut the connection that a message came by. Where that is gone already, another one may be cut, and come again."""
    with suppress(OSError, zmq.ZMQError):
        _shut_down(int(frame.get(zmq.SRCFD)))


def _shut_down(descriptor: int) -> None:
    """Have ZeroMQ find a connection closed. Raises OSError when it is gone, or is none any more.

    Without a descriptor of our own: there may be none left, which is why it is cut.
    """
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        connection.shutdown(socket.SHUT_RDWR)
    finally:
        connection.detach()
