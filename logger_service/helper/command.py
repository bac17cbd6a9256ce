"""The hidden command ``helper``: a client starts it; it takes the lock of its folder, or ends at once."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Final

from tensorboard_sidecar.logger_service.folders.open_files import raise_open_files_limit
from tensorboard_sidecar.logger_service.precedence import let_trainers_run_first
from tensorboard_sidecar.protocol.helper.place import FOLDERS_NAME, LOCK_NAME, LOG_NAME, SOCKET_NAME, read_note
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import outbox_root, spill_root
from tensorboard_sidecar.protocol.storage.durable import FolderHeld, hold_folder

# A place that no helper has used for this long is deleted when it is empty.
_KEPT_SECONDS: Final = 86_400.0
_log = logging.getLogger(__name__)


def add_helper(parser: argparse.ArgumentParser) -> None:
    """Describe ``helper``."""
    parser.add_argument("--place", type=Path, required=True, help="the private folder of the helper")


def helper(options: argparse.Namespace) -> int:
    """Run a helper until it is idle or gets SIGTERM; return 0, also when another helper has the folder."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    let_trainers_run_first()
    raise_open_files_limit()
    try:
        with hold_folder(options.place, LOCK_NAME):
            from tensorboard_sidecar.logger_service.helper.helper import Helper  # noqa: PLC0415 - takes long to load

            adopt_notes(options.place, wall_time_seconds=time())
            found = Helper(options.place, lambda: find_outboxes(*_roots()))
            if os.fork():  # the client learns that the helper listens, and has no child that it must wait for
                os._exit(0)
            found.run(lambda: stopping)
    except FolderHeld:
        _log.info("another helper runs")
    return 0


def adopt_notes(place: Path, *, wall_time_seconds: float) -> None:
    """Take over the notes of helpers beside this one that have ended: what they did not show is shown here.

    A folder that is not there may be in another container: its note stays. The empty place of a helper that ended a day
    ago is deleted: each step of a batch job has a place of its own.
    """
    for other in sorted(place.parent.iterdir()):
        if other == place or not (other / FOLDERS_NAME).is_dir():
            continue
        with suppress(FolderHeld, OSError):
            ended_at_seconds = (other / LOCK_NAME).stat().st_mtime if (other / LOCK_NAME).exists() else float("inf")
            with hold_folder(other, LOCK_NAME):
                for note in (other / FOLDERS_NAME).iterdir():
                    folder = read_note(note)
                    if folder is not None and folder.is_dir():
                        note.replace(place / FOLDERS_NAME / note.name)
                if wall_time_seconds - ended_at_seconds >= _KEPT_SECONDS:
                    _remove_place(other)


def _remove_place(place: Path) -> None:
    """Delete the place of an ended helper whose lock is held. Raises OSError when notes are left."""
    (place / FOLDERS_NAME).rmdir()
    for name in (SOCKET_NAME, LOG_NAME, LOCK_NAME):
        (place / name).unlink(missing_ok=True)
    place.rmdir()


def _roots() -> Iterator[Path]:
    for find_root in (outbox_root, spill_root):
        with suppress(OSError):
            yield find_root()
