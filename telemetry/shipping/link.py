"""The link to a logger: the check of its address, a DEALER socket with its session, and why a connection fails.

In the client, only this module uses zmq. ZeroMQ reports nothing about a connection that fails: it reconnects, or gives
up, silently. A monitor socket carries the connection events of the DEALER socket. After some of the failures ZeroMQ
does not reconnect by itself, and a new socket is needed.
"""

import errno
import itertools
import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import zmq

from tensorboard_sidecar.protocol.address import is_loopback
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CONTROL_MESSAGE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.outbox.orphan import pack_lost
from tensorboard_sidecar.protocol.outbox.send_session import SendSession, SendState
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.storage.key_files import BadKey, ClientKeys, check_private_folder, how_to_get_keys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Bye, Data, WireMessage, decode_wire, encode_wire, is_findings

_TCP: Final = re.compile(r"tcp://(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+):([0-9]{1,5})")
_IPC: Final = re.compile(r"ipc://[^\0]+")
HANDSHAKE_MAX_MS: Final = 4000  # less than the logger's 5 s: the logger closes silently
_BYE_LINGER_MS: Final = 200
_COMPLAINT_INTERVAL_SECONDS: Final = 60.0
_RELEASED: Final = "acknowledged before by a journal that this logger does not have"
_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_EVENT: Final = struct.Struct("=HI")  # event, value
# A logger that is stopping closes one connection; a logger that cannot decrypt the handshake closes all.
_HANG_UPS_MAX: Final = 3
_HUNG_UP: Final = {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}
_REFUSED: Final = "refuses this trainer's key: let it in there with tensorboard-sidecar keys allow NAME PUBLIC_KEY"
_ONE_SIDE: Final = "speaks with keys, and this trainer has none: give --server_key and --client_key"
_OTHER_SIDE: Final = "speaks without keys: give none here, or start it with serve --keys DIR"
_HANGS_UP: Final = "hangs up before it has said anything: there is no logger behind it"
_HANGS_UP_ON_KEYS: Final = _HANGS_UP + ", or --server_key is not its public key"
_STALLS: Final = "does not finish the handshake: it hangs, its authenticator is dead, or it is no logger"
_WRONG: Final = "is no logger: its handshake is wrong"
_numbers: Final = itertools.count()
_log = logging.getLogger(__name__)


def check_endpoint(endpoint: str, *, keys: bool = True) -> str:
    """Return ``endpoint`` if a trainer can use this ZeroMQ address; raise ValueError otherwise.

    Without ``keys``, only an address on this machine that other users cannot take over is valid. ZeroMQ itself accepts
    ports above 65,535, an empty host, and transports that do not cross processes.
    """
    if not isinstance(endpoint, str):
        raise ValueError(f"endpoint {endpoint!r}; expected text like tcp://127.0.0.1:5555")  # noqa: TRY004 - a setting
    tcp = _TCP.fullmatch(endpoint)
    if not (tcp and 1 <= int(tcp[2]) <= 65535) and not _IPC.fullmatch(endpoint):
        raise ValueError(
            f"endpoint {endpoint!r}; expected the logger's address, like tcp://127.0.0.1:5555 or ipc:///path/to/socket"
        )
    if tcp and not keys and not is_loopback(tcp[1].strip("[]")):
        raise ValueError(
            f"endpoint {endpoint!r} is not on this machine: others could read what is sent there, or answer in the"
            f" logger's name; a trainer needs keys for that. {how_to_get_keys()}"
        )
    if not (tcp or keys):
        _check_folder(endpoint)
    return endpoint


def _check_folder(endpoint: str) -> None:
    """Raise ValueError when another user could replace the logger's socket."""
    folder = Path(endpoint.removeprefix("ipc://")).parent
    try:
        check_private_folder(folder)
    except BadKey as error:
        raise ValueError(f"endpoint {endpoint!r}: {error}; or make one for the logger: mkdir -m 700 DIR") from None
    except OSError as error:
        raise ValueError(
            f"endpoint {endpoint!r}: {folder}: {error.strerror}; expected ipc://DIR/NAME, and DIR made by:"
            " mkdir -m 700 DIR"
        ) from None


class Handshakes:
    """Watches the connections of ``socket``, which is not connected yet. ``keys``: whether the socket has keys."""

    def __init__(self, context: "zmq.Context[zmq.SyncSocket]", socket: "zmq.SyncSocket", *, keys: bool) -> None:
        self._keys, self._hang_ups = keys, 0
        self._socket = socket
        endpoint = f"inproc://handshakes-{next(_numbers)}"
        socket.monitor(endpoint, _EVENTS)
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.setsockopt(zmq.RCVHWM, 0)  # with a limit, ZeroMQ's I/O thread would wait for this reader
        self._monitor.connect(endpoint)

    def failure(self) -> str:
        """Return the reason of a new failure, empty without a new failure.

        The caller closes the socket after a failure: ZeroMQ has given up, or would reconnect ten times a second.
        """
        found = ""
        while self._monitor.poll(0):
            event, value = _EVENT.unpack(self._monitor.recv_multipart()[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                found, self._hang_ups = "", 0
            else:
                found = self._why(event, value) or found
        return found

    def close(self) -> None:
        """Stop the monitor. Must be called before the socket is closed.

        ZeroMQ's I/O thread waits until its events are read. A disabled monitor has no events that nobody reads.
        """
        self._socket.disable_monitor()
        self._monitor.close()

    def _why(self, event: int, value: int) -> str:
        match event, value:
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400:  # the key is refused; 300 and 500: the authenticator failed
                return _REFUSED
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH, _:
                return _STALLS
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                return _OTHER_SIDE if self._keys else _ONE_SIDE
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, _:
                return _WRONG
            case _, number if number not in _HUNG_UP:
                return _STALLS
        self._hang_ups += 1
        if self._hang_ups < _HANG_UPS_MAX:
            return ""
        return _HANGS_UP_ON_KEYS if self._keys else _HANGS_UP


class Source(Protocol):
    """The records that a link ships: a live outbox or an orphan."""

    stream: Stream

    @property
    def first_sequence(self) -> int:
        """The sequence number of the oldest record."""

    @property
    def next_sequence(self) -> int:
        """The sequence number after the newest record."""

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records from ``sequence`` on, None at the end; raise LookupError for a released record."""


class LoggerLink:
    """Ships ``outbox`` to the logger at ``endpoint``, encrypted with ``keys``; used by one thread.

    A step sends at most ``batch_max_bytes``, or a single larger record. ``take_findings`` gets what the logger says is
    wrong with the run. Raises ValueError for an endpoint that is invalid, or that needs keys.
    """

    def __init__(
        self,
        outbox: Source,
        endpoint: str,
        keys: ClientKeys | None = None,
        batch_max_bytes: int = BATCH_SIZE_MAX_BYTES,
        *,
        take_findings: Callable[[list[Finding]], None] | None = None,
    ) -> None:
        self.session = SendSession(outbox.stream, outbox.next_sequence, take_findings)
        self.endpoint = check_endpoint(endpoint, keys=keys is not None)
        self._outbox, self._keys, self._batch_max_bytes = outbox, keys, batch_max_bytes
        self._handshakes: Handshakes | None = None
        self._complaint = ""
        self._complain_at_seconds = float("-inf")
        self._context = zmq.Context(io_threads=1)
        self._socket: zmq.SyncSocket | None = None
        try:
            self._open_socket()  # reports a wrong endpoint at start-up
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ValueError(
                f"cannot connect to {endpoint!r}: {error}; expected something like tcp://127.0.0.1:5555"
            ) from None

    @property
    def public_key(self) -> str:
        """The trainer's public key; empty without keys."""
        return zmq.curve_public(self._keys.client_secret.encode()).decode() if self._keys is not None else ""

    def step(self, now_seconds: float) -> bool:
        """Take the logger's answers, then send at most one batch; return whether a batch was sent."""
        session = self.session
        try:
            self._check_handshake(now_seconds)
            self._receive(now_seconds)
            if session.overdue(now_seconds):
                _log.info("no answer from %s; connecting again", self.endpoint)
                self._give_up(now_seconds)
            if session.may_open(now_seconds):
                self._open_socket()
            if session.starved(now_seconds):
                session.opened()
            if session.state is SendState.OPENING and self._try_send(session.hello(self._outbox.first_sequence)):
                session.greeted(now_seconds)
            return self._send_batch(now_seconds)
        except (ProtocolError, zmq.ZMQError) as error:
            self._complain(f"{error}; trying again", now_seconds)
            self._give_up(now_seconds)
            return False

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for an answer; return False at once when there is no socket."""
        if self._socket is None:
            return False
        self._socket.poll(round(seconds * 1000))
        return True

    def close(self) -> None:
        """Send BYE if the logger is connected, and close the socket."""
        if self.session.state is SendState.STREAMING:
            self._try_send(Bye())
        self._close_socket(linger_ms=_BYE_LINGER_MS)
        self._context.term()

    def _check_handshake(self, now_seconds: float) -> None:
        """Log a failed handshake, and connect again after a pause."""
        failure = self._handshakes.failure() if self._handshakes is not None else ""
        if failure:
            self.session.reason = failure
            self._complain(f"{failure}; what is recorded waits, and it is tried again", now_seconds)
            self._give_up(now_seconds)

    def _receive(self, now_seconds: float) -> None:
        session = self.session
        while self._socket is not None:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) != 1:
                raise Malformed(f"{len(frames)} frames in a message; expected one")
            try:
                message = decode_wire(frames[0])
            except ProtocolError as error:
                if not is_findings(frames[0]):
                    raise
                self._complain(f"tells findings that cannot be read; they are left out: {error}", now_seconds)
                continue
            session.receive(message, now_seconds)
            if session.state is SendState.PAUSED:
                self._complain(f"refuses run {session.stream.run} for now: {session.reason}", now_seconds)
                self._close_socket()
            elif session.state is SendState.REFUSED:
                _log.error("%s refuses run %s for good: %s", self.endpoint, session.stream.run, session.reason)
                self._close_socket()

    def _send_batch(self, now_seconds: float) -> bool:
        size_max = min(self.session.size_max_bytes, self._batch_max_bytes)
        batch = self._read(size_max) if size_max > 0 else None
        if batch is None or not self.session.may_send(len(batch.frames)) or not self._try_send(Data(batch.frames)):
            return False
        self.session.sent(batch, now_seconds)
        return True

    def _read(self, size_max_bytes: int) -> FrameBatch | None:
        sequence, first_sequence = self.session.next_sequence, self._outbox.first_sequence
        if sequence < first_sequence:
            return FrameBatch(memoryview(pack_lost(sequence, first_sequence, _RELEASED)), sequence, first_sequence)
        try:
            return self._outbox.read(sequence, size_max_bytes)
        except LookupError as error:
            raise Malformed(f"no record begins where the logger asks: {error}") from None

    def _give_up(self, now_seconds: float) -> None:
        self.session.lost(now_seconds)
        self._close_socket()

    def _complain(self, complaint: str, now_seconds: float) -> None:
        """Log a problem, the same problem at most once a minute: connections may fail ten times a second."""
        if now_seconds >= self._complain_at_seconds or complaint != self._complaint:
            self._complain_at_seconds, self._complaint = now_seconds + _COMPLAINT_INTERVAL_SECONDS, complaint
            _log.warning("%s %s", self.endpoint, complaint)

    def _try_send(self, message: WireMessage) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.send(encode_wire(message), zmq.NOBLOCK)
        except zmq.Again:  # not connected, or the send buffer is full
            return False
        return True

    def _open_socket(self) -> None:
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # queue no message without a connection
        socket.setsockopt(zmq.MAXMSGSIZE, CONTROL_MESSAGE_SIZE_MAX_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MAX_MS)
        if self._keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._keys.server_public.encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public_key.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.client_secret.encode())
        self._handshakes = Handshakes(self._context, socket, keys=self._keys is not None)
        socket.connect(self.endpoint)
        self.session.opened()

    def _close_socket(self, linger_ms: int = 0) -> None:
        if self._handshakes is not None:
            self._handshakes.close()
            self._handshakes = None
        if self._socket is not None:
            self._socket.close(linger=linger_ms)
            self._socket = None
