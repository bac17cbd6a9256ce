"""Recordings into a log directory, once: the same bytes as ``serve`` writes, runs in the order they were made."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.projection.stream_order import in_stream_order
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.find import beginning_of, require_recordings

_TURN_SIZE_BYTES: Final = 2**20


class Replayed(NamedTuple):
    """A recording and what was written of it: nothing when the log directory held all of it, or with a ``failure``."""

    folder: Path
    counts: Counts
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return printable(f"{self.folder}: not replayed: {self.failure}")
        return f"{self.folder}: {self.counts if self.counts.records else 'already there, 0 new records'}"


def replay(paths: Sequence[Path], logdir: Path, progress: Callable[[Replayed], None] | None = None) -> list[Replayed]:
    """Project the recordings at or below ``paths``; what the log directory holds already is not written again.

    ``progress`` is called with what is done so far after every bounded amount of work. A recording whose head is no
    head is reported and left out. Raises FileNotFoundError where there is no recording, FolderInUse, OSError.
    """
    folders = _in_order(require_recordings(paths))
    suspects = Quarantine()
    with folder_lock(logdir, "--logdir"):
        suspects.open(logdir)
        try:
            return [_replay_one(folder, logdir, suspects, progress) for folder in folders]
        finally:
            suspects.close()


def _replay_one(
    folder: Path, logdir: Path, suspects: Quarantine, progress: Callable[[Replayed], None] | None
) -> Replayed:
    counts = Counts()
    try:
        projection = StreamProjection(folder, logdir, counts, suspects)
    except ProtocolError as error:
        return Replayed(folder, counts, failure=str(error))
    replayed = Replayed(folder, counts)
    try:
        while projection.advance(_TURN_SIZE_BYTES):
            if progress is not None:
                progress(replayed)
    finally:
        projection.close()
    return replayed


def _in_order(folders: Sequence[Path]) -> list[Path]:
    """Return recordings run by run, earlier attempts first: file names within a run's folder only grow."""
    broken, found = [], []
    for folder in folders:
        try:
            found.append((beginning_of(folder), folder))
        except ProtocolError:
            broken.append(folder)
    return broken + in_stream_order(found)
