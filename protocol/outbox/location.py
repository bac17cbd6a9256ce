"""The private folders of a user's outboxes (in shared memory where possible) and of spilled segments (on disk)."""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

OUTBOX_BYTES: Final = 256 * 2**20
OUTBOX_BYTES_MIN: Final = 2**20
SPILL_BYTES: Final = 4 * 2**30
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's shared memory; the folder inside is private
# On disk, and kept over a restart, unlike /tmp. Clusters keep homes on a slow and small server.
_DISK: Final = Path("/var/tmp")  # noqa: S108 - the folder inside is private


def outbox_root(base: Path | None = None) -> Path:
    """Return the folder of this user's outboxes in ``base`` (default: shared memory); make it with mode 0700.

    Raises PermissionError when the folder belongs to another user or is open to others, OSError.
    """
    return _private_folder(base or _usual(_SHARED_MEMORY), "tensorboard-sidecar")


def spill_root(base: Path | None = None) -> Path:
    """Return the folder of this user's spilled segments in ``base`` (default: /var/tmp), like :func:`outbox_root`."""
    return _private_folder(base or _usual(_DISK), "tensorboard-sidecar-spill")


def check_private(folder: Path) -> None:
    """Raise PermissionError when ``folder`` is a link or is open to other users, OSError when it does not exist."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user; remove it and start again")


def outbox_capacity_bytes(root: Path, wanted_bytes: int = OUTBOX_BYTES) -> int:
    """Return ``wanted_bytes``, or half of the free space if that is less (Docker's shared memory is 64 MB).

    Raises ValueError for less than OUTBOX_BYTES_MIN, OSError when the free space is less.
    """
    if wanted_bytes < OUTBOX_BYTES_MIN:
        raise ValueError(f"an outbox of {wanted_bytes:,} bytes; expected {OUTBOX_BYTES_MIN:,} or more")
    free_bytes = shutil.disk_usage(root).free
    if free_bytes // 2 < OUTBOX_BYTES_MIN:
        raise OSError(
            errno.ENOSPC,
            f"{free_bytes:,} bytes are free for an outbox, {2 * OUTBOX_BYTES_MIN:,} are needed; free some (docker run "
            f"--shm-size makes more), or list the outboxes of earlier runs: tensorboard-sidecar status",
            str(root),
        )
    return min(wanted_bytes, free_bytes // 2)


def _usual(base: Path) -> Path:
    return base if os.access(base, os.W_OK) else Path(tempfile.gettempdir())


def _private_folder(base: Path, name: str) -> Path:
    folder = base.absolute() / f"{name}-{os.getuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)
    return folder
