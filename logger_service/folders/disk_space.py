"""How much room a disk has."""

import os
from pathlib import Path
from typing import NamedTuple


class DiskSpace(NamedTuple):
    """What a file system says of itself; ``free_bytes`` are those that this user may still write."""

    free_bytes: int
    total_bytes: int


def measure_disk(folder: Path) -> DiskSpace | None:
    """Return the space of the disk that ``folder`` lies on, or None where that cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    if found.f_blocks == 0:  # some file systems of networks and user space have no answer
        return None
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
