"""From recordings that grow to event files that grow: the main loop of the projection process.

It reads recordings and nothing else, so that whatever happens to it costs a restart and no record, and what happens
again and again costs its record alone (see ``quarantine``). Every run gets its turn: a bounded amount, for
a bounded time, then the next. A recording that cannot be projected (a head that is no head, a disk that is full,
whatever is raised) is said once, left alone for a while and tried again; the others go on. When the event files' disk
is nearly full, all of them wait, so that no event is torn, and go on alone when there is room.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace, measure_disk
from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.logger_service.folders.low_water import LowWater
from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ProjectionState
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.projection.stream_order import in_stream_order
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.storage.find import beginning_of, find_recordings

# What one turn of a run reads: a thousand steps of scalars, or a few pictures, which take longest to draw.
TURN_SIZE_BYTES: Final = 2**18
# When it has lasted so long, nothing more is drawn in it.
TURN_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.15
_FIND_SECONDS: Final = 0.5
# The files of a recording that does not grow for this long are closed until it does.
_PARK_SECONDS: Final = 60.0
# A recording that is read and its event file, and what opening them takes.
_FILES_A_STREAM: Final = 3
_FILES_BESIDE: Final = 64
# A recording that failed is tried again after the first pause, and then after one twice as long each time.
_RETRY_MIN_SECONDS: Final = 5.0
_RETRY_MAX_SECONDS: Final = 80.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    """A recording, and what is known of it."""

    token: tuple[str, int]
    stream: StreamProjection | None = None
    waits: bool = False
    grew_at_seconds: float = float("-inf")
    retry_at_seconds: float = 0.0
    pause_seconds: float = _RETRY_MIN_SECONDS
    failure: str = ""
    stuck: bool = False


class Follower:
    """Projects every recording below ``recordings`` into ``logdir``. Times are those of one steady clock.

    ``disk_reserve_bytes`` are left free, as ``logger_service.folders.low_water.LowWater`` has it.
    """

    def __init__(
        self,
        recordings: Path,
        logdir: Path,
        *,
        disk_reserve_bytes: int | None = None,
        suspects: Quarantine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._suspects = suspects or Quarantine()
        self._clock = clock
        self._open_max = _open_streams_max()
        self._low_water = LowWater(lambda: measure_disk(logdir), disk_reserve_bytes)
        self._recordings, self._logdir = recordings, logdir
        self._followed: dict[Path, _Followed] = {}
        self._find_at_seconds = float("-inf")

    def __repr__(self) -> str:
        return f"<Follower of {len(self._followed)} recordings: {self.counts}>"

    def turn(
        self, now_seconds: float, *, thorough: bool = False, after_each: Callable[[], object] = lambda: None
    ) -> bool:
        """Give every recording its turn; tell whether there was anything to do.

        ``thorough`` looks for new recordings now, and tries failed ones again, whatever the time. ``after_each`` is
        called after all that may take long: whatever is opened, or drawn.
        """
        if not self._has_room(now_seconds):
            return False
        if thorough or now_seconds >= self._find_at_seconds:
            self._find(now_seconds, thorough=thorough)
        busy = False
        behind: set[tuple[str, int]] = set()
        for place, (folder, followed) in enumerate(self._ready(now_seconds, after_each)):
            stream = self._opened(folder, followed, now_seconds)
            after_each()
            if stream is None:
                continue
            whose = stream.stream.run, stream.stream.rank
            # Its earlier attempt first: behind this one's events, that one's would come late.
            if whose not in behind:
                advanced = self._advance(folder, followed, stream, now_seconds, after_each)
                busy |= advanced
                if advanced or stream.waits:
                    behind.add(whose)
                if place >= self._open_max:
                    stream.close()
                after_each()
                if not self._has_room(now_seconds):
                    return False
        return busy

    @property
    def waits(self) -> bool:
        """Whether nothing is projected, as there is no room for it."""
        return self._low_water.low

    def state(self) -> ProjectionState:
        """Return how it is."""
        space = self._low_water.space or DiskSpace(0, 0)
        return ProjectionState(
            waits=self.waits,
            writable=os.access(self._logdir, os.W_OK | os.X_OK),
            failing=sum(bool(followed.failure) for followed in self._followed.values()),
            disk_free_bytes=space.free_bytes,
            disk_size_bytes=space.total_bytes,
            stuck=sum(followed.stuck for followed in self._followed.values()),
        )

    def positions(self) -> Iterator[tuple[bytes, int]]:
        """Yield, for each stream that is projected, its id and the number behind the last that was."""
        for followed in self._followed.values():
            if followed.stream is not None:
                yield followed.stream.stream.id, followed.stream.next_sequence

    def close(self) -> None:
        """Close all files."""
        for followed in self._followed.values():
            self._park(followed)

    def _find(self, now_seconds: float, *, thorough: bool) -> None:
        """Notice recordings that are new or gone, and parked or failed ones that are due."""
        self._find_at_seconds = now_seconds + _FIND_SECONDS
        found = dict(find_recordings(self._recordings))
        for folder in self._followed.keys() - found:
            self._park(self._followed.pop(folder))
        for folder, token in found.items():
            followed = self._followed.setdefault(folder, _Followed(token))
            if followed.failure:
                followed.waits = not (thorough or now_seconds >= followed.retry_at_seconds)
            elif token != followed.token:
                followed.waits = False
            followed.token = token

    def _ready(self, now_seconds: float, after_each: Callable[[], object]) -> list[tuple[Path, _Followed]]:
        """Return what may be advanced now; the earlier attempts of runs first."""
        ready = []
        for folder, followed in self._followed.items():
            if not followed.waits:
                try:
                    beginning = followed.stream.beginning if followed.stream else beginning_of(folder)
                except Exception as error:  # noqa: BLE001 - whatever one recording raises costs no other its turn
                    self._fail(folder, followed, error, now_seconds)
                else:
                    ready.append((beginning, (folder, followed)))
                after_each()
        return in_stream_order(ready)

    def _opened(self, folder: Path, followed: _Followed, now_seconds: float) -> StreamProjection | None:
        try:
            followed.stream = followed.stream or StreamProjection(folder, self._logdir, self.counts, self._suspects)
        except Exception as error:  # noqa: BLE001 - as in _ready
            self._fail(folder, followed, error, now_seconds)
        return followed.stream

    def _advance(
        self,
        folder: Path,
        followed: _Followed,
        stream: StreamProjection,
        now_seconds: float,
        after_each: Callable[[], object],
    ) -> bool:
        written, until_seconds = self.counts.records, self._clock() + TURN_SECONDS

        def enough() -> bool:
            after_each()
            return self._clock() >= until_seconds

        try:
            busy = stream.advance(TURN_SIZE_BYTES, now_seconds, enough) > 0
            if busy and self.counts.records == written:  # the last record once more: of most that is the end
                busy = stream.advance(TURN_SIZE_BYTES, now_seconds, enough) > 0
        except Exception as error:  # noqa: BLE001 - as in _ready
            self._fail(folder, followed, error, now_seconds)
            return False
        followed.failure, followed.stuck, followed.pause_seconds = "", False, _RETRY_MIN_SECONDS
        if self.counts.records > written or stream.waits:
            followed.grew_at_seconds = now_seconds
        elif not busy and now_seconds - followed.grew_at_seconds >= _PARK_SECONDS:
            self._park(followed)
        return busy

    def _fail(self, folder: Path, followed: _Followed, error: Exception, now_seconds: float) -> None:
        self.counts.stream_failures += 1
        why = str(error) or repr(error)
        if followed.failure != why:
            _log.error("%s is not projected: %s (said once; tried again and again)", folder, why)
        self._park(followed)
        followed.stream = None
        followed.stuck = not isinstance(error, ProtocolError)
        followed.failure, followed.retry_at_seconds = why, now_seconds + followed.pause_seconds
        followed.pause_seconds = min(2 * followed.pause_seconds, _RETRY_MAX_SECONDS)

    def _has_room(self, now_seconds: float) -> bool:
        """Tell whether event files may be written, and say so when that has changed."""
        if self._low_water.look(now_seconds, self.counts.event_bytes):
            if self._low_water.low:
                _log.error("%s: %s: event files wait until there is room", self._logdir, self._low_water)
            else:
                _log.info("%s: %s: there is room again, event files go on", self._logdir, self._low_water)
        return not self._low_water.low

    @staticmethod
    def _park(followed: _Followed) -> None:
        if followed.stream is not None:
            followed.stream.close()
        followed.waits = True


def _open_streams_max() -> int:
    """Return how many streams keep their files open between turns; the others open them again."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, files - _FILES_BESIDE) // _FILES_A_STREAM if files != resource.RLIM_INFINITY else sys.maxsize


def follow(
    recordings: Path,
    logdir: Path,
    stop: Callable[[], bool],
    *,
    disk_reserve_bytes: int | None = None,
    tell: Callable[[Follower, float], object] = lambda _projection, _now: None,
    wait: Callable[[float], object] = time.sleep,
    poll_seconds: float = POLL_SECONDS,
    suspects: Quarantine | None = None,
    lock: int | None = None,
) -> Follower:
    """Project recordings as they grow until ``stop`` is true, and then to the end of what is there; return how it went.

    ``tell`` is called again and again, ``wait`` idles for so many seconds, or less. ``suspects`` are opened and closed
    here. ``lock`` is the file descriptor of the parent's lock on the log directory, if there is a parent. Raises
    FolderInUse, OSError when the log directory cannot be made.
    """
    with folder_lock(logdir, "--logdir", inherited=lock):
        suspects = suspects or Quarantine()
        suspects.open(logdir)
        projection = Follower(recordings, logdir, disk_reserve_bytes=disk_reserve_bytes, suspects=suspects)

        def said() -> None:
            tell(projection, time.monotonic())

        try:
            while True:
                stopping = stop()
                busy = projection.turn(time.monotonic(), thorough=stopping, after_each=said)
                said()
                if stopping and not busy and not suspects.let_go():
                    return projection
                if not busy:
                    wait(poll_seconds)
        finally:
            projection.close()
            suspects.close()
            _log.info("projection closed: %s", projection.counts)
