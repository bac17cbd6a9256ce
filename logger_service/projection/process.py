"""The projection's process, seen from both ends: :func:`run_projection` is the child, :class:`Supervisor` the parent.

Parent and child share two pipes:

- The lifeline is the child's standard input. A byte asks the child to bring the event files up to date and to end. The
  end of the pipe means that the parent is gone: the child ends at once. The child may end at any moment without loss,
  since all its state is in the recordings and in the event files.
- The reports are the child's standard output (see ``logger_service.projection.report``).

The parent starts a child that ended again, after a pause that doubles with each end in a series.
"""

import logging
import os
import resource
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ReportedHealth, ReportReader, ReportWriter
from tensorboard_sidecar.protocol.finding import Finding

# The child may take this much more memory than it has after its imports. A record that takes more is not drawn, so that
# the trainer keeps its memory. A record of 20,000 full summaries takes 1.0 GB, pictures of 64 MB take 0.6 GB, and
# matplotlib, which the first drawing imports, 30 MB.
MEMORY_MAX_BYTES: Final = 5 * 2**28
# OpenBLAS uses no work buffer for smaller matrices (up to 100 on a side).
_BLAS_SIDE: Final = 128

RESTART_MIN_SECONDS: Final = 0.5
RESTART_MAX_SECONDS: Final = 30.0
# A child that lived this long ends a series of ends.
WELL_SECONDS: Final = 60.0
# A series is a trouble from its third end on: then the pause has doubled three times.
_TROUBLE_PAUSE_SECONDS: Final = RESTART_MIN_SECONDS * 2**3
# A child ends within milliseconds after the end of its lifeline, unless the child is stopped or hangs.
_FAREWELL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


def run_projection(
    recordings: Path, logdir: Path, *, lifeline: int, reports: int, disk_reserve_bytes: int | None, lock: int | None
) -> bool:
    """Project in this process until the parent asks for the end; return whether the event files are up to date.

    ``lifeline``, ``reports`` and ``lock`` (the parent's lock on the log directory, if any) are file descriptors. Raises
    as ``logger_service.projection.follower.follow``.
    """
    finish, suspects = threading.Event(), Quarantine()

    def watch() -> None:
        while os.read(lifeline, 1):
            finish.set()
        suspects.stop_noting()
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    from tensorboard_sidecar.logger_service.projection.follower import Follower, follow  # noqa: PLC0415 - the import takes seconds, in which the parent may go

    limit_memory(MEMORY_MAX_BYTES)
    writer = ReportWriter(reports)

    def report(follower: Follower, now_seconds: float) -> None:
        if writer.is_due(now_seconds):
            writer.write(now_seconds, follower.counts, follower.positions(), follower.state(), follower.findings())

    follower = follow(
        recordings,
        logdir,
        finish.is_set,
        disk_reserve_bytes=disk_reserve_bytes,
        report=report,
        wait=finish.wait,
        suspects=suspects,
        lock=lock,
    )
    return not follower.waits


def limit_memory(size_bytes: int) -> None:
    """Let this process take ``size_bytes`` more memory than now; beyond, allocations raise MemoryError.

    RLIMIT_DATA counts private writable memory, not mapped files or libraries. A system without this limit has none.

    matplotlib multiplies matrices. The first product makes OpenBLAS map a work buffer of 32 MiB or more (the size
    depends on the processor), and OpenBLAS ends the process if that fails; later products use the same buffer. This
    function therefore sets the limit after a first product.
    """
    np.linalg.inv(np.ones((_BLAS_SIDE, _BLAS_SIDE)) @ np.ones((_BLAS_SIDE, _BLAS_SIDE)) + np.eye(_BLAS_SIDE))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit_bytes = pages * resource.getpagesize() + size_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit_bytes < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))


@dataclass(slots=True)
class RestartPause:
    """Decides when the next child starts; ``restarts`` counts the ends. Pure: every call receives the time."""

    restarts: int = 0
    pause_seconds: float = RESTART_MIN_SECONDS
    _started_at_seconds: float = 0.0
    _restart_at_seconds: float = 0.0

    @property
    def is_long(self) -> bool:
        """Whether children end again and again."""
        return self.pause_seconds >= _TROUBLE_PAUSE_SECONDS

    def is_over(self, now_seconds: float) -> bool:
        """Return whether a child may start."""
        return now_seconds >= self._restart_at_seconds

    def started(self, now_seconds: float) -> None:
        """Note the start of a child."""
        self._started_at_seconds = now_seconds

    def lives(self, now_seconds: float) -> None:
        """Note that the child lives, or has lived until now."""
        if now_seconds - self._started_at_seconds >= WELL_SECONDS:
            self.pause_seconds = RESTART_MIN_SECONDS

    def ended(self, now_seconds: float) -> float:
        """Note the end of a child, or a failed start; return the pause in seconds until the next start."""
        pause_seconds = self.pause_seconds
        self.restarts += 1
        self._restart_at_seconds = now_seconds + pause_seconds
        self.pause_seconds = min(2 * pause_seconds, RESTART_MAX_SECONDS)
        return pause_seconds


class Supervisor:
    """Keeps a child running that projects ``recordings`` into ``logdir``. All times are of one monotonic clock."""

    def __init__(
        self, recordings: Path, logdir: Path, *, disk_reserve_bytes: int | None = None, lock: int | None = None
    ) -> None:
        self.health = ReportedHealth()
        self._command = [sys.executable, "-m", "tensorboard_sidecar", "project"]
        self._command += ["--recordings", str(recordings), "--logdir", str(logdir)]
        if disk_reserve_bytes is not None:
            self._command += ["--disk_reserve_bytes", str(disk_reserve_bytes)]
        # The child shares the parent's lock on the log directory through the inherited file.
        self._inherited = [] if lock is None else [lock]
        if lock is not None:
            self._command += ["--lock", str(lock)]
        self.pause = RestartPause()
        self._process: subprocess.Popen[bytes] | None = None
        self._reports: ReportReader | None = None

    def trouble(self, now_seconds: float) -> str:
        """Return the reason why event files are not written, or an empty text."""
        return "the projection ends again and again" if self.pause.is_long else self.health.trouble(now_seconds)

    def take_findings(self) -> list[tuple[bytes, Finding]]:
        """Return the findings that opened or cleared since the last call, with the ids of their streams.

        A finding is there once for its latest change. The findings of a stream that goes on after a restart of this
        program are there again.
        """
        return self.health.findings.take()

    def supervise(self, now_seconds: float) -> None:
        """Read the reports of the child; start a child if there is none and the pause is over."""
        self._read_reports(now_seconds)
        if self._process is None:
            if self.pause.is_over(now_seconds):
                self._start(now_seconds)
            return
        self.pause.lives(now_seconds)
        if (code := self._process.poll()) is not None:
            self._read_reports(now_seconds)
            self._reap(self._process)
            self._ended(f"ended ({f'signal {-code}' if code < 0 else f'exit code {code}'})", now_seconds)

    def finish(self, now_seconds: float, timeout_seconds: float) -> bool:
        """Have the child bring all event files up to date and end; return whether both happened in time."""
        if self._process is not None and self._process.poll() is not None:
            self._reap(self._process)
        if self._process is None:
            self._start(now_seconds)
        process = self._process
        if process is None:
            return False
        lifeline, _ = _pipes(process)
        try:
            lifeline.write(b".")
            lifeline.flush()
            return process.wait(timeout_seconds) == 0
        except (BrokenPipeError, subprocess.TimeoutExpired):
            return False
        finally:
            self.kill()

    def kill(self) -> None:
        """End the child at once: through its lifeline, so that no record gets the blame; by force if that fails."""
        if self._process is not None:
            lifeline, _ = _pipes(self._process)
            with suppress(OSError, subprocess.TimeoutExpired):
                lifeline.close()
                self._process.wait(_FAREWELL_SECONDS)
            self._process.kill()
            self._process.wait()
            self._reap(self._process)

    def _start(self, now_seconds: float) -> None:
        """Start a child. A failed start counts as an end: the system may have no memory or no process left."""
        self.pause.started(now_seconds)
        try:
            # A process group of its own keeps Ctrl-C in a terminal from the child; the parent handles it.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
                pass_fds=self._inherited,
            )
        except OSError as error:
            self._ended(f"cannot be started: {error}", now_seconds)
            return
        _, reports = _pipes(self._process)
        self._reports = ReportReader(reports.fileno())
        self.health.child_started(now_seconds)

    def _read_reports(self, now_seconds: float) -> None:
        for report in self._reports.read() if self._reports is not None else ():
            self.health.hear(report, now_seconds)

    def _ended(self, how: str, now_seconds: float) -> None:
        pause_seconds = self.pause.ended(now_seconds)
        _log.error(
            "the projection %s; the logger still receives, and starts the projection again in %g s", how, pause_seconds
        )

    def _reap(self, process: "subprocess.Popen[bytes]") -> None:
        for pipe in _pipes(process):
            pipe.close()
        self._process = self._reports = None
        self.health.child_ended()


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    """Return the lifeline and the reports of a child."""
    assert process.stdin is not None  # noqa: S101 - it was started with pipes
    assert process.stdout is not None  # noqa: S101 - as above
    return process.stdin, process.stdout
