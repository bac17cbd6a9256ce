"""The link to a helper, which shows a recording as event files; used by the sender thread, and never blocks it.

The helper is started beside the first writer and shared with others (see ``protocol.helper.place``). Nothing depends on
it but the event files: the records are in the outbox and in the recording. A helper that ends is started again, after a
pause that doubles.
"""

import logging
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, assert_never

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.helper.messages import (
    HelperMessage,
    MessageBuffer,
    Report,
    Shown,
    StatusRequest,
    Sync,
    Trouble,
    Watch,
    pack_message,
)
from tensorboard_sidecar.protocol.helper.place import LOG_NAME, SOCKET_NAME, helper_folder
from tensorboard_sidecar.protocol.stream import Stream

_RECEIVE_SIZE_BYTES: Final = 2**16
# A helper that was just started listens after its imports: half a second, some seconds on a busy machine.
_LOOK_SECONDS: Final = 0.02
_START_SECONDS: Final = 30.0
_PAUSE_MIN_SECONDS: Final = 0.5
_PAUSE_MAX_SECONDS: Final = 60.0
_LOG_MAX_BYTES: Final = 2**20
# The package is found where this process found it, behind all other places; the current folder is none (-P).
_PROGRAM: Final = (
    "import sys; sys.path.append({!r}); from tensorboard_sidecar.command_line import main; sys.exit(main(sys.argv[1:]))"
)
_OWN_VARIABLES: Final = "TENSORBOARD_SIDECAR_"
_log = logging.getLogger(__name__)


class HelperLink:
    """Has the recording of ``stream`` below ``folder`` shown in ``folder``; ``shown_sequence`` tells how far it is.

    Raises nothing: what is wrong is logged once, with the command that shows the recording later.
    """

    def __init__(self, folder: Path, stream: Stream) -> None:
        self.shown_sequence = 0
        self._folder, self._stream = folder, stream
        self._asked_sequence = 0
        self._starter = _Starter()
        self._socket: socket.socket | None = None
        self._buffer = MessageBuffer()
        self._connect_at_seconds = float("-inf")
        self._trouble = ""

    @property
    def hopeless(self) -> bool:
        """Whether there is no helper and none can be started."""
        return self._socket is None and self._starter.failed

    def ask(self, sequence: int) -> None:
        """Ask that the event files hold all records before ``sequence``, durably; ``shown_sequence`` will tell."""
        if sequence > self._asked_sequence:
            self._asked_sequence = sequence
            self._send(Sync(self._stream.id, sequence))

    def step(self, now_seconds: float) -> None:
        """Take the helper's answers; connect to a helper, or start one."""
        if self._socket is not None:
            self._receive()
            self._starter.reap()
        if self._socket is None and now_seconds >= self._connect_at_seconds:
            self._connect_at_seconds = now_seconds + _LOOK_SECONDS
            self._connect(now_seconds)

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for an answer; return False at once without a connection."""
        if self._socket is None:
            return False
        select.select([self._socket], [], [], seconds)
        return True

    def close(self) -> None:
        """Close the connection. The helper shows what is left."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._starter.close()

    def _connect(self, now_seconds: float) -> None:
        try:
            place = helper_folder()
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                found.connect(str(place / SOCKET_NAME))
            except OSError:
                found.close()
                self._starter.step(place, now_seconds)
                self._complain(self._starter.failure)
                return
        except OSError as error:
            self._starter.failed = True
            self._complain(str(error))
            return
        self._socket, self._buffer = found, MessageBuffer()
        self._starter.connected()
        self._send(Watch(bytes(self._folder)))
        if self._asked_sequence > self.shown_sequence:
            self._send(Sync(self._stream.id, self._asked_sequence))

    def _receive(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(_RECEIVE_SIZE_BYTES)
                if not data:
                    raise ConnectionResetError("the helper ended")
                for message in self._buffer.add(data):
                    self._take(message)
            except BlockingIOError:
                return
            except (OSError, Malformed):
                self._socket.close()
                self._socket = None

    def _take(self, message: HelperMessage) -> None:
        match message:
            case Shown(_, sequence):
                self.shown_sequence = max(self.shown_sequence, sequence)
            case Trouble(reason):
                self._complain(reason)
            case Watch() | Sync() | StatusRequest() | Report():
                raise Malformed(f"a helper does not send {type(message).__name__} to a writer")
            case _:
                assert_never(message)

    def _send(self, message: Watch | Sync) -> None:
        if self._socket is not None:
            data = pack_message(message)
            try:
                sent = self._socket.send(data, socket.MSG_NOSIGNAL)
            except OSError:
                sent = 0
            if sent < len(data):  # the messages are small: the helper is gone or hangs
                self._socket.close()
                self._socket = None

    def _complain(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self._trouble = trouble
            _log.warning(
                "event files in %s are not written: %s. Nothing is lost: the recording goes on, and this command shows"
                " it: tensorboard-sidecar replay %s",
                self._folder,
                trouble,
                self._folder,
            )


class _Starter:
    """Starts a helper, and starts the next one after a pause. ``failed``: none could be started."""

    def __init__(self) -> None:
        self.failed = False
        self.failure = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_seconds = float("-inf")
        self._give_up_at_seconds = float("inf")
        self._pause_seconds = _PAUSE_MIN_SECONDS

    def step(self, place: Path, now_seconds: float) -> None:
        """Start a helper if none is starting and the pause is over. Raises nothing."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            if code:
                self.failed, self.failure = True, f"the helper ended with code {code}; see {place / LOG_NAME}"
        if self._process is not None:
            if now_seconds >= self._give_up_at_seconds:
                self.failed = True
                self.failure = f"the helper does not answer within {_START_SECONDS:g} s; see {place / LOG_NAME}"
        elif now_seconds >= self._start_at_seconds:
            self._start_at_seconds = now_seconds + self._pause_seconds
            self._give_up_at_seconds = now_seconds + _START_SECONDS
            self._pause_seconds = min(2 * self._pause_seconds, _PAUSE_MAX_SECONDS)
            try:
                self._process = _start(place)
            except (OSError, ValueError) as error:
                self.failed, self.failure = True, f"a helper cannot be started: {error}"

    def connected(self) -> None:
        """Note that a helper answers."""
        self.failed, self.failure = False, ""
        self._pause_seconds, self._start_at_seconds = _PAUSE_MIN_SECONDS, float("-inf")

    def reap(self) -> None:
        """Reap the process that began a helper, once the helper listens."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None

    def close(self) -> None:
        """Leave a helper that is starting alone: it ends by itself."""
        self.reap()
        if self._process is not None:
            self._process.returncode = 0  # it outlives this object, whose destructor must not warn about that
            self._process = None


def _start(place: Path) -> "subprocess.Popen[bytes]":
    """Start a helper: by exec, in a session of its own. Raises OSError, ValueError."""
    if not sys.executable:
        raise FileNotFoundError("this Python does not know its own program, sys.executable")
    package_parent = Path(__file__).absolute().parent.parent.parent.parent
    command = [sys.executable, "-P", "-c", _PROGRAM.format(str(package_parent)), "helper", "--place", str(place)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)}
    # One thread: a helper shall not take the cores of the training, and memory for threads that idle.
    environment = own | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    log = place / LOG_NAME
    with suppress(OSError):
        if log.stat().st_size > _LOG_MAX_BYTES:
            log.unlink()
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as output:
        return subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
