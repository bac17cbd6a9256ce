"""Projects finished recordings into a log directory, once. The result has the same bytes as the result of ``serve``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection, in_stream_order
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.recording_reader import beginning_of, require_recordings

_TURN_SIZE_BYTES: Final = 2**20


class Replayed(NamedTuple):
    """A recording and the counts of its replay: all 0 if the log directory holds its events, or after a ``failure``."""

    folder: Path
    counts: ProjectionCounts
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return printable(f"{self.folder}: not replayed: {self.failure}")
        return f"{self.folder}: {self.counts if self.counts.records else 'already there, 0 new records'}"


def replay(
    paths: Sequence[Path], logdir: Path, progress: Callable[[Replayed], object] = lambda _: None
) -> list[Replayed]:
    """Project the recordings at or below ``paths``; skip the events that the log directory holds.

    ``progress`` receives the present counts after each turn of about 1 MiB. A recording without a valid head is
    reported as a failure; the others are replayed. Raises FileNotFoundError where there is no recording, FolderInUse,
    OSError.
    """
    folders = _in_order(require_recordings(paths))
    suspects = Quarantine()
    with folder_lock(logdir, "--logdir"):
        suspects.open(logdir)
        try:
            return [_replay_one(folder, logdir, suspects, progress) for folder in folders]
        finally:
            suspects.close()


def _replay_one(folder: Path, logdir: Path, suspects: Quarantine, progress: Callable[[Replayed], object]) -> Replayed:
    counts = ProjectionCounts()
    try:
        projection = StreamProjection(folder, logdir, counts, suspects)
    except ProtocolError as error:
        return Replayed(folder, counts, failure=str(error))
    replayed = Replayed(folder, counts)
    try:
        while projection.advance(_TURN_SIZE_BYTES):
            progress(replayed)
    finally:
        projection.close()
    return replayed


def _in_order(folders: Sequence[Path]) -> list[Path]:
    """Return the recordings without a valid head first, then the others in the order of projection."""
    broken, found = [], []
    for folder in folders:
        try:
            found.append((beginning_of(folder), folder))
        except ProtocolError:
            broken.append(folder)
    return broken + in_stream_order(found)
