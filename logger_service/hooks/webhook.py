"""The hook ``--on_finding_url URL``: a finding is sent to a web address as JSON, by POST.

Only the named host is asked: no proxy of the environment, and no redirect. The log has the host alone, because the path
of such an address is often a secret.
"""

import http.client
import re
import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from socket import SHUT_RDWR
from typing import Final, Self
from urllib.parse import urlsplit

from tensorboard_sidecar.logger_service import limits
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.hooks.hook import HookError

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "tensorboard-sidecar", "Connection": "close"}
_PRINTABLE: Final = re.compile(r"[!-~]+")
# A later call may succeed: time-outs, too many requests.
_RETRIED: Final = (408, 425, 429)
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address to POST to: ``secure`` for https; ``host`` and ``port``; ``path`` with the query."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address of an http or https URL; raise StartupError for any other text.

        >>> WebAddress.parse("https://example.org/hooks/1?key=2")
        WebAddress(secure=True, host='example.org', port=443, path='/hooks/1?key=2')
        """
        wrong = StartupError("--on_finding_url: expected an address like https://example.org/hooks/1")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not _PRINTABLE.fullmatch(url):
            raise wrong
        if parts.username is not None or parts.password is not None:
            raise StartupError("--on_finding_url: expected an address without a user and a password")
        secure = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(secure, parts.hostname, port or (443 if secure else 80), path)

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"


class WebHook:
    """Sends findings to ``address``, within ``limit_seconds`` from the connection to the answer."""

    def __init__(self, address: WebAddress, limit_seconds: float = limits.HOOK_CALL_MAX_SECONDS) -> None:
        self._address, self._limit_seconds = address, limit_seconds
        self._context = ssl.create_default_context() if address.secure else None

    def __call__(self, body: bytes, stopped: threading.Event) -> None:
        """Deliver a finding. Raises HookError for any answer but 2xx; a later call may succeed after 5xx or silence."""
        address = self._address
        if self._context is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address.host, address.port, timeout=self._limit_seconds, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=self._limit_seconds)
        with closing(connection), _CutOff(connection, self._limit_seconds, stopped) as cut_off:
            try:
                connection.request("POST", address.path, body, _HEADERS)
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException, ValueError) as error:
                late = cut_off.is_done or isinstance(error, TimeoutError)
                reason = "no answer in time" if late else _why(error)
                raise HookError(f"{address}: {reason}", retry=True) from None
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise HookError(f"{address}: answer {status}: it sends the finding elsewhere, which is not followed")
        raise HookError(f"{address}: answer {status}", retry=status >= 500 or status in _RETRIED)


class _CutOff(threading.Thread):
    """Ends a connection after ``seconds``, or when ``stopped`` is set: a time-out of sockets counts from each byte."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float, stopped: threading.Event) -> None:
        super().__init__(name="hook-cut-off", daemon=True)
        self.is_done = False
        self._connection, self._seconds, self._stopped = connection, seconds, stopped
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Wait for the end of the call."""
        waited_seconds = 0.0
        while not self._over.wait(_LOOK_SECONDS):
            waited_seconds += _LOOK_SECONDS
            if waited_seconds >= self._seconds or self._stopped.is_set():
                self.is_done = True
                if (socket := self._connection.sock) is not None:
                    with suppress(OSError):
                        socket.shutdown(SHUT_RDWR)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
