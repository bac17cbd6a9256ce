"""The link to a logger: a DEALER socket and the session spoken over it.

The trainer imports zmq here, and in ``handshake``, which tells why no connection comes about.
"""

import logging
from typing import Final, Protocol

import zmq

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CONTROL_MESSAGE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.outbox.orphan import pack_lost
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Bye, Data, WireMessage, decode_wire, encode_wire
from tensorboard_sidecar.telemetry.shipping.endpoint import check_endpoint
from tensorboard_sidecar.telemetry.shipping.handshake import Handshakes
from tensorboard_sidecar.telemetry.shipping.send_session import SendSession, State

_BYE_LINGER_MS: Final = 200
_COMPLAINT_INTERVAL_SECONDS: Final = 60.0
_RELEASED: Final = "acknowledged before by a journal that this logger does not have"
_logger = logging.getLogger(__name__)


class Source(Protocol):
    """What a link ships: a live outbox, or an orphaned one."""

    stream: Stream

    @property
    def first_sequence(self) -> int:
        """The first sequence number that is held."""

    @property
    def next_sequence(self) -> int:
        """The number behind the last."""

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records from ``sequence`` on, None when there is none; raise LookupError when it was released."""


class LoggerLink:
    """Ships ``outbox`` to the logger at ``endpoint``, encrypted when there are ``keys``; used by one thread.

    Raises ValueError for an endpoint that cannot be, or may not be without keys.
    """

    def __init__(self, outbox: Source, endpoint: str, keys: ClientKeys | None = None) -> None:
        self.session = SendSession(outbox.stream, outbox.next_sequence)
        self.endpoint = check_endpoint(endpoint, keys=keys is not None)
        self._outbox, self._keys = outbox, keys
        self._handshakes: Handshakes | None = None
        self._complaint = ""
        self._complain_at = float("-inf")
        self._context = zmq.Context(io_threads=1)
        self._socket: zmq.SyncSocket | None = None
        try:
            self._open_socket()  # now, so that a wrong endpoint is said at start-up
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ValueError(
                f"cannot connect to {endpoint!r}: {error}; expected something like tcp://127.0.0.1:5555"
            ) from None

    def __repr__(self) -> str:
        return f"<LoggerLink {self.endpoint} {self.session!r}>"

    @property
    def public_key(self) -> str:
        """The public key by which the logger knows this trainer; empty without keys."""
        return zmq.curve_public(self._keys.client_secret.encode()).decode() if self._keys is not None else ""

    def step(self, now: float) -> bool:
        """Take the answers that came and send what may be sent; tell whether data were sent."""
        session = self.session
        try:
            self._look(now)
            self._receive(now)
            if session.overdue(now):
                _logger.info("no answer from %s; connecting again", self.endpoint)
                self._give_up(now)
            if session.may_open(now):
                self._open_socket()
            if session.starved(now):
                session.opened()
            if session.state is State.OPENING and self._try_send(session.hello(self._outbox.first_sequence)):
                session.greeted(now)
            return self._send_run(now)
        except (ProtocolError, zmq.ZMQError) as error:
            self._complain(f"{error}; trying again", now)
            self._give_up(now)
            return False

    def wait(self, seconds: float) -> bool:
        """Wait for an answer, at most ``seconds``; return at once, with False, when there is no socket to wait on."""
        if self._socket is None:
            return False
        self._socket.poll(round(seconds * 1000))
        return True

    def close(self) -> None:
        """Say BYE when that is possible, and let go of the socket."""
        if self.session.state is State.STREAMING:
            self._try_send(Bye())
        self._close_socket(linger_ms=_BYE_LINGER_MS)
        self._context.term()

    def _look(self, now: float) -> None:
        """Say why no connection comes about, and begin again after a pause."""
        failure = self._handshakes.failure() if self._handshakes is not None else ""
        if failure:
            self.session.reason = failure
            self._complain(f"{failure}; what is recorded waits, and it is tried again", now)
            self._give_up(now)

    def _receive(self, now: float) -> None:
        session = self.session
        while self._socket is not None:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) != 1:
                raise Malformed(f"{len(frames)} frames in a message; expected one")
            session.receive(decode_wire(frames[0]), now)
            if session.state is State.PAUSED:
                self._complain(f"refuses run {session.stream.run} for now: {session.reason}", now)
                self._close_socket()
            elif session.state is State.REFUSED:
                _logger.error("%s refuses run %s for good: %s", self.endpoint, session.stream.run, session.reason)
                self._close_socket()

    def _send_run(self, now: float) -> bool:
        size_max = min(self.session.size_max_bytes, BATCH_SIZE_MAX_BYTES)
        run = self._read(size_max) if size_max > 0 else None
        if run is None or not self.session.may_send(len(run.frames)) or not self._try_send(Data(run.frames)):
            return False
        self.session.sent(run, now)
        return True

    def _read(self, size_max_bytes: int) -> FrameBatch | None:
        sequence, first_sequence = self.session.next_sequence, self._outbox.first_sequence
        if sequence < first_sequence:
            return FrameBatch(memoryview(pack_lost(sequence, first_sequence, _RELEASED)), sequence, first_sequence)
        try:
            return self._outbox.read(sequence, size_max_bytes)
        except LookupError as error:
            raise Malformed(f"no record begins where the logger asks: {error}") from None

    def _give_up(self, now: float) -> None:
        self.session.lost(now)
        self._close_socket()

    def _complain(self, complaint: str, now: float) -> None:
        """Say what is wrong with the logger, the same once a minute at most: it may be tried ten times a second."""
        if now >= self._complain_at or complaint != self._complaint:
            self._complain_at, self._complaint = now + _COMPLAINT_INTERVAL_SECONDS, complaint
            _logger.warning("%s %s", self.endpoint, complaint)

    def _try_send(self, message: WireMessage) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.send(encode_wire(message), zmq.NOBLOCK)
        except zmq.Again:  # not connected, or its buffer is full
            return False
        return True

    def _open_socket(self) -> None:
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # queue nothing for a peer that is not there
        socket.setsockopt(zmq.MAXMSGSIZE, CONTROL_MESSAGE_SIZE_MAX_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 4000)  # before a logger's 5 s are over, which would hang up without a word
        if self._keys is not None:
            secret = self._keys.client_secret.encode()
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._keys.server_public.encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public_key.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
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
