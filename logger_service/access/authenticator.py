"""Who may connect: CurveZMQ on the logger's socket, with ZeroMQ's question answered from the allow-list.

ZeroMQ asks through ZAP (rfc.zeromq.org/spec/27) for every connection that has proven a key. The thread that receives
answers it, so that there is no other thread that could die unseen. It fails closed: no answer, no connection, and an
authenticator that is gone lets nobody in, because the domain is enforced.
"""

import logging
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.protocol.storage.key_files import (
    SECRET_SUFFIX,
    SERVER_NAME,
    check_private_folder,
    read_secret_key,
)

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_ZAP_VERSION: Final = b"1.0"
_DOMAIN: Final = b"tensorboard-sidecar"
_USER_ID: Final = "User-Id"
# Questions answered between two looks at the messages.
_TURN_QUESTIONS_MAX: Final = 16
_SAY_INTERVAL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class Authenticator:
    """Guards the sockets of ``context`` that it secures with the keys in ``keys``; ``now`` is a steady time in seconds.

    Used by one thread, and made before anything is bound. Raises StartupError when there is no server key, BadKey
    when others can read it.
    """

    def __init__(self, context: "zmq.Context[zmq.SyncSocket]", keys: Path) -> None:
        path = keys / (SERVER_NAME + SECRET_SUFFIX)
        if not path.exists():
            raise StartupError(f"--keys: no {path}; make it with: tensorboard-sidecar keys create {keys}")
        check_private_folder(keys)
        self._secret = read_secret_key(path)
        self.allowed = AllowList(keys)
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ZAP_ENDPOINT)
        self._said_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Authenticator {self.allowed!r}>"

    def secure(self, socket: "zmq.SyncSocket") -> None:
        """Let ``socket``, which is not bound yet, speak CurveZMQ and nothing else, to those on the list."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self, now: float) -> None:
        """Look at the list, and answer what ZeroMQ asks about those who connect."""
        self.allowed.refresh(now)
        for _ in range(_TURN_QUESTIONS_MAX):
            try:
                question = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._answer(question, now))

    def owner(self, frame: zmq.Frame) -> str:
        """Return whose key the sender of a message has; empty when it is not on the list any more."""
        return self.allowed.name_of(str(frame.get(_USER_ID))) or ""

    def close(self) -> None:
        """Answer no more: from now on nobody is let in."""
        self.socket.close()

    def _answer(self, question: list[bytes], now: float) -> list[bytes]:
        """Return version, request, status, text, user and metadata, as ZAP has them."""
        request = question[1] if len(question) > 1 else b""
        match question:
            case [version, _, domain, address, _, b"CURVE", key] if (version, domain, len(key)) == (
                _ZAP_VERSION,
                _DOMAIN,
                32,
            ):
                public_key = z85.encode(key)
                if self.allowed.name_of(public_key.decode()) is not None:
                    return [_ZAP_VERSION, request, b"200", b"", public_key, b""]
                self._say(public_key.decode(), address.decode("ascii", "replace"), now)
                return [_ZAP_VERSION, request, b"400", b"key not allowed", b"", b""]
        return [_ZAP_VERSION, request, b"500", b"expected a question about CURVE", b"", b""]

    def _say(self, public_key: str, address: str, now: float) -> None:
        if now - self._said_at >= _SAY_INTERVAL_SECONDS:
            self._said_at = now
            why = f" ({self.allowed.failure:.500})" if self.allowed.failure else ""
            _log.warning("a key that is not allowed, from %s: %s%s", address, public_key, why)


def make_key_pair() -> tuple[str, str]:
    """Return a new public and secret key; the public one begins with a letter or digit, for it may be an argument."""
    while True:
        public, secret = zmq.curve_keypair()
        if public[:1].isalnum():
            return public.decode(), secret.decode()
