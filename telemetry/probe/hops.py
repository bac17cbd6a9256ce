"""The hops of a point from a trainer to TensorBoard, each tried: it works, or what to do.

A hop is a line. The hops up to the acknowledgement are told apart only when it does not come: the client says in its
log why a logger takes no records, and a connection without words says whether anybody listens at all.
"""

import logging
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.address import absolute_endpoint
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.storage.key_files import BadKey
from tensorboard_sidecar.telemetry.probe.tensorboard import NoTensorBoard, TensorBoard
from tensorboard_sidecar.telemetry.telemetry import Telemetry

TAG: Final = "doctor/probe"
_STEP: Final = 1
# Whole numbers that a float32, the form of a point in the event files, holds exactly.
_VALUES: Final = 2**24
_CONNECT_SECONDS: Final = 3.0
# A logger acknowledges within a second. The handshake of a logger that hangs is given up after four.
ACK_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.25
_OUTBOX_BYTES: Final = 2**20
# Event files of the probe's run hold a few hundred bytes.
_FILE_SIZE_MAX_BYTES: Final = 2**20
_EVENT_FILES: Final = "events.out.tfevents.*"
_TCP: Final = re.compile(r"tcp://\[?(?P<host>[^\]]+?)\]?:(?P<port>\d+)")
_AND_AGAIN: Final = re.compile(r"; (?:what is recorded waits, and it is tried again|trying again)$")
_HANGS_UP: Final = " hangs up "
_CLIENT_LOG: Final = "tensorboard_sidecar.telemetry"


class Hop(NamedTuple):
    """One hop: whether it works (None: not tried), and what is known or what to do."""

    name: str
    works: bool | None
    text: str = ""


class Settings(NamedTuple):
    """Where the point goes, and where it is looked for. ``seconds`` is how long it is looked for in a place."""

    endpoint: str
    tensorboard: str
    logdir: Path | None = None
    server_key: str | None = None
    client_key: str | None = None
    seconds: float = 60.0


class Probe:
    """A marked point in a run of its own. ``show`` takes a line about what is waited for."""

    def __init__(self, settings: Settings, show: Callable[[str], object]) -> None:
        if not 0 < settings.seconds < inf:
            raise ValueError(f"--seconds {settings.seconds:g}: expected a number above 0")
        self.run = f"doctor/{secrets.token_hex(4)}"
        self._value = float(1 + secrets.randbelow(_VALUES))
        self._settings, self._show = settings, show
        self._tensorboard = TensorBoard(settings.tensorboard)

    def hops(self) -> Iterator[Hop]:
        """Send the point, and yield each hop once it is known; a hop behind one that fails is not tried.

        Raises ValueError for an endpoint or keys that no trainer could use, OSError.
        """
        taken = False
        for hop in self._send():
            taken = bool(hop.works)
            yield hop
        logdir, file, shown = self._settings.logdir, Hop("event file", works=None), Hop("point shown", works=None)
        if taken:
            file = Hop("event file", works=None, text=_NO_LOGDIR) if logdir is None else self._look_into_file(logdir)
        board = self._look_for_tensorboard()
        if taken and board.works and file.works is not False:
            shown = self._look_into_tensorboard()
            if shown.works and logdir is None:
                file = Hop("event file", works=True, text="TensorBoard has read it")
        yield from (file, board, shown)

    def _send(self) -> Iterator[Hop]:
        """Send the point, and yield the hops up to the acknowledgement."""
        settings = self._settings
        self._show(f"{settings.endpoint}: waiting for the acknowledgement")
        began = monotonic()
        with TemporaryDirectory(prefix="tensorboard-sidecar-doctor-") as folder, _client_log() as heard:
            try:
                telemetry = Telemetry(
                    self.run,
                    endpoint=settings.endpoint,
                    outbox_dir=folder,  # deleted at the end: nobody delivers what did not arrive
                    outbox_bytes=_OUTBOX_BYTES,
                    spill_bytes=0,
                    server_key=settings.server_key,
                    client_key=settings.client_key,
                )
            except (ProtocolError, BadKey) as error:
                raise ValueError(str(error)) from error
            telemetry.scalars(_STEP, {TAG: self._value})
            telemetry.close(ACK_SECONDS)
            taken = telemetry.lag_seconds == 0.0
        if taken:
            yield Hop("logger", works=True, text=settings.endpoint)
            yield Hop("journal", works=True, text=f"acknowledged after {monotonic() - began:.1f} s")
            return
        reason = _why(heard, absolute_endpoint(settings.endpoint), keys=settings.client_key is not None)
        if not reason and (refused := _nobody_listens(settings.endpoint)):
            yield Hop("logger", works=False, text=refused)
            yield Hop("journal", works=None)
        elif reason and " refuses run " not in reason:
            yield Hop("logger", works=False, text=reason)
            yield Hop("journal", works=None)
        else:
            yield Hop("logger", works=True, text=settings.endpoint)
            yield Hop("journal", works=False, text=reason or _NO_ACK.format(seconds=ACK_SECONDS))

    def _look_into_file(self, logdir: Path) -> Hop:
        folder = logdir / self.run
        self._show(f"{folder}: waiting for the event file")
        if _wait(lambda: self._is_in_file(folder), self._settings.seconds):
            return Hop("event file", works=True, text=str(folder))
        return Hop("event file", works=False, text=_NO_EVENT.format(folder=folder))

    def _is_in_file(self, folder: Path) -> bool:
        """Tell whether an event file of the run has an event with the tag."""
        for path in folder.glob(_EVENT_FILES):
            with path.open("rb") as file:
                content = memoryview(file.read(_FILE_SIZE_MAX_BYTES))
            if any(isinstance(item, Frame) and TAG.encode() in bytes(item.payload) for item in read_frames(content)):
                return True
        return False

    def _look_for_tensorboard(self) -> Hop:
        try:
            text = f"{self._tensorboard.url} shows {self._tensorboard.data_location()}"
        except NoTensorBoard as error:
            return Hop("TensorBoard", works=False, text=f"{error}; say where it is: --tensorboard URL")
        except (OSError, HTTPException):
            return Hop("TensorBoard", works=False, text=_NO_ANSWER.format(url=self._tensorboard.url))
        return Hop("TensorBoard", works=True, text=text)

    def _look_into_tensorboard(self) -> Hop:
        board, seconds = self._tensorboard, self._settings.seconds
        self._show(f"{board.url}: waiting for the point (TensorBoard reloads every 5 s, or as --reload_interval says)")
        began = monotonic()
        problems: list[str] = []

        def is_shown() -> bool:
            try:
                return board.find_point(self.run, TAG, self._value)
            except (OSError, HTTPException, NoTensorBoard) as error:
                problems[:] = [f" (the last answer: {error})"]
                return False

        if _wait(is_shown, seconds):
            return Hop("point shown", works=True, text=f"after {monotonic() - began:.1f} s")
        return Hop("point shown", works=False, text=_NOT_SHOWN.format(seconds=seconds) + "".join(problems))


_NO_ACK: Final = (
    "no acknowledgement within {seconds:g} s: the logger hangs, or its disk does; its log and its page /healthz say"
    " more"
)
_NO_LOGDIR: Final = "not looked at: give the logger's --logdir DIR"
_NO_EVENT: Final = (
    "no point in {folder}: the logger writes to another --logdir, or its projection is behind; its log and its page"
    " /healthz say more"
)
_NO_ANSWER: Final = (
    "nothing answers at {url}: start it (tensorboard --logdir DIR), or say where it is: --tensorboard URL"
)
_NOT_SHOWN: Final = (
    "not within {seconds:g} s: start TensorBoard with the logger's --logdir, or wait longer if its --reload_interval is"
    " long (--seconds N)"
)


def _why(heard: Sequence[str], endpoint: str, *, keys: bool) -> str:
    """Return the client's reason for the missing acknowledgement, empty without one.

    A logger with keys hangs up on a client without; that keys are missing, the client learns only now and then.
    """
    reasons = [_AND_AGAIN.sub("", line) for line in heard if line.startswith(endpoint)]
    told = [reason for reason in reasons if _HANGS_UP not in reason]
    if told or not reasons:
        return told[-1] if told else ""
    return reasons[-1] if keys else f"{reasons[-1]}, or it speaks with keys: give --server_key and --client_key"


def _nobody_listens(endpoint: str) -> str:
    """Return why no connection is possible, empty if one is."""
    try:
        if tcp := _TCP.fullmatch(endpoint):
            socket.create_connection((tcp["host"], int(tcp["port"])), _CONNECT_SECONDS).close()
        else:
            path = os.fsencode(endpoint.removeprefix("ipc://"))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
                one.settimeout(_CONNECT_SECONDS)
                one.connect(b"\0" + path[1:] if path.startswith(b"@") else path)
    except (ConnectionRefusedError, FileNotFoundError):
        return f"nothing listens at {endpoint}: start a logger there: tensorboard-sidecar serve --bind {endpoint}"
    except OSError as error:
        return f"{endpoint} cannot be reached: {error}; look at the address, the network and the firewall"
    return ""


@contextmanager
def _client_log() -> Iterator[list[str]]:
    """Collect the lines that the client logs, instead of showing them."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, collector = logging.getLogger(_CLIENT_LOG), Collector(logging.WARNING)
    before, log.propagate = log.propagate, False
    log.addHandler(collector)
    try:
        yield lines
    finally:
        log.removeHandler(collector)
        log.propagate = before


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait at most ``seconds`` until ``condition`` is true; return whether it is. It is tried once at least."""
    until_seconds = monotonic() + seconds
    while not condition():
        if monotonic() >= until_seconds:
            return False
        sleep(_LOOK_SECONDS)
    return True
