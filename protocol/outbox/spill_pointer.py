"""A small file in an outbox that names the folder on disk to which its oldest segments were moved.

That folder holds segments and an owner's lock like the outbox itself; both together are the stream. The file is there
from before the first segment lies on disk until the outbox ends. When it names a folder that is not there, records are
missing, and nobody may take the rest for all.

A file in the folder on disk names the outbox in return: while that is there, the folder is no outbox by itself, and
nobody may take it for all either.
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
    """Have the folders ``outbox`` and ``spill``, absolute paths, name each other; both go to the same place.

    Raises OSError.
    """
    write_destination(spill, read_destination(outbox))
    write_file(spill / ORIGIN_POINTER, os.fsencode(outbox))
    write_file(outbox / SPILL_POINTER, os.fsencode(spill))


def read_spill_pointer(outbox: Path) -> Path | None:
    """Return the folder that ``outbox`` names, None when it names none.

    Raises Malformed when the file holds no absolute path, FileNotFoundError when the folder is not there,
    PermissionError when it is not this user's alone.
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
    """Tell whether ``spill`` holds what an outbox spilled that is still there."""
    try:
        outbox = _read_path(spill / ORIGIN_POINTER)
        return outbox is not None and _read_path(outbox / SPILL_POINTER) == spill
    except (Malformed, OSError):
        return False


def _read_path(pointer: Path) -> Path | None:
    """Return the absolute path that a file holds, None when there is none; raise Malformed, OSError."""
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
