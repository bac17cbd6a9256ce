"""Records that no sink has taken yet: older records in the spill folder on disk, newer records in the outbox.

Rule 1: when more than half of the outbox is in use (0.6 while a logger takes records), the sender thread moves the
oldest full segment to disk, one segment a turn. The outbox releases a segment when the copy on disk is durable: a kill
at any moment finds each record in memory, on disk, or in both.
Rule 2: a disk that fails is reported once and tried again after a pause, which doubles from one second to half a
minute. The outbox keeps its records meanwhile, and refuses records when memory is full.
"""

import logging
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.spill import Spill

SPILL_SHARE: Final = 0.5
# A disk may be slower than a logger. The outbox refuses the first records (pictures) beyond 0.7.
_BUSY_SPILL_SHARE: Final = 0.6
_PAUSE_MIN_SECONDS: Final = 1.0
_PAUSE_MAX_SECONDS: Final = 30.0
_log = logging.getLogger(__name__)


class Backlog:
    """Reads and releases ``outbox`` and its ``spill`` (None: nothing moves to disk) as one. For the sender thread."""

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
        """The number after the last number that was given out."""
        return self.outbox.next_sequence

    @property
    def spilled_bytes(self) -> int:
        """Bytes on disk."""
        return self._spill.used_bytes if self._spill is not None else 0

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records as :meth:`Outbox.read` does; None while the disk cannot be read.

        Raises LookupError when ``sequence`` was released.
        """
        if self._spill is None or not self.first_sequence <= sequence < self.outbox.first_sequence:
            return self.outbox.read(sequence, size_max_bytes)
        try:
            run = self._spill.read(sequence, size_max_bytes)
        except OSError as error:
            if not self._unread:
                _log.warning("cannot read back from %s: %s; trying again", self._spill.folder, str(error))
            self._unread = True
            return None
        self._unread = False
        return run

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        if self._spill is not None:
            self._spill.release(next_sequence)
        self.outbox.release(next_sequence)

    def step(self, now_seconds: float, *, busy: bool = False) -> bool:
        """Move the oldest full segment to disk when rule 1 says so; return whether a segment was moved.

        ``busy``: a logger is taking records.
        """
        share = _BUSY_SPILL_SHARE if busy else SPILL_SHARE
        due = self.outbox.used_bytes > share * self.outbox.capacity_bytes and now_seconds >= self._spill_at
        segment = self.outbox.oldest_full_segment() if due and self._spill is not None else None
        if segment is None or self._spill is None:
            return False
        try:
            self._spill.keep(segment)
        except OSError as error:
            self._pause(str(error), self._spill, now_seconds)
            return False
        if self._pause_seconds:
            _log.info("the outbox goes on to %s", self._spill.folder)
            self._pause_seconds = 0.0
        self.outbox.release(segment.next_sequence)
        return True

    def close(self, *, keep: bool) -> None:
        """Close the outbox and the spill folder; both stay for a later drain when ``keep``, else delete both."""
        if self._spill is not None:
            self._spill.close(keep=keep)
        self.outbox.close(keep=keep)

    def disown(self) -> None:
        """Close the owner locks in a forked child, so that the child does not hold the locks while it lives."""
        if self._spill is not None:
            self._spill.disown()
        self.outbox.disown()

    def _pause(self, reason: str, spill: Spill, now_seconds: float) -> None:
        if not self._pause_seconds:
            _log.warning(
                "the outbox of run %s cannot go on to %s: %s; trying again. Records that find it full are refused, "
                "and counted",
                self.stream.run,
                spill.folder,
                reason,
            )
        self._pause_seconds = min(max(2 * self._pause_seconds, _PAUSE_MIN_SECONDS), _PAUSE_MAX_SECONDS)
        self._spill_at = now_seconds + self._pause_seconds
