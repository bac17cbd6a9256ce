"""Projects finished recordings into a log directory, once. The result has the same bytes as the result of ``serve``."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.folders.logger_lock import FolderInUse, folder_lock
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import (
    NOT_SHOWN,
    StreamProjection,
    belongs_to,
    in_stream_order,
    shows_something,
)
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.recording_reader import beginning_of, require_recordings
from tensorboard_sidecar.protocol.stream import Stream

_TURN_SIZE_BYTES: Final = 2**20


class Replayed(NamedTuple):
    """A recording and the counts of its replay.

    All counts are 0 if the log directory holds the events, after a ``failure``, and where the recording has nothing to
    show (``silent`` is then the name of the run).
    """

    folder: Path
    counts: ProjectionCounts
    failure: str = ""
    silent: str = ""

    def __str__(self) -> str:
        if self.failure:
            return printable(f"{self.folder}: not replayed: {self.failure}")
        if self.silent:
            return printable(f"{self.folder}: run {self.silent}: {NOT_SHOWN}")
        return f"{self.folder}: {self.counts if self.counts.records else 'already there, 0 new records'}"


def replay(
    paths: Sequence[Path], logdir: Path, progress: Callable[[Replayed], object] = lambda _: None
) -> list[Replayed]:
    """Project the recordings at or below ``paths``; skip the events that the log directory holds.

    ``progress`` receives the present counts after each turn of about 1 MiB. A recording without a valid head is
    reported as a failure; the others are replayed. Raises FileNotFoundError where there is no recording, FolderInUse,
    OSError.
    """
    found = _in_order(require_recordings(paths))
    begun = _begun_streams(found)
    suspects = Quarantine()
    with ExitStack() as locks:
        for place in {lock_place(folder, logdir) for folder, _ in found}:
            locks.enter_context(_lock(place, logdir))
            suspects.open(place)
        try:
            return [
                _replay_one(folder, logdir, suspects, progress, begun=stream is not None and stream.id in begun)
                for folder, stream in found
            ]
        finally:
            suspects.close()


@contextmanager
def _lock(place: Path, logdir: Path) -> Iterator[None]:
    """Hold the lock of a folder that event files are written to. Raises FolderInUse, OSError."""
    with ExitStack() as lock:
        try:
            lock.enter_context(folder_lock(place, "--logdir"))
        except FolderInUse as error:
            if place == logdir:
                raise
            raise FolderInUse(
                f"a running helper makes the event files in {logdir} already; `tensorboard-sidecar status` says how far"
                " it is"
            ) from error
        yield


def lock_place(recording: Path, logdir: Path) -> Path:
    """Return the folder whose lock a process holds that shows ``recording`` in ``logdir``."""
    return logdir / RECORDING_NAME if belongs_to(recording, logdir) else logdir


def _replay_one(
    folder: Path, logdir: Path, suspects: Quarantine, progress: Callable[[Replayed], object], *, begun: bool
) -> Replayed:
    counts = ProjectionCounts()
    try:
        projection = StreamProjection(folder, logdir, counts, suspects, begun=begun)
    except ProtocolError as error:
        return Replayed(folder, counts, failure=str(error))
    replayed = Replayed(folder, counts)
    try:
        while projection.advance(_TURN_SIZE_BYTES):
            progress(replayed)
    finally:
        projection.close()
    return replayed._replace(silent=projection.stream.run) if projection.silent else replayed


def _in_order(folders: Sequence[Path]) -> list[tuple[Path, Stream | None]]:
    """Return the recordings without a valid head first, then the others, with stream, in the order of projection."""
    broken: list[tuple[Path, Stream | None]] = []
    found = []
    for folder in folders:
        try:
            begin = beginning_of(folder)
        except ProtocolError:
            broken.append((folder, None))
        else:
            found.append((begin, (folder, begin.stream)))
    return [*broken, *in_stream_order(found)]


def _begun_streams(found: Sequence[tuple[Path, Stream | None]]) -> set[bytes]:
    """Return the ids of the streams with two or more recordings of which one shows something.

    The journal of such a stream may hold its first record alone, and the rest of an outbox the others.
    """
    folders: defaultdict[bytes, list[Path]] = defaultdict(list)
    for folder, stream in found:
        if stream is not None:
            folders[stream.id].append(folder)
    return {identity for identity, several in folders.items() if several[1:] and any(map(shows_something, several))}
