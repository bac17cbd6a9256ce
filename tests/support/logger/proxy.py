"""A TCP proxy between two programs that simulates a bad network."""

import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, Self

_CHUNK_BYTES: Final = 65536
_TICK_SECONDS: Final = 0.02
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


@dataclass(frozen=True)
class Weather:
    """The behaviour of the simulated network; ``up`` is towards the server.

    With ``lose_up`` or ``lose_down``, bytes and the close of the connection are dropped silently. ``reset_seconds`` is
    a range of ages: each connection is reset at a random age in that range.
    """

    lose_up: bool = False
    lose_down: bool = False
    delay_seconds: float = 0.0
    bytes_per_second: float = float("inf")
    slice_bytes: int = _CHUNK_BYTES
    reset_seconds: tuple[float, float] | None = None


FAIR: Final = Weather()
BLACK_HOLE: Final = Weather(lose_up=True, lose_down=True)
ANSWERS_LOST: Final = Weather(lose_down=True)
TRICKLE: Final = Weather(delay_seconds=0.2, bytes_per_second=50_000, slice_bytes=1)
RESETS: Final = Weather(reset_seconds=(0.05, 0.5))


class Proxy:
    """Listens on a free port and forwards each connection to ``port``; ``weather`` may change at any time.

    A connection that lost bytes loses all later bytes, as with TCP, which delivers no bytes behind a gap.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self.weather = FAIR
        self.accepted = self.hung_up = self.resets = self.lost_bytes = 0
        """Counts of accepted connections, of those closed by the client, of those reset, and of lost bytes."""
        self.chance, self.closing = chance, threading.Event()
        self._target = ("127.0.0.1", port)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_TICK_SECONDS)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        for thread in self._threads:
            thread.join()
        for one in [self._listener, *self._sockets]:
            one.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            server = socket.socket()
            self._sockets += [client, server]
            if server.connect_ex(self._target):
                client.close()  # no server listens: the client sees the close
                continue
            connection = _Connection(self, client, server)
            self._start(connection.carry_up)
            self._start(connection.carry_down)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="proxy")
        self._threads.append(thread)
        thread.start()


class _Connection:
    """A pair of sockets, with a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._born_at, self._luck = monotonic(), proxy.chance.random()
        self._over = threading.Event()
        for one in (client, server):
            one.settimeout(_TICK_SECONDS)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def carry_up(self) -> None:
        """Forward from the client to the server."""
        self._carry(self._client, self._server, lambda weather: weather.lose_up)

    def carry_down(self) -> None:
        """Forward from the server to the client."""
        self._carry(self._server, self._client, lambda weather: weather.lose_down)

    def _carry(self, source: socket.socket, sink: socket.socket, loses: Callable[[Weather], bool]) -> None:
        lost = False
        with suppress(OSError):  # the other way ended the connection
            while self._goes_on():
                try:
                    data = source.recv(_CHUNK_BYTES)
                except TimeoutError:
                    continue
                except ConnectionResetError:
                    data = b""
                self._proxy.hung_up += source is self._client and not data
                lost = lost or loses(self._proxy.weather)
                if lost:
                    self._proxy.lost_bytes += len(data)
                    if not data:
                        return  # the other side sees no close
                elif data:
                    self._deliver(sink, data, self._proxy.weather)
                else:
                    self._end()

    def _deliver(self, sink: socket.socket, data: bytes, weather: Weather) -> None:
        self._proxy.closing.wait(weather.delay_seconds)
        tick_bytes = max(weather.slice_bytes, int(min(len(data), weather.bytes_per_second * _TICK_SECONDS)))
        for start in range(0, len(data), tick_bytes):
            for at in range(start, min(start + tick_bytes, len(data)), weather.slice_bytes):
                self._send(sink, data[at : min(at + weather.slice_bytes, start + tick_bytes)])
            if not self._goes_on():
                return
            if weather.bytes_per_second < float("inf"):
                self._proxy.closing.wait(tick_bytes / weather.bytes_per_second)

    def _send(self, sink: socket.socket, data: bytes) -> None:
        """Send all data, however slowly the other side reads."""
        view = memoryview(data)
        while view and self._goes_on():
            with suppress(TimeoutError):
                view = view[sink.send(view) :]

    def _goes_on(self) -> bool:
        limits = self._proxy.weather.reset_seconds
        if limits is not None and monotonic() - self._born_at > limits[0] + self._luck * (limits[1] - limits[0]):
            self._reset()
        return not (self._over.is_set() or self._proxy.closing.is_set())

    def _reset(self) -> None:
        for one in (self._client, self._server):
            with suppress(OSError):  # closed already
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._proxy.resets += not self._over.is_set()
        self._end()

    def _end(self) -> None:
        self._over.set()
        for one in (self._client, self._server):
            one.close()
