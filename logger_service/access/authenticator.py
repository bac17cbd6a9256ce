"""Authentication: CurveZMQ on the logger's socket, with ZeroMQ's requests answered from the list of allowed keys.

ZeroMQ sends a ZAP request (rfc.zeromq.org/spec/27) for every connection that has proven a key. The receiving thread
answers the requests: a second thread could die unseen. Authentication fails closed: without an answer there is no
connection, and without an authenticator too, because the ZAP domain is enforced.
"""

import logging
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.protocol.storage import key_files

_ZAP_VERSION: Final = b"1.0"
_DOMAIN: Final = b"tensorboard-sidecar"
_CURVE_REQUEST: Final = (_ZAP_VERSION, _DOMAIN, 32)  # a public key has 32 bytes
# Requests answered in one turn, before messages are handled.
_TURN_REQUESTS_MAX: Final = 16
_LOG_INTERVAL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class Authenticator:
    """Answers ZAP requests in ``context`` from the folder ``keys``, and secures server sockets with the server's key.

    Used by one thread, and made before any socket is bound. ``now_seconds`` is a monotonic time. Raises StartupError
    when there is no server key, BadKey when other users can read the key.
    """

    def __init__(self, context: "zmq.Context[zmq.SyncSocket]", keys: Path) -> None:
        path = keys / (key_files.SERVER_NAME + key_files.SECRET_SUFFIX)
        if not path.exists():
            raise StartupError(f"--keys: no {path}; make the key with: tensorboard-sidecar keys create {keys}")
        key_files.check_private_folder(keys)
        self._secret = key_files.read_secret_key(path)
        self.allowed = AllowList(keys)
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")
        self._logged_at = float("-inf")

    def secure(self, socket: "zmq.SyncSocket") -> None:
        """Make ``socket``, which is not bound yet, accept CurveZMQ with an allowed key and nothing else."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self, now_seconds: float) -> None:
        """Read the list if that is due, and answer the ZAP requests that wait."""
        self.allowed.refresh(now_seconds)
        for _ in range(_TURN_REQUESTS_MAX):
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._answer(request, now_seconds))

    def owner(self, frame: zmq.Frame) -> str:
        """Return the name of the key of a message's sender; empty when the key is not allowed any more."""
        return self.allowed.name_of(str(frame.get("User-Id"))) or ""

    def close(self) -> None:
        """Stop answering: no new connection is accepted from now on."""
        self.socket.close()

    def _answer(self, request: list[bytes], now_seconds: float) -> list[bytes]:
        """Return the ZAP reply: version, request id, status, text, user id, metadata."""
        request_id = request[1] if len(request) > 1 else b""
        match request:
            case [version, _, domain, address, _, b"CURVE", key] if (version, domain, len(key)) == _CURVE_REQUEST:
                public_key = z85.encode(key)
                if self.allowed.name_of(public_key.decode()) is not None:
                    return [_ZAP_VERSION, request_id, b"200", b"", public_key, b""]
                self._log_refusal(public_key.decode(), address.decode("ascii", "replace"), now_seconds)
                return [_ZAP_VERSION, request_id, b"400", b"key not allowed", b"", b""]
        return [_ZAP_VERSION, request_id, b"500", b"expected a request for CURVE", b"", b""]

    def _log_refusal(self, public_key: str, address: str, now_seconds: float) -> None:
        """Log a key that is not allowed, at most once a second."""
        if now_seconds - self._logged_at >= _LOG_INTERVAL_SECONDS:
            self._logged_at = now_seconds
            reason = f" ({self.allowed.failure:.500})" if self.allowed.failure else ""
            _log.warning("a key that is not allowed, from %s: %s%s", address, public_key, reason)


def make_key_pair() -> tuple[str, str]:
    """Return a new public key and its secret key, as Z85 text.

    The public key begins with a letter or a digit, so that a command line does not read the key as an option.
    """
    while True:
        public, secret = zmq.curve_keypair()
        if public[:1].isalnum():
            return public.decode(), secret.decode()
