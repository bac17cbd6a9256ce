"""The low-water mark: stop before the disk is full, continue when there is room again.

Rule 1: with less free space than the reserve, give no credit. The disk counts as well again a quarter above the
reserve, so that a disk at the mark does not switch with every file (hysteresis).
Rule 2: the records that may arrive before the next measurement fit into the measured room. Measure once a second, and
earlier when a quarter of that room was written since.
Rule 3: a disk that does not report its space counts as well; a failing write reports a full disk in time.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES

RESERVE_BYTES: Final = 256 * 2**20
# On a small disk the reserve is this share of the disk: a twentieth.
_RESERVE_SHARE: Final = 20
LOOK_SECONDS: Final = 1.0


class DiskSpace(NamedTuple):
    """The figures of a file system; ``free_bytes``: as many bytes may this user still write."""

    free_bytes: int
    total_bytes: int


def measure_disk(folder: Path) -> DiskSpace | None:
    """Return the space of the disk of ``folder``; None if the file system does not report its space.

    >>> measure_disk(Path("/no/such/folder")) is None
    True
    """
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    if found.f_blocks == 0:  # as some network and user-space file systems report
        return None
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class LowWater:
    """Decides from the measurements of a disk whether there is room. Attribute ``low``: there is none.

    ``reserve_bytes`` stay free; None: 256 MiB or 5 % of the disk; 0: off. ``now_seconds`` is monotonic time;
    ``written_bytes`` is the number of bytes that the caller has written to the disk so far.

    >>> mark = LowWater(lambda: DiskSpace(free_bytes=900, total_bytes=9000), reserve_bytes=1000)
    >>> mark.look(0.0), mark.low
    (True, True)
    """

    def __init__(self, measure: Callable[[], DiskSpace | None], reserve_bytes: int | None = None) -> None:
        self.space: DiskSpace | None = None
        self.low = False
        self._measure, self._reserve_bytes = measure, reserve_bytes
        self._look_at = float("-inf")
        self._look_at_bytes = 0

    def __str__(self) -> str:
        free = "unknown" if self.space is None else f"{self.space.free_bytes:,} bytes"
        return f"{free} free on the disk, reserve {self.reserve_bytes:,} (--disk_reserve_bytes)"

    @property
    def reserve_bytes(self) -> int:
        """The bytes that stay free."""
        if self._reserve_bytes is not None:
            return self._reserve_bytes
        return RESERVE_BYTES if self.space is None else min(RESERVE_BYTES, self.space.total_bytes // _RESERVE_SHARE)

    def look(self, now_seconds: float, written_bytes: int = 0) -> bool:
        """Measure the disk, if a measurement is due; tell whether ``low`` has changed."""
        if now_seconds < self._look_at and written_bytes < self._look_at_bytes:
            return False
        self.space = self._measure()
        self._look_at = now_seconds + LOOK_SECONDS
        room_bytes = 2**62 if self.room_bytes is None else self.room_bytes
        self._look_at_bytes = written_bytes + max(room_bytes // 4, BATCH_SIZE_MAX_BYTES)
        was_low, reserve_bytes = self.low, self.reserve_bytes
        free_bytes = float("inf") if self.space is None else self.space.free_bytes
        self.low = free_bytes < (reserve_bytes + reserve_bytes // 4 if was_low else reserve_bytes)
        return self.low != was_low

    @property
    def room_bytes(self) -> int | None:
        """Bytes above the reserve; None without a mark, and for a disk that does not tell its space."""
        if self.reserve_bytes == 0 or self.space is None:
            return None
        return max(0, self.space.free_bytes - self.reserve_bytes)
