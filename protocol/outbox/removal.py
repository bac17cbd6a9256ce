"""Deletes a delivered outbox and its spilled segments."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.outbox.destination import DESTINATION_NAMES
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock
from tensorboard_sidecar.protocol.outbox.spill_pointer import ORIGIN_POINTER, SPILL_POINTER
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_SUFFIX

_SUFFIXES: Final = (SEGMENT_SUFFIX, ".spare", ".new")
_NAMES: Final = {SPILL_POINTER, ORIGIN_POINTER, *DESTINATION_NAMES, OWNER_LOCK}


def remove_spill(outbox: Path, spill: OwnerLock) -> None:
    """Delete the spill pointer, then the spill folder: a kill in between leaves two complete outboxes."""
    with suppress(OSError):
        (outbox / SPILL_POINTER).unlink(missing_ok=True)
        remove_outbox(spill)


def remove_outbox(owner: OwnerLock) -> None:
    """Delete the outbox that ``owner`` locks: segments first, then the destination, the lock last.

    After a kill in between, the remains still name their destination. Foreign files, and files that cannot be deleted,
    stay.
    """
    with suppress(OSError):
        folder = owner.open_folder()
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.name in _NAMES or entry.name.endswith(_SUFFIXES)]
            for name in sorted(names, key=lambda name: (name == OWNER_LOCK, not name.endswith(SEGMENT_SUFFIX))):
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
        owner.folder.rmdir()
