"""The journal: one recording per stream; all of them become durable together.

Appending is a write, durability is an fdatasync, and one fdatasync covers all writes before it. Group commit: appends
gather until the oldest has waited for the commit interval, or until there are enough bytes; then every changed file is
synced. Only records before ``durable_sequence`` may be acknowledged.

What "full" means: the open files are bounded. Beyond the bound, the file with the oldest write is closed; when all open
files wait for a commit, a commit is due at once. A stream that comes back continues in the same file.

The owner of a stream is the key that opened the stream. No other key may continue the stream, also after a restart: a
small file beside the segments holds the name of the key, and is durable before the first record. Without keys there is
no such file, and any peer that knows the id of a stream may continue the stream.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from tensorboard_sidecar.logger_service.counters import Durations
from tensorboard_sidecar.logger_service.folders.low_water import LowWater, measure_disk
from tensorboard_sidecar.logger_service.limits import STREAMS_MAX
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.storage.durable import write_file
from tensorboard_sidecar.protocol.storage.key_files import check_key_name
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream

# The longest wait of a record for its fdatasync, which covers all records that wait.
COMMIT_INTERVAL_SECONDS: Final = 0.05
# Commit at once when this many bytes wait.
COMMIT_SIZE_BYTES: Final = 8 * 2**20
OWNER_NAME: Final = "key-name"
_NAME_MAX_BYTES: Final = 64


class NotItsOwner(ProtocolError):
    """The stream belongs to another key, or its owner cannot be read."""


class GroupCommit:
    """Decides when a commit is due; ``changed`` holds the ids of the streams that wait for a commit."""

    def __init__(self, interval_seconds: float, size_bytes: int) -> None:
        self.changed: dict[bytes, None] = {}
        self._interval_seconds, self._size_bytes = interval_seconds, size_bytes
        self._waiting_bytes = 0
        self._oldest_at = 0.0

    def appended(self, stream_id: bytes, size_bytes: int, now_seconds: float) -> None:
        """Note an append."""
        if not self.changed:
            self._oldest_at, self._waiting_bytes = now_seconds, 0
        self.changed[stream_id] = None
        self._waiting_bytes += size_bytes

    def due_at(self, *, at_once: bool) -> float:
        """Return the time of the next commit: infinity when nothing waits; in the past when many bytes wait."""
        if not self.changed:
            return float("inf")
        full = at_once or self._waiting_bytes >= self._size_bytes
        return self._oldest_at if full else self._oldest_at + self._interval_seconds

    def done(self) -> None:
        """Note that all changed streams were synced."""
        self.changed, self._waiting_bytes = {}, 0


class Journal:
    """The recordings ``<folder>/<run>/<stream>``; ``now_seconds`` is monotonic, ``wall_time_ns`` stamps segments.

    ``low_water`` watches the disk of ``folder``. ``sync_durations`` counts the seconds of each fdatasync by ``clock``.
    """

    def __init__(
        self,
        folder: Path,
        wall_time_ns: Callable[[], int],
        *,
        commit_interval_seconds: float = COMMIT_INTERVAL_SECONDS,
        commit_size_bytes: int = COMMIT_SIZE_BYTES,
        open_files_max: int = STREAMS_MAX,
        disk_reserve_bytes: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.low_water = LowWater(lambda: measure_disk(folder), disk_reserve_bytes)
        self.sync_durations = Durations()
        self._clock = clock
        self._folder, self._wall_time_ns = folder, wall_time_ns
        self._open_files_max = open_files_max
        self._writers: dict[bytes, RecordingWriter] = {}
        self._open: OrderedDict[bytes, None] = OrderedDict()  # streams whose file is open, oldest write first
        self._group_commit = GroupCommit(commit_interval_seconds, commit_size_bytes)

    def __repr__(self) -> str:
        changed = len(self._group_commit.changed)
        return f"<Journal of {len(self._writers)} streams, {changed} to commit, {len(self._open)} open>"

    def open(self, stream: Stream, first_held_sequence: int, owner: str = "") -> None:
        """Open the stream's recording if there is one; the first append makes a recording that is missing.

        ``first_held_sequence`` is the first record that the trainer can send again; ``owner`` is the name of the
        trainer's key. Raises Malformed for a recording that is damaged or holds another stream, UnsupportedVersion for
        the recording of a newer logger, OSError.
        """
        if stream.id not in self._writers and self._path(stream).is_dir():
            self._make_writer(stream, first_held_sequence, owner)

    def next_sequence(self, stream: Stream) -> int:
        """Return the sequence number with which the next batch of an open stream must begin."""
        writer = self._writers.get(stream.id)
        return 1 if writer is None else writer.next_sequence

    def durable_sequence(self, stream: Stream) -> int:
        """Return the sequence number before which all records of an open stream survive a power loss."""
        writer = self._writers.get(stream.id)
        return 1 if writer is None else writer.durable_sequence

    def check_owner(self, stream: Stream, owner: str, open_as: str) -> None:
        """Raise NotItsOwner when the stream belongs to another key than ``owner``; see :func:`check_owner`."""
        check_owner(self._path(stream), owner, open_as)

    def append(self, stream: Stream, batch: FrameBatch, now_seconds: float, owner: str = "") -> None:
        """Append a batch that begins at ``next_sequence``. Before the first batch, ``owner`` becomes durable.

        Raises OSError; ``next_sequence`` then goes back to ``durable_sequence``.
        """
        writer = self._writers.get(stream.id)
        if writer is None:
            writer = self._make_writer(stream, 1, owner)
        try:
            writer.append(batch)
        except OSError:
            self._open.pop(stream.id, None)
            self._group_commit.changed.pop(stream.id, None)
            raise
        self._group_commit.appended(stream.id, len(batch.frames), now_seconds)
        self._open[stream.id] = None
        self._open.move_to_end(stream.id)
        self._suspend_surplus()

    @property
    def commit_at(self) -> float:
        """The time at which a commit is due; infinity: there is nothing to commit."""
        return self._group_commit.due_at(at_once=len(self._open) > self._open_files_max)

    def commit(self) -> list[tuple[Stream, OSError | None]]:
        """Make all appended records durable; return every stream that had changed, and its error.

        After an error, all records of the stream from ``durable_sequence`` on are lost.
        """
        committed: list[tuple[Stream, OSError | None]] = []
        for stream_id in self._group_commit.changed:
            writer, failure = self._writers[stream_id], None
            began_at = self._clock()
            try:
                writer.sync()
            except OSError as error:
                failure = error
                del self._open[stream_id]
            self.sync_durations.add(self._clock() - began_at)
            committed.append((writer.stream, failure))
        self._group_commit.done()
        self._suspend_surplus()
        return committed

    def forget(self, stream: Stream) -> None:
        """Close a stream that is committed."""
        self._open.pop(stream.id, None)
        if stream.id in self._writers:
            with suppress(OSError):  # all records are durable, so an error of close means nothing
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

    def _suspend_surplus(self) -> None:
        """LRU: beyond ``open_files_max``, close the files with the oldest writes, as far as they are committed."""
        changed = self._group_commit.changed
        while len(self._open) > self._open_files_max and (oldest := next(iter(self._open))) not in changed:
            del self._open[oldest]
            with suppress(OSError):
                self._writers[oldest].suspend()

    def _path(self, stream: Stream) -> Path:
        path = self._folder / stream.run / stream.folder_name
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder)):
            raise Malformed(f"run {stream.run!r} leads out of {self._folder} by a symbolic link")
        return path


def check_owner(folder: Path, name: str, open_as: str) -> None:
    """Raise NotItsOwner when the stream in ``folder`` belongs to another key than ``name``.

    ``open_as`` is the key that has the stream open now, empty when the stream is closed. Without keys ``name`` is
    empty, and any peer may continue the stream.
    """
    owner = (open_as or _read_owner(folder)) if name else ""
    if owner and owner != name:
        raise NotItsOwner(f"the stream belongs to key {owner}, not to {name}; only {owner} may continue the stream")


def note_owner(folder: Path, name: str) -> None:
    """Write the owner of the stream in ``folder``, unless the stream has one; the file is durable on return.

    A stream that began without a key belongs to the first key that continues the stream. Raises OSError, NotItsOwner.
    """
    if name and not _read_owner(folder):
        write_file(folder / OWNER_NAME, name.encode())


def _read_owner(folder: Path) -> str:
    """Return the name of the key that a stream belongs to, empty without an owner. Raises BadKey for no valid name."""
    try:
        file = os.open(folder / OWNER_NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise NotItsOwner(f"the owner of the stream cannot be read: {OWNER_NAME} is no file")
            name = os.read(file, _NAME_MAX_BYTES + 1).decode("ascii", "replace")
        finally:
            os.close(file)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NotItsOwner(f"the owner of the stream cannot be read: {error.strerror}") from None
    return check_key_name(name) if name else ""
