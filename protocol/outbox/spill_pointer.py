"""A small file in an outbox that names the spill folder: the folder on disk that holds the oldest segments.

The spill folder holds segments and an owner's lock, like the outbox. Both folders together hold the stream. The pointer
exists from before the first segment is spilled until the outbox is deleted. When the spill folder is missing, records
are missing, and the outbox must not be delivered as if complete.

A file in the spill folder names the outbox in return. While that outbox exists, the spill folder is not an outbox by
itself.
"""

import os
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.destination import read_destination, write_destination
from tensorboard_sidecar.protocol.outbox.location import check_private
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.protocol.storage.durable import write_file

SPILL_POINTER: Final = "spilled"
ORIGIN_POINTER: Final = "spilled_from"
_PATH_MAX_BYTES: Final = 4096


def write_spill_pointer(outbox: Path, spill: Path) -> None:
    """Make ``outbox`` and ``spill`` (absolute paths) name each other, and copy the destination to ``spill``.

    Raises OSError.
    """
    write_destination(spill, read_destination(outbox))
    write_file(spill / ORIGIN_POINTER, os.fsencode(outbox))
    write_file(outbox / SPILL_POINTER, os.fsencode(spill))


def read_spill_pointer(outbox: Path) -> Path | None:
    """Return the spill folder of ``outbox``, None without a pointer.

    Raises Malformed when the pointer holds no absolute path, FileNotFoundError when the spill folder does not exist,
    PermissionError when the spill folder is open to other users.
    """
    spill = _read_path(outbox / SPILL_POINTER)
    if spill is None:
        return None
    if not (spill / OWNER_LOCK).exists():
        raise FileNotFoundError(
            f"records of {outbox} were moved to {spill}, which is not there; bring it back, or give them up by "
            f"deleting {outbox / SPILL_POINTER}"
        )
    check_private(spill)
    return spill


def is_part_of_outbox(spill: Path) -> bool:
    """Return whether ``spill`` is the spill folder of an outbox that still exists."""
    try:
        outbox = _read_path(spill / ORIGIN_POINTER)
        return outbox is not None and _read_path(outbox / SPILL_POINTER) == spill
    except (Malformed, OSError):
        return False


def _read_path(pointer: Path) -> Path | None:
    """Return the absolute path in a file, None without the file; raise Malformed, OSError."""
    try:
        file = os.open(pointer, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        named = os.read(file, _PATH_MAX_BYTES)
    finally:
        os.close(file)
    if not named.startswith(b"/") or b"\0" in named:
        raise Malformed(f"{pointer} holds {named!r:.80}; expected the path of a folder")
    return Path(os.fsdecode(named))
