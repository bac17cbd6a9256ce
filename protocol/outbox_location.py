"""Where outboxes live: shared memory where there is some, private to the user."""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

OUTBOX_BYTES: Final = 256 * 2**20
OUTBOX_BYTES_MIN: Final = 2**20
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's shared memory; the folder made in it is private


def outbox_root() -> Path:
    """Return the folder of this user's outboxes, made with mode 0700.

    Raises PermissionError when somebody else made it, or made it readable.
    """
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    root = base / f"tensorboard-sidecar-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{root} is not a private folder of this user; remove it and start again")
    return root


def outbox_capacity_bytes(root: Path, wanted_bytes: int = OUTBOX_BYTES) -> int:
    """Return ``wanted_bytes``, or half of what is free where that is less (Docker's shared memory is 64 MB).

    Raises ValueError for less than OUTBOX_BYTES_MIN, OSError when there is not even that.
    """
    if wanted_bytes < OUTBOX_BYTES_MIN:
        raise ValueError(f"an outbox of {wanted_bytes:,} bytes; expected {OUTBOX_BYTES_MIN:,} or more")
    free_bytes = shutil.disk_usage(root).free
    if free_bytes // 2 < OUTBOX_BYTES_MIN:
        raise OSError(
            errno.ENOSPC,
            f"{free_bytes:,} bytes are free for an outbox, {2 * OUTBOX_BYTES_MIN:,} are needed; free some (docker run "
            f"--shm-size makes more), or see what earlier runs left: python -m trainer.telemetry status",
            str(root),
        )
    return min(wanted_bytes, free_bytes // 2)
