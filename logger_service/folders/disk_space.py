"""The size and the free space of a disk."""

import os
from pathlib import Path
from typing import NamedTuple


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
