"""The projection's process as its parent sees it: started, watched, started again, stopped through its lifeline.

``logger_service.projection.child`` is the other end.
"""

import logging
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.projection.report import ProjectionState, ReportReader

RESTART_MIN_SECONDS: Final = 0.5
RESTART_MAX_SECONDS: Final = 30.0
# A child that lived so long was well; its end is no part of a series.
WELL_SECONDS: Final = 60.0
# A series is trouble from its third end on, when the pause has doubled so often.
_TROUBLE_PAUSE_SECONDS: Final = RESTART_MIN_SECONDS * 2**3
# A child reports once a second, but for the time of its start and of a single drawing.
SILENCE_SECONDS: Final = 60.0
# A child whose lifeline is cut ends within milliseconds, unless it is stopped or hangs.
_FAREWELL_SECONDS: Final = 1.0
# So many records in a row that could not be drawn, and none that could, are no accident.
UNDRAWN_MAX: Final = 3
# A recording that cannot be shown for so long will not come right by itself.
STUCK_SECONDS: Final = 30.0
# Streams whose place is remembered: more than any logger serves at a time.
_POSITIONS_MAX: Final = 16_384

_log = logging.getLogger(__name__)


class Supervisor:
    """Keeps a projection of ``recordings`` into ``logdir`` running; ``now`` is a steady time in seconds everywhere."""

    def __init__(
        self, recordings: Path, logdir: Path, *, disk_reserve_bytes: int | None = None, lock: int | None = None
    ) -> None:
        self._command = [sys.executable, "-m", "tensorboard_sidecar", "project"]
        self._command += ["--recordings", str(recordings), "--logdir", str(logdir)]
        if disk_reserve_bytes is not None:
            self._command += ["--disk_reserve_bytes", str(disk_reserve_bytes)]
        if lock is not None:
            self._command += ["--lock", str(lock)]
        self.restarts = 0
        self.positions: dict[bytes, int] = {}
        self._counts_before: Counter[str] = Counter()
        self._reports: ReportReader | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._pause_seconds = RESTART_MIN_SECONDS
        # What the reports said, as far as it is trouble: none yet; records not drawn since one was; since when one is
        # stuck.
        self._heard_counts: dict[str, int] | None = None
        self._drawings = self._undrawn_before = 0
        self._stuck_since: float | None = None

    def __repr__(self) -> str:
        return f"<Supervisor {self._process.pid if self._process else 'down'}>"

    @property
    def counts(self) -> Counter[str]:
        """What all children have done, by the names of ``logger_service.projection.counts.Counts``."""
        return self._counts_before + Counter(self._reports.counts if self._reports else {})

    @property
    def state(self) -> ProjectionState:
        """How it is with the child, as it said last."""
        return self._reports.state if self._reports is not None else ProjectionState()

    def trouble(self, now: float) -> str:
        """Return what keeps event files from being written, or nothing."""
        if self._pause_seconds >= _TROUBLE_PAUSE_SECONDS:
            return "the projection ends again and again"
        if not self.state.writable:
            return "the log directory cannot be written"
        if self.state.waits:
            return "event files wait: the disk of the log directory is nearly full"
        if self._reports is not None and now - self._reports.heard_at >= SILENCE_SECONDS:
            return f"the projection has said nothing for {now - self._reports.heard_at:.0f} s"
        if self._undrawn >= UNDRAWN_MAX:
            return f"nothing is drawn: the last {self._undrawn} pictures failed"
        if self._stuck_since is not None and now - self._stuck_since >= STUCK_SECONDS:
            return f"event files of {self.state.stuck} recordings cannot be written"
        return "" if self._heard_counts is not None else "the projection is starting"

    @property
    def _undrawn(self) -> int:
        return self.counts["drawing_failures"] - self._undrawn_before

    def supervise(self, now: float) -> None:
        """Start the child when it is not there, after it failed with a pause that grows; hear what it has to say."""
        self._hear(now)
        if self._process is None:
            if now >= self._restart_at:
                self._start(now)
            return
        if now - self._started_at >= WELL_SECONDS:
            self._pause_seconds = RESTART_MIN_SECONDS
        if (code := self._process.poll()) is not None:
            self._hear(now)
            self._reap()
            self._ended(f"ended ({f'signal {-code}' if code < 0 else f'exit code {code}'})", now)

    def finish(self, now: float, timeout_seconds: float) -> bool:
        """Let the child bring everything up to date and end; tell whether it did in time."""
        if self._process is not None and self._process.poll() is not None:
            self._reap()
        if self._process is None:
            self._start(now)
        process = self._process
        if process is None:
            return False
        assert process.stdin is not None  # noqa: S101 - it was started with a pipe
        try:
            process.stdin.write(b".")
            process.stdin.flush()
            return process.wait(timeout_seconds) == 0
        except (BrokenPipeError, subprocess.TimeoutExpired):
            return False
        finally:
            self.kill()

    def kill(self) -> None:
        """End the child at once: by its lifeline, so that the record it shows is not to blame, or else by force."""
        if self._process is not None:
            assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
            with suppress(OSError, subprocess.TimeoutExpired):
                self._process.stdin.close()
                self._process.wait(_FAREWELL_SECONDS)
            self._process.kill()
            self._process.wait()
            self._reap()

    def _start(self, now: float) -> None:
        """Start a child; where the system has no room for one, that counts as an end."""
        self._started_at = now
        try:
            # In a process group of its own, so that Ctrl-C in a terminal reaches the parent alone.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
                pass_fds=_files_named_in(self._command),
            )
        except OSError as error:
            self._ended(f"cannot be started: {error}", now)
            return
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        self._reports = ReportReader(self._process.stdout.fileno(), now)

    def _ended(self, how: str, now: float) -> None:
        """Account for a child that is no more, and let the next one wait."""
        self.restarts += 1
        _log.error("the projection %s; recordings go on, event files again in %g s", how, self._pause_seconds)
        self._restart_at = now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, RESTART_MAX_SECONDS)

    def _hear(self, now: float) -> None:
        if self._reports is None:
            return
        for stream, sequence in self._reports.read(now):
            self.positions.pop(stream, None)
            self.positions[stream] = sequence
        if self._reports.counts and self._reports.counts is not self._heard_counts:
            self._note(self._reports.counts, now)
        while len(self.positions) > _POSITIONS_MAX:
            del self.positions[next(iter(self.positions))]

    def _note(self, counts: dict[str, int], now: float) -> None:
        """Note what a new report says of pictures, and of recordings that cannot be shown."""
        self._heard_counts = counts
        if self.counts["drawings"] > self._drawings:
            self._drawings, self._undrawn_before = self.counts["drawings"], self.counts["drawing_failures"]
        if not self.state.stuck:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now

    def _reap(self) -> None:
        self._counts_before, self._reports = self.counts, None
        for pipe in (self._process.stdin, self._process.stdout) if self._process is not None else ():
            if pipe is not None:
                pipe.close()
        self._process = None


def _files_named_in(command: list[str]) -> list[int]:
    """Return the file descriptors that a child's command names: the child shares its parent's lock."""
    return [int(command[command.index("--lock") + 1])] if "--lock" in command else []
