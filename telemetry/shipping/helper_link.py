"""The link to a helper, which shows a recording as event files; used by the sender thread, and never blocks it.

The helper is started beside the first writer and shared with others (see ``protocol.helper.place``). Nothing depends on
it but the event files: the records are in the outbox and in the recording. A helper that ends is started again, after a
pause that doubles, unless it ran well for a while: the pause then begins anew.
"""

import logging
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, assert_never

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.helper.messages import (
    Findings,
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
from tensorboard_sidecar.protocol.helper.place import LOG_NAME, SOCKET_NAME, helper_folder, write_note
from tensorboard_sidecar.protocol.outbox.forks import call_in_children
from tensorboard_sidecar.protocol.outbox.outbox_files import OUTBOX_VARIABLE
from tensorboard_sidecar.protocol.stream import Stream

_RECEIVE_SIZE_BYTES: Final = 2**16
# A helper that was just started listens after its imports: half a second, some seconds on a busy machine.
_LOOK_SECONDS: Final = 0.02
# While no helper can be started, the link looks this often for a helper that another program has started.
_LOOK_FAILED_SECONDS: Final = 1.0
_START_SECONDS: Final = 30.0
# A helper that ran for this long is started again at once.
_STEADY_SECONDS: Final = 5.0
_PAUSE_MIN_SECONDS: Final = 0.5
_PAUSE_MAX_SECONDS: Final = 60.0
_LOG_MAX_BYTES: Final = 2**20
# The helper is the package of this process, and finds all other modules as a new Python does; behind all other places,
# it looks where this process looks. The current folder is none of these (-P).
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, {parent!r}); import tensorboard_sidecar; del sys.path[0];"
    " sys.path += [path for path in {paths!r} if path not in sys.path];"
    " from tensorboard_sidecar.command_line import main; sys.exit(main(sys.argv[1:]))"
)
_TROUBLE: Final = (
    "event files in %s are not written: %s. Nothing is lost: the recording goes on, and this command shows it:"
    " tensorboard-sidecar replay %s"
)
_GONE: Final = (
    "event files in %s are not written: %s. The recording is in that folder: where the folder lies now, this command"
    " shows it: tensorboard-sidecar replay FOLDER (was %s)"
)
_OWN_VARIABLES: Final = "TENSORBOARD_SIDECAR_"
_log = logging.getLogger(__name__)


class HelperLink:
    """Has the recording of ``stream`` below ``folder`` shown in ``folder``; ``shown_sequence`` tells how far it is.

    ``take_findings`` gets what the helper says is wrong with the run. ``asked_sequence`` is the highest sequence number
    that :meth:`ask` was called with. Raises nothing: what is wrong with the helper is logged once, with the command
    that shows the recording later.
    """

    def __init__(
        self, folder: Path, stream: Stream, take_findings: Callable[[list[Finding]], None] = lambda _: None
    ) -> None:
        self.asked_sequence = self.shown_sequence = 0
        self._folder, self._stream, self._take_findings = _Folder(folder), stream, take_findings
        self._starter = _Starter()
        self._socket: socket.socket | None = None
        self._buffer = MessageBuffer()
        self._connect_at_seconds = float("-inf")
        # With a copy of the socket in a forked child, a helper would not learn that this process was killed.
        call_in_children(self.forget_socket)

    @property
    def hopeless(self) -> bool:
        """Whether there is no helper and none can be started."""
        return self._socket is None and self._starter.failed

    def ask(self, sequence: int) -> None:
        """Ask that the event files hold all records before ``sequence``, durably; ``shown_sequence`` will tell."""
        if sequence > self.asked_sequence:
            self.asked_sequence = sequence
            self._send(Sync(self._stream.id, sequence))

    def step(self, now_seconds: float) -> None:
        """Take the helper's answers; connect to a helper, or start one."""
        if self._socket is not None:
            self._receive()
            self._starter.steady(now_seconds)
        if self._socket is None and now_seconds >= self._connect_at_seconds:
            self._connect(now_seconds)
            self._connect_at_seconds = now_seconds + (_LOOK_FAILED_SECONDS if self._starter.failed else _LOOK_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for an answer; return False at once without a connection."""
        if self._socket is None:
            return False
        answers = select.poll()  # not select.select, which takes no file number above 1,023
        answers.register(self._socket, select.POLLIN)
        answers.poll(1000 * seconds)
        return True

    def close(self) -> None:
        """Close the connection. The helper shows what is left."""
        if self._socket is not None:
            with suppress(OSError):  # the end comes also where a forked child has a copy of the socket
                self._socket.shutdown(socket.SHUT_RDWR)
        self.forget_socket()
        self._starter.close()

    def forget_socket(self) -> None:
        """Close this process's copy of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, now_seconds: float) -> None:
        try:
            place = helper_folder()
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                found.connect(str(place / SOCKET_NAME))
            except OSError:
                found.close()
                self._folder.note(place)
                self._starter.step(place, now_seconds)
                self._folder.complain(self._starter.failure)
                return
        except OSError as error:
            self._starter.failed = True
            self._folder.complain(str(error))
            return
        self._socket, self._buffer = found, MessageBuffer()
        self._starter.connected(now_seconds)
        self._send(Watch(bytes(self._folder.path), self._stream.id))
        if self.asked_sequence > self.shown_sequence:
            self._send(Sync(self._stream.id, self.asked_sequence))

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
                self.forget_socket()

    def _take(self, message: HelperMessage) -> None:
        match message:
            case Shown(_, sequence):
                self.shown_sequence = max(self.shown_sequence, sequence)
            case Trouble(reason):
                self._folder.complain(reason)
            case Findings(findings):
                self._take_findings(findings)
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
                self.forget_socket()


class _Folder:
    """The folder at ``path`` that a helper shows: noted for the next helper, and named in complaints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trouble = ""
        self._noted_in: Path | None = None

    def note(self, place: Path) -> None:
        """Note the folder for a helper that listens after the end of this process."""
        if place != self._noted_in:
            self._noted_in = place
            with suppress(OSError):
                write_note(place, Path(os.path.realpath(self.path)))

    def complain(self, trouble: str) -> None:
        """Log why the folder is not shown; the same reason once."""
        if trouble and trouble != self._trouble:
            self._trouble = trouble
            text = _TROUBLE if self.path.is_dir() else _GONE
            _log.warning(text, self.path, trouble, self.path)


class _Starter:
    """Starts a helper, and starts the next one after a pause. ``failed``: none could be started."""

    def __init__(self) -> None:
        self.failed = False
        self.failure = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_seconds = float("-inf")
        self._give_up_at_seconds = float("inf")
        self._pause_seconds = _PAUSE_MIN_SECONDS
        self._connected_at_seconds: float | None = None

    def step(self, place: Path, now_seconds: float) -> None:
        """Start a helper if none is starting and the pause is over. Raises nothing."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            if code > 0:  # below 0: a signal; the next one may live
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
            except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the interpreter ends
                self.failed, self.failure = True, f"a helper cannot be started: {error}"

    def connected(self, now_seconds: float) -> None:
        """Note that a helper answers."""
        self.failed, self.failure = False, ""
        self._connected_at_seconds = now_seconds

    def steady(self, now_seconds: float) -> None:
        """Note that the helper still runs: after a while, the next helper is started without a pause."""
        if self._connected_at_seconds is not None and now_seconds - self._connected_at_seconds >= _STEADY_SECONDS:
            self._connected_at_seconds = None
            self._pause_seconds, self._start_at_seconds = _PAUSE_MIN_SECONDS, float("-inf")
        self._reap()

    def close(self) -> None:
        """Leave a helper that is starting alone: it ends by itself."""
        self._reap()
        if self._process is not None:
            self._process.returncode = 0  # it outlives this object, whose destructor must not warn about that
            self._process = None

    def _reap(self) -> None:
        """Reap the process that began a helper, once the helper listens."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None


def _start(place: Path) -> "subprocess.Popen[bytes]":
    """Start a helper: by exec, in a session of its own. Raises OSError, ValueError."""
    if not sys.executable:
        raise FileNotFoundError("this Python does not know its own program, sys.executable")
    parent = str(Path(__file__).absolute().parent.parent.parent.parent)
    program = _PROGRAM.format(parent=parent, paths=[path for path in (parent, *sys.path) if path.startswith("/")])
    command = [sys.executable, "-P", "-W", "ignore", "-c", program, "helper", "--place", str(place)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)}
    if given := os.environ.get(OUTBOX_VARIABLE):
        own[OUTBOX_VARIABLE] = os.path.abspath(given)  # noqa: PTH100 - as telemetry.opening.absolute
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
