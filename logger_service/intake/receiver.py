"""The socket that trainers connect to: a ROUTER that is read fairly and never blocks.

What "full" means: a peer that sends faster than the journal writes fills its few places in ZeroMQ's queue, then the
buffers of the kernel, and then waits. Credit bounds the bytes that a peer may have on their way; a peer that sends more
is cut. A reply to a peer that does not read is dropped: the next reply says the same and more. Findings for such a peer
wait.
"""

import errno
import math
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

import zmq

from tensorboard_sidecar.logger_service.access.authenticator import Authenticator
from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionMonitor, cut
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.open_streams import Dispatcher, IntakeCounts, OpenStreams, Replies
from tensorboard_sidecar.logger_service.limits import HANDSHAKE_MAX_SECONDS, STREAMS_MAX
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import WIRE_MESSAGE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.storage.key_files import BadKey, check_private_folder
from tensorboard_sidecar.protocol.wire import Findings, Welcome, WireMessage, encode_wire

# Messages handled in one turn, before commits and other due work.
_TURN_MESSAGES_MAX: Final = 64
# At the end, time to send the last replies.
_CLOSE_LINGER_MS: Final = 500

# The first byte of the routing ids that ZeroMQ gives; an id that a peer chooses cannot begin with this byte. With a
# chosen id, a peer could take the id of a peer that is gone, and continue that peer's stream.
_AUTOMATIC_ID: Final = b"\0"

# All options are explicit, and set before bind.
_OPTIONS: Final = {
    zmq.LINGER: 0,
    zmq.IPV6: 0,
    zmq.BACKLOG: 128,
    zmq.ROUTER_MANDATORY: 1,  # sending to a peer that is gone is an error
    zmq.ROUTER_HANDOVER: 0,  # a routing id in use cannot be taken over
    zmq.MAXMSGSIZE: WIRE_MESSAGE_SIZE_MAX_BYTES,  # a larger message ends its connection
    zmq.RCVHWM: 8,  # batches of a peer: 2 MiB cover a slow fdatasync; ``connection_monitor`` bounds larger messages
    zmq.SNDHWM: 64,  # replies of some fifty bytes
    zmq.HANDSHAKE_IVL: 1_000 * HANDSHAKE_MAX_SECONDS,  # a connection without a handshake is closed
    zmq.TCP_KEEPALIVE: 1,  # a dead host is noticed within a minute
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


class Receiver:
    """Listens at ``endpoint`` and fills ``journal``; the attribute ``endpoint`` has the real port in place of ``*``.

    ``keys`` is a folder made by ``keys create``: the receiver then speaks CurveZMQ, and only with the trainers that are
    allowed in the folder. ``allowed`` is the list of their keys, None without ``keys``. Used by one thread. Raises
    StartupError when the endpoint cannot be bound, BadKey for keys that other users can read.
    """

    def __init__(
        self,
        journal: Journal,
        endpoint: str,
        *,
        streams_max: int = STREAMS_MAX,
        keys: Path | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if endpoint.startswith("ipc://"):
            _check_ipc(endpoint)
        self._clock = clock
        self._current_message: zmq.Frame | None = None  # of the message that is handled now
        self._context = zmq.Context(io_threads=1)
        try:
            self._authenticator = Authenticator(self._context, keys) if keys else None
            self._socket = self._context.socket(zmq.ROUTER)
            for option, value in _OPTIONS.items():
                self._socket.setsockopt(option, value)
            if self._authenticator is not None:
                self._authenticator.secure(self._socket)
                self._authenticator.answer(clock())  # faults of the allow-list are logged at the start
            self.connections = ConnectionMonitor(self._context, self._socket, keys=keys is not None)
            self._socket.bind(endpoint)
            self.connections.watch()
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise StartupError(_why_not(endpoint, error)) from None
        except (StartupError, BadKey):
            self._context.destroy(linger=0)
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        if self._authenticator is not None:
            self._poller.register(self._authenticator.socket, zmq.POLLIN)
        self.allowed = self._authenticator.allowed if self._authenticator is not None else None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        counts, replies = IntakeCounts(), Replies(self._send)
        streams = OpenStreams(journal, replies, counts, streams_max=streams_max)
        self.dispatcher = Dispatcher(streams, replies, counts)

    def turn(self, timeout_seconds: float) -> None:
        """Handle messages and do what is due; wait at most ``timeout_seconds`` for either."""
        streams = self.dispatcher.streams
        wait_seconds = min(timeout_seconds, max(0.0, streams.due_at - self._clock()))
        polled = self._poller.poll(math.ceil(wait_seconds * 1000))
        if polled:
            now_seconds = self._clock()
            if self._authenticator is not None:
                self._authenticator.answer(now_seconds)
            for _ in range(_TURN_MESSAGES_MAX):
                now_seconds = self._clock()
                if not self._receive(now_seconds) or now_seconds >= streams.due_at:
                    break
        else:
            self.connections.drained()
        streams.tick(self._clock())

    def close(self) -> None:
        """Stop receiving, commit, and send the last replies.

        The socket is not unbound: an unbind would cut every connection before its last reply has left.
        """
        self.dispatcher.streams.commit(self._clock())
        self.connections.close()
        self._socket.close(linger=_CLOSE_LINGER_MS)
        if self._authenticator is not None:
            self._authenticator.close()
        self._context.term()

    def _receive(self, now_seconds: float) -> bool:
        """Handle one message; return False when none waits. The bytes are not copied on the way to the journal."""
        try:
            peer = self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self.connections.drained()
            return False
        frame, frames = self._socket.recv(copy=False), 1
        wire_bytes = self.connections.wire_size_bytes(len(frame))
        while self._socket.getsockopt(zmq.RCVMORE):  # all frames are here; none is kept, as there may be millions
            wire_bytes += self.connections.wire_size_bytes(len(self._socket.recv()))
            frames += 1
        self._current_message = frame  # libzmq before 4.3.5 has no metadata on the first routing id of a peer
        owner = self._authenticator.owner(frame) if self._authenticator is not None else ""
        dispatcher = self.dispatcher
        if self._authenticator is not None and not owner:
            dispatcher.refuse(peer.bytes, BadKey("the key is not allowed any more"), now_seconds, retry=True)
            cut(frame)
        elif not peer.bytes.startswith(_AUTOMATIC_ID):
            dispatcher.refuse(peer.bytes, Malformed("a routing id chosen by the peer; ZeroMQ gives one"), now_seconds)
        elif frames != 1:
            dispatcher.refuse(peer.bytes, Malformed(f"{frames} frames in a message; expected one"), now_seconds)
        elif not dispatcher.handle(peer.bytes, frame.buffer, now_seconds, owner):
            self.connections.cut_over_credit(frame)
        has_stream = dispatcher.streams.stream_of(peer.bytes) is not None
        self.connections.heard(frame, wire_bytes, has_stream=has_stream)
        self._current_message = None
        return True

    def _send(self, peer: bytes, message: WireMessage) -> bool:
        if isinstance(message, Welcome) and self._current_message is not None:
            self.connections.heard(self._current_message, 0, has_stream=True)  # before the peer learns that
        try:
            self._socket.send_multipart([peer, encode_wire(message)], zmq.NOBLOCK)
        except zmq.Again:
            return not isinstance(message, Findings)  # the peer is connected, and does not read
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            raise
        return True


def _check_ipc(endpoint: str) -> None:
    """Raise StartupError for a path that other users can reach or replace, or on which a process listens.

    Without the check, ZeroMQ would take the path away from the other process silently.
    """
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        check_private_folder(path.parent)
    except BadKey as error:
        raise StartupError(f"--bind {endpoint}: {error}; or make a folder of your own: mkdir -m 700 DIR") from None
    except OSError as error:
        raise StartupError(
            f"--bind {endpoint}: {path.parent}: {error.strerror}; expected something like ipc://DIR/logger.sock, with"
            " DIR made by: mkdir -m 700 DIR"
        ) from None
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        raise StartupError(
            f"--bind {endpoint}: another logger listens there; stop the other logger or choose another path"
        )


def _why_not(endpoint: str, error: zmq.ZMQError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            port = re.sub(r".*:", "", endpoint)
            return (
                f"--bind {endpoint}: the address is in use, perhaps by another logger; stop that process"
                f" (ss -ltnp 'sport = :{port}' names it) or choose another port (tcp://127.0.0.1:* takes a free port)"
            )
        case errno.EACCES:
            return f"--bind {endpoint}: not permitted; choose a port above 1023, or a path in a folder of your own"
        case _:
            return f"--bind {endpoint}: {error}; expected something like tcp://127.0.0.1:5555"
