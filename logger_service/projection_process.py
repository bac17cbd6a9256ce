"""The projection's process as its parent sees it: started, watched, started again, stopped through its lifeline.

:mod:`logger_service.projection_child` is the other end.
"""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

RESTART_MIN_SECONDS: Final = 0.5
RESTART_MAX_SECONDS: Final = 30.0
# A child that lived so long was well; its end is no part of a series.
_WELL_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


class ProjectionProcess:
    """Keeps a projection of ``recordings`` into ``logdir`` running; ``now`` is a steady time in seconds everywhere."""

    def __init__(self, recordings: Path, logdir: Path) -> None:
        self._command = [sys.executable, "-m", "logger_service", "project"]
        self._command += ["--recordings", str(recordings), "--logdir", str(logdir)]
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._pause_seconds = RESTART_MIN_SECONDS

    def __repr__(self) -> str:
        return f"<ProjectionProcess {self._process.pid if self._process else 'down'}>"

    def supervise(self, now: float) -> None:
        """Start the child when it is not there; after it failed, with a pause that grows."""
        if self._process is None:
            if now >= self._restart_at:
                self._start(now)
        elif (code := self._process.poll()) is not None:
            self._reap()
            if now - self._started_at >= _WELL_SECONDS:
                self._pause_seconds = RESTART_MIN_SECONDS
            _log.error(
                "the projection ended (%s); recordings go on, event files again in %g s",
                f"signal {-code}" if code < 0 else f"exit code {code}",
                self._pause_seconds,
            )
            self._restart_at = now + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, RESTART_MAX_SECONDS)

    def finish(self, now: float, timeout_seconds: float) -> bool:
        """Let the child bring everything up to date and end; tell whether it did in time."""
        if self._process is not None and self._process.poll() is not None:
            self._reap()
        if self._process is None:
            self._start(now)
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: S101, PT018 - it was started with a pipe
        try:
            process.stdin.write(b".")
            process.stdin.flush()
            return process.wait(timeout_seconds) == 0
        except (BrokenPipeError, subprocess.TimeoutExpired):
            return False
        finally:
            self.kill()

    def kill(self) -> None:
        """End the child at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._reap()

    def _start(self, now: float) -> None:
        self._started_at = now
        # In a process group of its own, so that Ctrl-C in a terminal reaches the parent alone.
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, process_group=0)  # noqa: S603 - our own program

    def _reap(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
