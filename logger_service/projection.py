"""From recordings that grow to event files that grow: the main loop of the projection process.

It reads recordings and nothing else, so that whatever happens to it costs a restart and no record. Every run gets its
turn: a bounded amount, then the next. A recording that cannot be projected (a head that is no head, a disk that is
full) is said once, left alone for a while and tried again; the others go on.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from logger_service.counts import Counts
from logger_service.folder_lock import folder_lock
from logger_service.recordings import find_recordings
from logger_service.stream_projection import StreamProjection
from protocol.errors import ProtocolError

# What one turn of a run reads: a thousand steps of scalars, or a few pictures, which take longest to draw.
TURN_SIZE_BYTES: Final = 2**18
POLL_SECONDS: Final = 0.15
_FIND_SECONDS: Final = 0.5
# The files of a recording that does not grow for this long are closed until it does.
_PARK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    """A recording, and what is known of it."""

    token: tuple[str, int]
    stream: StreamProjection | None = None
    waits: bool = False
    grew_at_seconds: float = float("-inf")
    retry_at_seconds: float = 0.0
    failure: str = ""


class Projection:
    """Projects every recording below ``recordings`` into ``logdir``. Times are those of one steady clock."""

    def __init__(self, recordings: Path, logdir: Path) -> None:
        self.counts = Counts()
        self._recordings, self._logdir = recordings, logdir
        self._followed: dict[Path, _Followed] = {}
        self._find_at_seconds = float("-inf")

    def __repr__(self) -> str:
        return f"<Projection of {len(self._followed)} recordings: {self.counts}>"

    def turn(self, now_seconds: float, *, thorough: bool = False) -> bool:
        """Give every recording its turn; tell whether there was anything to do.

        ``thorough`` looks for new recordings now, and tries failed ones again, whatever the time.
        """
        if thorough or now_seconds >= self._find_at_seconds:
            self._find(now_seconds, thorough=thorough)
        busy = False
        for folder, followed in self._followed.items():
            if not followed.waits:
                busy |= self._advance(folder, followed, now_seconds)
        return busy

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

    def _advance(self, folder: Path, followed: _Followed, now_seconds: float) -> bool:
        try:
            if followed.stream is None:
                followed.stream = StreamProjection(folder, self._logdir, self.counts)
            written = self.counts.records
            busy = followed.stream.advance(TURN_SIZE_BYTES) > 0
        except (ProtocolError, OSError) as error:
            self._fail(folder, followed, error, now_seconds)
            return False
        followed.failure = ""
        if self.counts.records > written:
            followed.grew_at_seconds = now_seconds
        elif not busy and now_seconds - followed.grew_at_seconds >= _PARK_SECONDS:
            self._park(followed)
        return busy

    def _fail(self, folder: Path, followed: _Followed, error: Exception, now_seconds: float) -> None:
        self.counts.stream_failures += 1
        if followed.failure != str(error):
            _log.error("%s is not projected: %s (said once; tried again every %g s)", folder, error, _RETRY_SECONDS)
        self._park(followed)
        followed.stream = None
        followed.failure, followed.retry_at_seconds = str(error), now_seconds + _RETRY_SECONDS

    @staticmethod
    def _park(followed: _Followed) -> None:
        if followed.stream is not None:
            followed.stream.close()
        followed.waits = True


def follow(
    recordings: Path,
    logdir: Path,
    stop: Callable[[], bool],
    *,
    wait: Callable[[float], object] = time.sleep,
    poll_seconds: float = POLL_SECONDS,
) -> Counts:
    """Project recordings as they grow until ``stop`` is true, and then to the end of what is there.

    ``wait`` idles for so many seconds, or less. Raises FolderInUse, OSError when the log directory cannot be made.
    """
    with folder_lock(logdir, "--logdir"):
        projection = Projection(recordings, logdir)
        try:
            while True:
                stopping = stop()
                if not projection.turn(time.monotonic(), thorough=stopping):
                    if stopping:
                        return projection.counts
                    wait(poll_seconds)
        finally:
            projection.close()
            _log.info("projection closed: %s", projection.counts)
