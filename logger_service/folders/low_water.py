"""The low-water mark: stop before the disk is full, go on when there is room again; decided without I/O.

Rule 1: below the reserve nothing more is asked for. Room is back a quarter above it, so that a disk at the mark is not
switched on and off with every file.
Rule 2: what may come before the next look fits into the room that was found. The disk is looked at once a second, and
earlier when a quarter of that room was written since.
Rule 3: a disk that does not tell its space has room; the error of a write says otherwise in time.
"""

from collections.abc import Callable
from typing import Final

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES

RESERVE_BYTES: Final = 256 * 2**20
# The same on a small disk, as a share of it.
_RESERVE_SHARE: Final = 20
LOOK_SECONDS: Final = 1.0


class LowWater:
    """Watches a disk through ``measure``; ``reserve_bytes`` stay free: None for the default, 0 for no mark.

    ``now`` is a steady time in seconds, ``written_bytes`` what was written to the disk so far, by whoever asks.
    """

    def __init__(self, measure: Callable[[], DiskSpace | None], reserve_bytes: int | None = None) -> None:
        self.space: DiskSpace | None = None
        self.low = False
        self._measure, self._reserve_bytes = measure, reserve_bytes
        self._look_at = float("-inf")
        self._look_at_bytes = 0

    def __repr__(self) -> str:
        return f"<LowWater {'low' if self.low else 'well'}: {self}>"

    def __str__(self) -> str:
        free = "unknown" if self.space is None else f"{self.space.free_bytes:,} bytes"
        return f"{free} free on the disk, {self.reserve_bytes:,} to stay so (--disk_reserve_bytes)"

    @property
    def reserve_bytes(self) -> int:
        """How much is to stay free."""
        if self._reserve_bytes is not None:
            return self._reserve_bytes
        return RESERVE_BYTES if self.space is None else min(RESERVE_BYTES, self.space.total_bytes // _RESERVE_SHARE)

    @property
    def resume_bytes(self) -> int:
        """How much must be free for a disk that was low to be well."""
        return self.reserve_bytes + self.reserve_bytes // 4

    def look(self, now: float, written_bytes: int = 0) -> bool:
        """Look at the disk, if that is due; tell whether it is low now and was not, or the other way round."""
        if now < self._look_at and written_bytes < self._look_at_bytes:
            return False
        self.space = self._measure()
        self._look_at = now + LOOK_SECONDS
        self._look_at_bytes = written_bytes + max(self._room_bytes // 4, BATCH_SIZE_MAX_BYTES)
        was_low = self.low
        free_bytes = float("inf") if self.space is None else self.space.free_bytes
        self.low = free_bytes < (self.resume_bytes if was_low else self.reserve_bytes)
        return self.low != was_low

    @property
    def room_bytes(self) -> int | None:
        """Bytes above the reserve; None without a mark, and for a disk that does not tell its space."""
        return None if self.reserve_bytes == 0 or self.space is None else self._room_bytes

    @property
    def _room_bytes(self) -> int:
        return 2**62 if self.space is None else max(0, self.space.free_bytes - self.reserve_bytes)
