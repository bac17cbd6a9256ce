"""The socket that trainers connect to: a ROUTER, read fairly, never waited for.

What "full" means: a peer that sends faster than the journal writes fills its few places here, then the kernel's
buffers, and then waits; what it may have on its way at all is its credit, and who has more is cut. An answer for a peer
that does not read is dropped: the next one says the same and more.

The logger imports zmq here, and in the two files that stand between this socket and the network: ``authenticator`` says
who may connect, ``connections`` what becomes of a connection.
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

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.access.authenticator import Authenticator
from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionMonitor, cut
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.intake.dispatcher import Dispatcher
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.limits import HANDSHAKE_MAX_SECONDS
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import WIRE_MESSAGE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.storage.key_files import BadKey, check_private_folder
from tensorboard_sidecar.protocol.wire import Welcome, WireMessage, encode_wire

# Messages handled between two looks at the clock for what is due.
_TURN_MESSAGES_MAX: Final = 64
# Time for the last acknowledgements to leave.
_CLOSE_LINGER_MS: Final = 500

# What ZeroMQ's own routing ids begin with, and no id that a peer chooses. With one of its own choice a peer could take
# the name of another that is gone, and go on with its stream.
_AUTOMATIC_ID: Final = b"\0"

# All explicit, and set before bind.
_OPTIONS: Final = {
    zmq.LINGER: 0,
    zmq.IPV6: 0,
    zmq.BACKLOG: 128,
    zmq.ROUTER_MANDATORY: 1,  # a peer that is gone is an error, not silence
    zmq.ROUTER_HANDOVER: 0,  # nobody takes over a routing id that is in use
    zmq.MAXMSGSIZE: WIRE_MESSAGE_SIZE_MAX_BYTES,  # a larger message ends its connection
    zmq.RCVHWM: 8,  # batches of one peer: 2 MiB cover a slow fdatasync; of larger messages ``hoards`` counts the bytes
    zmq.SNDHWM: 64,  # answers of some fifty bytes
    zmq.HANDSHAKE_IVL: 1_000 * HANDSHAKE_MAX_SECONDS,  # a connection that says nothing is closed
    zmq.TCP_KEEPALIVE: 1,  # a host that vanished is noticed within a minute
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


class Receiver:
    """Listens at ``endpoint`` (what was asked for, with the port that was given) and fills ``journal``.

    With ``keys``, a folder as ``keys create`` makes it, CurveZMQ is spoken, and only to those that are allowed there.
    Used by one thread. Raises StartupError when it cannot listen there, BadKey for keys that are open to others.
    """

    def __init__(
        self,
        journal: Journal,
        endpoint: str,
        *,
        streams_max: int,
        keys: Path | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if endpoint.startswith("ipc://"):
            _check_ipc(endpoint)
        self._clock = clock
        self._heard: zmq.Frame | None = None
        self._context = zmq.Context(io_threads=1)
        try:
            self._authenticator = Authenticator(self._context, keys) if keys else None
            self._socket = self._context.socket(zmq.ROUTER)
            for option, value in _OPTIONS.items():
                self._socket.setsockopt(option, value)
            if self._authenticator is not None:
                self._authenticator.secure(self._socket)
                self._authenticator.answer(clock())  # what is wrong with the list is said now
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
        guards = [self._authenticator.socket] if self._authenticator is not None else []
        for polled in (self._socket, *guards):
            self._poller.register(polled, zmq.POLLIN)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.reception = Dispatcher(journal, self._send, streams_max=streams_max)

    def __repr__(self) -> str:
        return f"<Receiver at {self.endpoint} {self.reception!r}>"

    @property
    def allowed(self) -> AllowList | None:
        """Whose keys may send; None where nobody needs one."""
        return self._authenticator.allowed if self._authenticator is not None else None

    def turn(self, timeout_seconds: float) -> None:
        """Handle what has come, and what is due; wait at most ``timeout_seconds`` for either."""
        wait_seconds = min(timeout_seconds, max(0.0, self.reception.due_at - self._clock()))
        polled = self._poller.poll(math.ceil(wait_seconds * 1000))
        if polled:
            now = self._clock()
            if self._authenticator is not None:
                self._authenticator.answer(now)
            for _ in range(_TURN_MESSAGES_MAX):
                now = self._clock()
                if not self._receive(now) or now >= self.reception.due_at:
                    break
        else:
            self.connections.drained()
        self.reception.tick(self._clock())

    def close(self) -> None:
        """Take no more, commit what was taken, send the last answers.

        Without an unbind, which would cut every connection before its last answer has left.
        """
        self.reception.commit(self._clock())
        self.connections.close()
        self._socket.close(linger=_CLOSE_LINGER_MS)
        if self._authenticator is not None:
            self._authenticator.close()
        self._context.term()

    def _receive(self, now: float) -> bool:
        """Take one message, if there is one. Its bytes are not copied on the way to the journal."""
        try:
            peer = self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self.connections.drained()
            return False
        frame, frames = self._socket.recv(copy=False), 1
        wire_bytes = self.connections.wire_size_bytes(len(frame))
        while self._socket.getsockopt(zmq.RCVMORE):  # they are here already; we keep none, there may be millions
            wire_bytes += self.connections.wire_size_bytes(len(self._socket.recv()))
            frames += 1
        self._heard = peer
        owner = self._authenticator.owner(peer) if self._authenticator is not None else ""
        if self._authenticator is not None and not owner:
            self.reception.refuse(peer.bytes, BadKey("its key is not allowed any more"), now, retry=True)
            cut(peer)
        elif not peer.bytes.startswith(_AUTOMATIC_ID):
            self.reception.refuse(peer.bytes, Malformed("a routing id of its own choice; ZeroMQ gives one"), now)
        elif frames != 1:
            self.reception.refuse(peer.bytes, Malformed(f"{frames} frames in a message; expected one"), now)
        elif not self.reception.handle(peer.bytes, frame.buffer, now, owner):
            self.connections.cut_over_credit(peer)
        self.connections.heard(peer, wire_bytes, streams=self.reception.knows(peer.bytes))
        return True

    def _send(self, peer: bytes, message: WireMessage) -> bool:
        if isinstance(message, Welcome) and self._heard is not None:
            self.connections.opened(self._heard)
        try:
            self._socket.send_multipart([peer, encode_wire(message)], zmq.NOBLOCK)
        except zmq.Again:
            return True  # it is there, and does not read
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            raise
        return True


def _check_ipc(endpoint: str) -> None:
    """Raise StartupError for a path that others can reach or take away, or where somebody listens.

    ZeroMQ would take the path away from them without a word.
    """
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        check_private_folder(path.parent)
    except BadKey as error:
        raise StartupError(f"--bind {endpoint}: {error}; or make one of your own: mkdir -m 700 DIR") from None
    except OSError as error:
        raise StartupError(
            f"--bind {endpoint}: {path.parent}: {error.strerror}; expected something like ipc://DIR/logger.sock, and"
            " DIR made by: mkdir -m 700 DIR"
        ) from None
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        raise StartupError(f"--bind {endpoint}: another logger listens there; stop that one or choose another path")


def _why_not(endpoint: str, error: zmq.ZMQError) -> str:
    """Say in one line what keeps us from listening, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            port = re.sub(r".*:", "", endpoint)
            return (
                f"--bind {endpoint}: the address is in use, by another logger perhaps; stop that one"
                f" (ss -ltnp 'sport = :{port}' names it) or choose another port (tcp://127.0.0.1:* takes a free one)"
            )
        case errno.EACCES:
            return f"--bind {endpoint}: not permitted; choose a port above 1023, or a path in a folder of yours"
        case _:
            return f"--bind {endpoint}: {error}; expected something like tcp://127.0.0.1:5555"
