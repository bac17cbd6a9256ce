"""What no sink has taken yet: the outbox in memory, and before it what was moved from there to disk.

Rule 1: when more than half of the outbox is in use (a little more while a logger takes it), its oldest full segments
go to disk, one a turn of the sender thread. Memory gives a segment back when the disk has it: a kill at any moment
finds each record in one of them, or in both.
Rule 2: a disk that fails is said once and tried again, after a pause that doubles from one second to half a minute. The
outbox keeps what it has meanwhile, and refuses when it is full.
"""

import logging
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.spill import Spill

SPILL_SHARE: Final = 0.5
# A disk may take longer for a segment than a logger. The first records are refused beyond 0.7.
_BUSY_SPILL_SHARE: Final = 0.6
_PAUSE_MIN_SECONDS: Final = 1.0
_PAUSE_MAX_SECONDS: Final = 30.0
_logger = logging.getLogger(__name__)


class Backlog:
    """``outbox`` and its ``spill`` (None: everything stays in memory) as one; the sender thread's alone."""

    def __init__(self, outbox: Outbox, spill: Spill | None = None) -> None:
        self.outbox, self.stream = outbox, outbox.stream
        self._spill = spill
        self._pause_seconds = 0.0
        self._spill_at = float("-inf")
        self._unread = False

    def __repr__(self) -> str:
        return f"<Backlog {self.outbox!r} {self._spill!r}>"

    @property
    def first_sequence(self) -> int:
        """The first sequence number that is still held."""
        first_sequence = self._spill.first_sequence if self._spill is not None else None
        return self.outbox.first_sequence if first_sequence is None else first_sequence

    @property
    def next_sequence(self) -> int:
        """The number behind the last."""
        return self.outbox.next_sequence

    @property
    def spilled_bytes(self) -> int:
        """Bytes on disk."""
        return self._spill.used_bytes if self._spill is not None else 0

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records as :meth:`Outbox.read` does; none for now while the disk does not give them back.

        Raises LookupError when ``sequence`` was released.
        """
        if self._spill is None or not self.first_sequence <= sequence < self.outbox.first_sequence:
            return self.outbox.read(sequence, size_max_bytes)
        try:
            run = self._spill.read(sequence, size_max_bytes)
        except OSError as error:
            if not self._unread:
                _logger.warning("cannot read back from %s: %s; trying again", self._spill.folder, str(error))
            self._unread = True
            return None
        self._unread = False
        return run

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        if self._spill is not None:
            self._spill.release(next_sequence)
        self.outbox.release(next_sequence)

    def step(self, now: float, *, busy: bool = False) -> bool:
        """Move the oldest full segment to disk when that is due; tell whether one was moved.

        ``busy`` tells that a logger is taking records.
        """
        share = _BUSY_SPILL_SHARE if busy else SPILL_SHARE
        due = self.outbox.used_bytes > share * self.outbox.capacity_bytes and now >= self._spill_at
        segment = self.outbox.oldest_full_segment() if due and self._spill is not None else None
        if segment is None or self._spill is None:
            return False
        try:
            self._spill.keep(segment)
        except OSError as error:
            self._pause(str(error), self._spill, now)
            return False
        if self._pause_seconds:
            _logger.info("the outbox goes on to %s", self._spill.folder)
            self._pause_seconds = 0.0
        self.outbox.release(segment.next_sequence)
        return True

    def close(self, *, keep: bool) -> None:
        """Let go of memory and disk; both stay for a later drain when ``keep``, else they are deleted."""
        if self._spill is not None:
            self._spill.close(keep=keep)
        self.outbox.close(keep=keep)

    def disown(self) -> None:
        """Let go of the locks in a forked child, which would else keep them as long as it lives."""
        if self._spill is not None:
            self._spill.disown()
        self.outbox.disown()

    def _pause(self, reason: str, spill: Spill, now: float) -> None:
        if not self._pause_seconds:
            _logger.warning(
                "the outbox of run %s cannot go on to %s: %s; trying again. Records that find it full are refused, "
                "and counted",
                self.stream.run,
                spill.folder,
                reason,
            )
        self._pause_seconds = min(max(2 * self._pause_seconds, _PAUSE_MIN_SECONDS), _PAUSE_MAX_SECONDS)
        self._spill_at = now + self._pause_seconds
