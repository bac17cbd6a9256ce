"""The socket of a helper: accepts clients of the same user, and takes and sends their messages; never blocks."""

import logging
import os
import selectors
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.helper.messages import HelperMessage, MessageBuffer, pack_message

_RECEIVE_SIZE_BYTES: Final = 2**16
_BACKLOG: Final = 128
_PEER: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_log = logging.getLogger(__name__)


class Server:
    """Listens at ``path``, whose folder is private and locked by the caller. A client has the number of its socket.

    Raises OSError when the address cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)  # of a helper that was killed
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._clients: dict[int, tuple[socket.socket, MessageBuffer]] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def receive(self, seconds: float) -> Iterator[tuple[int, HelperMessage | None]]:
        """Wait at most ``seconds``; yield the messages that came with the numbers of their clients; None: gone."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listener:
                self._accept()
            else:
                yield from self._read(key.fd)

    def send(self, client: int, message: HelperMessage) -> None:
        """Send a message. A client that does not read is cut off: it connects again."""
        found = self._clients.get(client)
        if found is not None:
            data = pack_message(message)
            try:
                sent = found[0].send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                sent = 0
            if sent < len(data):
                with suppress(OSError):  # the next read reports the end
                    found[0].shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, then close all connections."""
        self._path.unlink(missing_ok=True)
        self._listener.close()
        for connection, _ in self._clients.values():
            connection.close()
        self._clients.clear()
        self._selector.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # no file is free, or the client is gone
            _log.warning("a client was not accepted: %s", error)
            return
        _, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if user not in (os.getuid(), 0):
            connection.close()
            return
        connection.setblocking(False)
        self._clients[connection.fileno()] = connection, MessageBuffer()
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, client: int) -> Iterator[tuple[int, HelperMessage | None]]:
        connection, buffer = self._clients[client]
        try:
            data = connection.recv(_RECEIVE_SIZE_BYTES)
            for message in buffer.add(data):
                yield client, message
        except BlockingIOError:
            return
        except (OSError, Malformed) as error:
            _log.warning("a client is cut off: %s", error)
            data = b""
        if not data:
            self._selector.unregister(connection)
            del self._clients[client]
            connection.close()
            yield client, None
