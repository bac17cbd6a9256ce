"""Verifies recordings and log directories by reading every byte: everything is there, exactly once.

A recording is lossy when records are missing (refused by the trainer, or lost on the way), damaged or malformed. A log
directory is lossy when a file is damaged, when an event is missing between the first and the last event of its stream,
when an event is there twice, or when a gap among the events says that records are missing. A log directory does not
tell whether events are missing after the last event: verify the recording too.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tensorboard_sidecar.logger_service.events.audit import audit
from tensorboard_sidecar.logger_service.events.embedding_projector import MARKER_FILE_SUFFIX
from tensorboard_sidecar.logger_service.events.event_file import EventFileName
from tensorboard_sidecar.logger_service.offline.inspection import losses, read_contents
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.recording_reader import find_recordings


@dataclass(frozen=True, slots=True)
class Verification:
    """Result: ``lines`` for people, and ``lossy`` when anything is missing, damaged or there twice."""

    lines: tuple[str, ...]
    lossy: bool

    def __str__(self) -> str:
        return "\n".join(map(printable, self.lines))


def verify(path: Path) -> Verification:
    """Verify every recording and every folder of event files at or below ``path``.

    Raises FileNotFoundError when there is neither, OSError.
    """
    parts = [_verify_recording(folder) for folder, _ in find_recordings(path)]
    parts += [_verify_events(folder) for folder in _event_folders(path)]
    if not parts:
        raise FileNotFoundError(f"neither recordings nor event files at or below {path}")
    lossy = any(part.lossy for part in parts)
    return Verification(tuple(line for part in parts for line in part.lines), lossy)


def _verify_recording(folder: Path) -> Verification:
    try:
        found = read_contents(folder)
    except ProtocolError as error:
        return Verification((f"{folder}: lossy", f"  not readable: {error}"), lossy=True)
    head = f"{folder}: {'lossy' if found.lossy else 'complete'}, {found.records.total():,} records"
    return Verification((head, *losses(found)), found.lossy)


def _verify_events(folder: Path) -> Verification:
    found = audit(folder)
    head = f"{folder}: {'lossy' if found.losses else 'complete'}, {found.events:,} events in {found.files:,} files"
    lines = [f"  {loss}" for loss in found.losses] + [f"  note: {note}" for note in found.notes]
    if found.foreign_events:
        lines.append(f"  note: {found.foreign_events:,} events of another program")
    return Verification((head, *lines), bool(found.losses))


def _event_folders(path: Path) -> Iterator[Path]:
    """Yield the folders with event files, sorted; skip the markers of the embedding projector."""
    for folder, folders, files in os.walk(path):
        folders.sort()
        names = [name for name in files if name.startswith("events.out.tfevents.")]
        if any(not name.endswith(MARKER_FILE_SUFFIX) or EventFileName.parse(name) for name in names):
            yield Path(folder)
