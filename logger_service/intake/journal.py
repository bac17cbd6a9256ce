"""The journal: a recording for each stream, made durable together.

Appending is a write, durability an fdatasync, and one fdatasync serves all that came before it. So appends gather until
the oldest has waited for the commit interval or there are enough bytes; then every file that changed is synced. What is
before ``durable_sequence`` may be acknowledged, nothing else.

Open files are few: when there is one too many, the one that was not written for longest is closed, or, where all of
them are to be committed, a commit is due. A stream that comes back goes on in the same file.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from tensorboard_sidecar.logger_service.folders.disk_space import measure_disk
from tensorboard_sidecar.logger_service.folders.low_water import LowWater
from tensorboard_sidecar.logger_service.intake.durations import Durations
from tensorboard_sidecar.logger_service.intake.stream_owner import check_owner, note_owner
from tensorboard_sidecar.logger_service.limits import STREAMS_MAX
from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream


class Committed(NamedTuple):
    """How a commit went for one stream; after an error, all from ``durable_sequence`` on is needed again."""

    stream: Stream
    error: OSError | None


class Journal:
    """Recordings ``<folder>/<run>/<stream>``; ``now`` is a steady time in seconds, ``wall_time_ns`` stamps segments.

    ``low_water`` watches the disk they lie on, ``sync_durations`` says how long an fdatasync takes by ``clock``.
    """

    def __init__(
        self,
        folder: Path,
        wall_time_ns: Callable[[], int],
        *,
        commit_interval_seconds: float,
        commit_size_bytes: int,
        open_files_max: int = STREAMS_MAX,
        disk_reserve_bytes: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.low_water = LowWater(lambda: measure_disk(folder), disk_reserve_bytes)
        self.sync_durations = Durations()
        self._clock = clock
        self._folder, self._wall_time_ns = folder, wall_time_ns
        self._commit_interval_seconds, self._commit_size_bytes = commit_interval_seconds, commit_size_bytes
        self._open_files_max = open_files_max
        self._writers: dict[bytes, RecordingWriter] = {}
        self._open: OrderedDict[bytes, None] = OrderedDict()
        self._changed: dict[bytes, None] = {}
        self._unsynced_bytes = 0
        self._changed_at = 0.0

    def __repr__(self) -> str:
        return f"<Journal of {len(self._writers)} streams, {len(self._changed)} to commit, {len(self._open)} open>"

    def open(self, stream: Stream, first_held_sequence: int, owner: str = "") -> None:
        """Find the stream's recording; where there is none, none is made before something comes.

        ``first_held_sequence`` is the first number that its trainer, with the key ``owner``, can send again. Raises
        Malformed for a recording that is damaged or somebody else's, UnsupportedVersion for a newer logger's, OSError.
        """
        if stream.id not in self._writers and self._path(stream).is_dir():
            self._make_writer(stream, first_held_sequence, owner)

    def next_sequence(self, stream: Stream) -> int:
        """Return what the next run of an open stream must begin with."""
        writer = self._writers.get(stream.id)
        return 1 if writer is None else writer.next_sequence

    def durable_sequence(self, stream: Stream) -> int:
        """Return the number before which all of an open stream survives a power loss."""
        writer = self._writers.get(stream.id)
        return 1 if writer is None else writer.durable_sequence

    def check_owner(self, stream: Stream, owner: str, open_as: str) -> None:
        """Raise NotItsOwner when another key than ``owner`` opened the stream; ``open_as``: it is open for that one."""
        check_owner(self._path(stream), owner, open_as)

    def append(self, stream: Stream, run: FrameBatch, now: float, owner: str = "") -> None:
        """Append a run that begins at ``next_sequence``, the first one of a stream once its ``owner`` is on disk.

        Raises OSError; the stream then goes back to durable.
        """
        writer = self._writers.get(stream.id)
        if writer is None:
            writer = self._make_writer(stream, 1, owner)
        try:
            writer.append(run)
        except OSError:
            self._open.pop(stream.id, None)
            self._changed.pop(stream.id, None)
            raise
        if not self._changed:
            self._changed_at, self._unsynced_bytes = now, 0
        self._changed[stream.id] = None
        self._open[stream.id] = None
        self._open.move_to_end(stream.id)
        self._unsynced_bytes += len(run.frames)
        self._rest_some()

    @property
    def commit_at(self) -> float:
        """When a commit is due: infinity while there is nothing to commit."""
        if not self._changed:
            return float("inf")
        full = self._unsynced_bytes >= self._commit_size_bytes or len(self._open) > self._open_files_max
        return self._changed_at if full else self._changed_at + self._commit_interval_seconds

    def commit(self) -> list[Committed]:
        """Make all that was appended durable; tell how it went for every stream that had changed."""
        committed = []
        for stream_id in self._changed:
            writer, failure = self._writers[stream_id], None
            began_at = self._clock()
            try:
                writer.sync()
            except OSError as error:
                failure = error
                del self._open[stream_id]
            self.sync_durations.add(self._clock() - began_at)
            committed.append(Committed(writer.stream, failure))
        self._changed, self._unsynced_bytes = {}, 0
        self._rest_some()
        return committed

    def forget(self, stream: Stream) -> None:
        """Let go of a stream that is committed."""
        self._open.pop(stream.id, None)
        if stream.id in self._writers:
            with suppress(OSError):  # everything in it is durable: what close says is of no more interest
                self._writers.pop(stream.id).close()

    def _make_writer(self, stream: Stream, first_held_sequence: int, owner: str) -> RecordingWriter:
        writer = RecordingWriter(
            self._path(stream),
            stream,
            wall_time_ns=self._wall_time_ns(),
            first_held_sequence=first_held_sequence,
            root=self._folder,
        )
        note_owner(writer.folder, owner)
        self._writers[stream.id] = writer
        return writer

    def _rest_some(self) -> None:
        """Close the files that were not written for longest, as far as they are committed; those come first."""
        while len(self._open) > self._open_files_max and (longest := next(iter(self._open))) not in self._changed:
            del self._open[longest]
            with suppress(OSError):
                self._writers[longest].rest()

    def _path(self, stream: Stream) -> Path:
        path = self._folder / stream.run / stream.folder_name
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder)):
            raise Malformed(f"run {stream.run!r} leads out of {self._folder} by a symbolic link")
        return path
