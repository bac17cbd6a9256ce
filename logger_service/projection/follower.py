"""The main loop of the projection's process: from recordings that grow to event files that grow.

The follower only reads the recordings: a crash costs a restart and no record. A record that crashes each process stays
blank (see ``quarantine``).

Rule 1: each recording gets a turn, bounded in bytes and in time, then the next recording.
Rule 2: an error stops one recording, never the others. The error is logged once, and the recording is tried again after
a pause that doubles. A recording without a valid head, a full disk and any exception count as errors.
Rule 3: when the disk of the event files is nearly full, all recordings wait until there is room: no event is torn.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.findings.silence import GONE_SECONDS
from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace, LowWater, measure_disk
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts, ProjectionState
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection, in_stream_order
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.recording_reader import beginning_of, find_recordings

# A turn reads this much: a thousand steps of scalars, or a few pictures. A picture takes longest to draw.
TURN_SIZE_BYTES: Final = 2**18
# A turn that has lasted this long draws no further picture.
TURN_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.15
_FIND_SECONDS: Final = 0.5
# The files of a recording that has not grown for this long are closed.
_PARK_SECONDS: Final = 60.0
# Open files of a stream: its segment, its event file, and one more while either is opened.
_FILES_A_STREAM: Final = 3
_FILES_BESIDE: Final = 64
# The pause before a failed recording is tried again: the first, and the longest.
_RETRY_MIN_SECONDS: Final = 5.0
_RETRY_MAX_SECONDS: Final = 80.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    """One recording, its projection once it is open, and its last error. A parked recording has no turns and no files.

    Pure but for the closing of files: every call receives the time.
    """

    folder: Path
    token: tuple[str, int]
    stream: StreamProjection | None = None
    parked: bool = False
    grew_at_seconds: float = float("-inf")
    failure: str = ""
    """The text of the last error; empty while the recording is projected."""
    stuck: bool = False
    """Whether the recording is valid, and yet fails: the file system or this program is at fault."""
    retry_at_seconds: float = 0.0
    pause_seconds: float = _RETRY_MIN_SECONDS
    silent: bool = False
    """Whether the run goes on, and has been silent for long."""

    def notice(self, token: tuple[str, int], now_seconds: float, *, thorough: bool) -> None:
        """Resume turns if the recording has grown, or if the pause after a failure is over."""
        if self.failure:
            self.parked = not (thorough or now_seconds >= self.retry_at_seconds)
        elif token != self.token:
            self.parked = False
        self.token = token

    def settle(self, now_seconds: float, *, grew: bool, idle: bool) -> None:
        """Account for a turn without an error; park the recording if it has been idle for _PARK_SECONDS."""
        self.failure, self.stuck, self.pause_seconds = "", False, _RETRY_MIN_SECONDS
        if grew:
            self.grew_at_seconds = now_seconds
        elif idle and now_seconds - self.grew_at_seconds >= _PARK_SECONDS:
            self.park()

    def listen(self, now_seconds: float) -> bool:
        """Find out whether the run is silent; return whether that has changed. Without a new record nobody knows."""
        stream, before = self.stream, self.silent
        seconds = now_seconds - self.grew_at_seconds
        self.silent = stream is not None and not stream.ended and stream.silence.is_silent(seconds)
        if stream is not None and isfinite(seconds) and seconds >= GONE_SECONDS:
            stream.rest(gone=True)
        return self.silent != before

    def fail(self, error: Exception, now_seconds: float) -> bool:
        """Park the recording until the pause is over; return whether the error differs from the last one."""
        last, self.failure = self.failure, str(error) or repr(error)
        self.stuck = not isinstance(error, ProtocolError)
        self.retry_at_seconds = now_seconds + self.pause_seconds
        self.pause_seconds = min(2 * self.pause_seconds, _RETRY_MAX_SECONDS)
        self.park()
        self.stream = None
        return self.failure != last

    def park(self) -> None:
        """Close the files; give no turns until :meth:`notice` resumes them."""
        if self.stream is not None:
            self.stream.rest()
        self.parked = True


class Follower:
    """Projects every recording below ``recordings`` into ``logdir``. All times are of one monotonic clock.

    ``disk_reserve_bytes`` of the disk of ``logdir`` stay free (see ``logger_service.folders.low_water.LowWater``).
    ``after_each`` is called after each step that may take long: opening a recording, drawing a picture.
    """

    def __init__(
        self,
        recordings: Path,
        logdir: Path,
        *,
        disk_reserve_bytes: int | None = None,
        suspects: Quarantine | None = None,
        after_each: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = ProjectionCounts()
        self._recordings, self._logdir = recordings, logdir
        self._suspects = suspects or Quarantine()
        self._after_each, self._clock = after_each, clock
        self._low_water = LowWater(lambda: measure_disk(logdir), disk_reserve_bytes)
        self._followed: dict[Path, _Followed] = {}
        self._find_at_seconds = float("-inf")

    def __repr__(self) -> str:
        return f"<Follower of {len(self._followed)} recordings: {self.counts}>"

    def turn(self, now_seconds: float, *, thorough: bool = False) -> bool:
        """Give each recording a turn; return whether a recording had something to project.

        ``thorough`` looks for new recordings and tries failed recordings again without regard to the time.
        """
        if not self._has_room(now_seconds):
            return False
        if thorough or now_seconds >= self._find_at_seconds:
            self._find(now_seconds, thorough=thorough)
        busy, open_max = False, _open_streams_max()
        behind: set[tuple[str, int]] = set()  # runs and ranks with an earlier attempt that is not up to date
        for place, followed in enumerate(self._ready(now_seconds)):
            stream = self._opened(followed, now_seconds)
            self._after_each()
            if stream is None:
                continue
            run_and_rank = stream.stream.run, stream.stream.rank
            # A later attempt waits: events of an earlier attempt behind its own would be late.
            if run_and_rank not in behind:
                advanced = self._advance(followed, stream, now_seconds)
                busy |= advanced
                if stream.waits or (advanced and not _is_at_end(stream)):
                    behind.add(run_and_rank)
                if place >= open_max:
                    stream.close()
                self._after_each()
                if not self._has_room(now_seconds):
                    return False
        return busy

    @property
    def waits(self) -> bool:
        """Whether nothing is written because the disk is nearly full."""
        return self._low_water.low

    @property
    def waits_for_a_record(self) -> bool:
        """Whether the next record of a stream waits: for missing records before it, or as a suspect."""
        streams = (followed.stream for followed in self._followed.values())
        return any(stream is not None and stream.waits for stream in streams)

    def state(self) -> ProjectionState:
        """Return the state for a report."""
        space = self._low_water.space or DiskSpace(0, 0)
        failing = [followed for followed in self._followed.values() if followed.failure]
        return ProjectionState(
            waits=self.waits,
            writable=os.access(self._logdir, os.W_OK | os.X_OK),
            failing=len(failing),
            disk_free_bytes=space.free_bytes,
            disk_size_bytes=space.total_bytes,
            stuck=sum(followed.stuck for followed in failing),
            silent=sum(followed.silent for followed in self._followed.values()),
        )

    def positions(self) -> Iterator[tuple[bytes, int]]:
        """Yield the id of each open stream and the sequence number that is projected next.

        The records of a stream that has nothing to show count as projected.
        """
        for followed in self._followed.values():
            if followed.stream is not None:
                yield followed.stream.stream.id, followed.stream.position

    def findings(self) -> Iterator[tuple[bytes, list[Finding]]]:
        """Yield the id of each stream that is watched at present, and its findings."""
        for followed in self._followed.values():
            if followed.stream is not None and followed.stream.findings:
                yield followed.stream.stream.id, followed.stream.findings

    @property
    def failures(self) -> list[str]:
        """Why recordings cannot be projected at present: a text for each of them."""
        return [f"{followed.folder}: {followed.failure}" for followed in self._followed.values() if followed.failure]

    def sync(self) -> None:
        """Make durable all events that were written. Raises OSError."""
        for followed in self._followed.values():
            if followed.stream is not None:
                followed.stream.sync()

    def close(self) -> None:
        """Close all files."""
        for followed in self._followed.values():
            followed.park()

    def _find(self, now_seconds: float, *, thorough: bool) -> None:
        """Find new recordings, forget deleted ones, and resume parked ones that have grown or are due."""
        self._find_at_seconds = now_seconds + _FIND_SECONDS
        found = dict(find_recordings(self._recordings))
        for folder in self._followed.keys() - found:
            self._followed.pop(folder).park()
        for folder, token in found.items():
            followed = self._followed.setdefault(folder, _Followed(folder, token))
            followed.notice(token, now_seconds, thorough=thorough)
        self._listen(now_seconds)

    def _listen(self, now_seconds: float) -> None:
        """Find out which runs are silent, and log what has changed."""
        for followed in self._followed.values():
            if followed.stream is not None and followed.listen(now_seconds):
                stream = followed.stream
                if followed.silent:
                    message = "run %s, rank %d: no record for %.0f s, and no end of the run: it hangs or was killed"
                    seconds = now_seconds - followed.grew_at_seconds
                    _log.warning(message, printable(stream.stream.run), stream.stream.rank, seconds)
                else:
                    _log.info("run %s, rank %d: no longer silent", printable(stream.stream.run), stream.stream.rank)

    def _ready(self, now_seconds: float) -> list[_Followed]:
        """Return the recordings that are not parked, earlier attempts of a run first."""
        ready = []
        for followed in self._followed.values():
            if not followed.parked:
                try:
                    beginning = followed.stream.beginning if followed.stream else beginning_of(followed.folder)
                    ready.append((beginning, followed))
                except Exception as error:  # noqa: BLE001 - no error of one recording may stop another
                    self._fail(followed, error, now_seconds)
                self._after_each()
        return in_stream_order(ready)

    def _opened(self, followed: _Followed, now_seconds: float) -> StreamProjection | None:
        try:
            if followed.stream is None:
                followed.stream = StreamProjection(followed.folder, self._logdir, self.counts, self._suspects)
        except Exception as error:  # noqa: BLE001 - as in _ready
            self._fail(followed, error, now_seconds)
        return followed.stream

    def _advance(self, followed: _Followed, stream: StreamProjection, now_seconds: float) -> bool:
        """Project the next records of a recording; return whether there were any."""
        written, until_seconds = self.counts.records, self._clock() + TURN_SECONDS

        def enough() -> bool:
            self._after_each()
            return self._clock() >= until_seconds

        try:
            busy = stream.advance(TURN_SIZE_BYTES, now_seconds, enough) > 0
            if busy and self.counts.records == written:  # only the last record, read again: most recordings end there
                busy = stream.advance(TURN_SIZE_BYTES, now_seconds, enough) > 0
        except Exception as error:  # noqa: BLE001 - as in _ready
            self._fail(followed, error, now_seconds)
            return False
        grew = self.counts.records > written or stream.waits or stream.reads_again
        followed.settle(now_seconds, grew=grew, idle=not busy)
        return busy

    def _fail(self, followed: _Followed, error: Exception, now_seconds: float) -> None:
        self.counts.stream_failures += 1
        if followed.fail(error, now_seconds):
            message = "%s is not projected: %s (logged once; tried again within %g s)"
            _log.error(message, followed.folder, followed.failure, _RETRY_MAX_SECONDS)

    def _has_room(self, now_seconds: float) -> bool:
        """Return whether the disk has room for event files; log each change."""
        if self._low_water.look(now_seconds, self.counts.event_bytes):
            if self._low_water.low:
                _log.error("%s: %s: event files wait until there is room", self._logdir, self._low_water)
            else:
                _log.info("%s: %s: there is room again, event files are written", self._logdir, self._low_water)
        return not self._low_water.low


def _is_at_end(stream: StreamProjection) -> bool:
    with suppress(OSError):  # the next turn fails, and that is reported
        return stream.at_end
    return False


def _open_streams_max() -> int:
    """Return how many streams keep their files open between turns; all others open their files in each turn."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, files - _FILES_BESIDE) // _FILES_A_STREAM if files != resource.RLIM_INFINITY else sys.maxsize


def follow(
    recordings: Path,
    logdir: Path,
    stop: Callable[[], bool],
    *,
    disk_reserve_bytes: int | None = None,
    report: Callable[[Follower, float], object] = lambda *_: None,
    wait: Callable[[float], object] = time.sleep,
    suspects: Quarantine | None = None,
    lock: int | None = None,
) -> Follower:
    """Project recordings as they grow until ``stop()`` is true, and then all records that exist; return the follower.

    ``report`` gets the follower and the monotonic time after each step that may take long. ``suspects`` is opened and
    closed here. ``lock`` is the file of the parent's lock on the log directory. Raises FolderInUse, OSError.
    """
    with folder_lock(logdir, "--logdir", inherited=lock):
        suspects = suspects or Quarantine()
        suspects.open(logdir)
        follower = Follower(
            recordings,
            logdir,
            disk_reserve_bytes=disk_reserve_bytes,
            suspects=suspects,
            after_each=lambda: report(follower, time.monotonic()),
        )
        try:
            while True:
                stopping = stop()
                busy = follower.turn(time.monotonic(), thorough=stopping)
                report(follower, time.monotonic())
                if stopping and not busy and not suspects.end_waits():
                    return follower
                if not busy:
                    wait(POLL_SECONDS)
        finally:
            follower.close()
            suspects.close()
            _log.info("projection closed: %s", follower.counts)
