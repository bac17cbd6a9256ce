"""``serve``: start-up, main loop, shutdown.

The parent receives and journals; a child projects. They share nothing but files, so that neither can take the other
down: a child that fails is started again, a parent that is killed takes the child with it and has lost nothing that
was acknowledged.
"""

import logging
import os
import resource
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic, time_ns
from types import FrameType
from typing import Final

from logger_service.config import ServeConfig, StartupError
from logger_service.folder_lock import LOGGER_LOCK_NAME, folder_lock
from logger_service.journal import OPEN_FILES_MAX, Journal
from logger_service.projection_process import ProjectionProcess
from logger_service.receiver import Receiver

# How often the main loop looks for signals and at the child, when nothing comes.
_TURN_SECONDS: Final = 0.2

_log = logging.getLogger(__name__)


class Service:
    """A logger. ``ready`` is called with the endpoint, once, when trainers can connect."""

    def __init__(self, config: ServeConfig, ready: Callable[[str], None]) -> None:
        self._config, self._ready = config, ready
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises StartupError when it cannot begin."""
        with ExitStack() as stack:
            receiver, projection = self._startup(stack)
            self._main_loop(receiver, projection)
            self._shutdown(receiver, projection)

    def _startup(self, stack: ExitStack) -> tuple[Receiver, ProjectionProcess]:
        config = self._config
        for folder, flag in ((config.recordings, "--recordings"), (config.logdir, "--logdir")):
            _check_writable(folder, flag)
        stack.enter_context(folder_lock(config.recordings, "--recordings"))
        stack.enter_context(folder_lock(config.logdir, "--logdir", LOGGER_LOCK_NAME))
        journal = Journal(
            config.recordings,
            time_ns,
            commit_interval_seconds=config.commit_interval_seconds,
            commit_size_bytes=config.commit_size_bytes,
            open_files_max=min(OPEN_FILES_MAX, _open_files_limit() // 4),
        )
        receiver = Receiver(journal, config.bind, streams_max=config.streams_max)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        projection = ProjectionProcess(config.recordings, config.logdir)
        stack.callback(projection.kill)
        projection.supervise(monotonic())
        self._ready(receiver.endpoint)
        return receiver, projection

    def _main_loop(self, receiver: Receiver, projection: ProjectionProcess) -> None:
        while not self._stopping:
            receiver.turn(_TURN_SECONDS)
            projection.supervise(monotonic())

    def _shutdown(self, receiver: Receiver, projection: ProjectionProcess) -> None:
        _log.info(
            "stopping: %s; bringing event files up to date (Ctrl-C again ends at once)", receiver.reception.counts
        )
        receiver.close()
        if not projection.finish(monotonic(), self._config.drain_seconds):
            _log.warning("event files are not up to date; the next serve or a replay goes on from where they end")

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Stop in order at the first signal, at once at a Ctrl-C after it: nothing acknowledged can be lost by that."""
        if self._stopping and number == signal.SIGINT:
            os._exit(128 + number)
        self._stopping = True


def _check_writable(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StartupError(f"{flag} {folder} cannot be written: {error.strerror or error}") from None


def _open_files_limit() -> int:
    """Take what the system allows: a connection is an open file, and so is a stream that is written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems say that there is no limit, and then refuse to have none
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
