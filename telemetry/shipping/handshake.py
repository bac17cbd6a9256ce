"""Reports why a connection to the logger fails. ZeroMQ reports nothing: it reconnects, or gives up, silently.

A monitor socket carries the connection events of a ZeroMQ socket. After some of the failures ZeroMQ does not reconnect
by itself, and a new socket is needed.
"""

import errno
import itertools
import struct
from typing import Final

import zmq

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
