"""Writing a recording on disk: append batches of framed records, make them durable, begin new segments.

What "full" means: a segment accepts batches until the next batch would pass the segment's size. A full disk is an
OSError of ``append`` or ``sync``. After an error, the records that were not durable are not trusted: the writer cuts
them off, goes back to ``durable_sequence`` and begins a new segment there. A failed fsync may have dropped pages that a
second fsync would report as written.

Only the writer that made a segment appends to the segment, and never after a cut: the position of a reader stays valid.
A suspended writer has closed its file; the writer opens the same file again if nobody changed the file meanwhile. Where
two segments hold the same sequence number, readers use the later segment.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.limits import SEGMENT_SIZE_MAX_BYTES, SEQUENCE_MAX
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, parse_sequence
from tensorboard_sidecar.protocol.storage.durable import sync_file, sync_folder, unsynced_parents
from tensorboard_sidecar.protocol.storage.segment import (
    SegmentFile,
    list_segments,
    pack_segment_head,
    read_stream,
    segment_path,
)
from tensorboard_sidecar.protocol.stream import Stream

_APPEND_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class SegmentAppender:
    """The file of the segment that a writer appends to; closed at first. All methods raise OSError, but ``cut``."""

    def __init__(self) -> None:
        self.durable_size_bytes = self.size_bytes = 0
        self._path = Path()
        self._file = -1
        self._suspended: os.stat_result | None = None  # the file as it was when it was closed for a while

    @property
    def is_open(self) -> bool:
        """Tell whether the file is open."""
        return self._file >= 0

    @property
    def _unfinished(self) -> Path:
        return self._path.with_suffix(".new")

    def begin(self, path: Path, *data: memoryview | bytes) -> None:
        """Make and open the segment ``path`` with durable ``data``; :meth:`publish` gives the file its name."""
        self._path = path
        self._unfinished.unlink(missing_ok=True)
        self.size_bytes = self.durable_size_bytes = 0
        self._file = os.open(self._unfinished, _APPEND_FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        for part in data:
            self.write(part)
        self.sync()

    def publish(self) -> None:
        """Let the segment appear under its name, durably. Before, the folder holds no file of that name."""
        self._unfinished.replace(self._path)
        sync_folder(self._path.parent)

    def write(self, data: memoryview | bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            written = os.write(self._file, view)
            self.size_bytes += written
            view = view[written:]

    def sync(self) -> None:
        """Make all bytes durable."""
        os.fdatasync(self._file)
        self.durable_size_bytes = self.size_bytes

    def suspend(self) -> None:
        """Close the file for a while; :meth:`resume` opens the file again."""
        if self.is_open:
            self._suspended = os.fstat(self._file)
            self._close_file()

    def resume(self) -> None:
        """Open a suspended file again, unless the file was changed, replaced or deleted meanwhile."""
        before, self._suspended = self._suspended, None
        if before is None:
            return
        with suppress(FileNotFoundError):
            self._file = os.open(self._path, _APPEND_FLAGS)
            found = os.fstat(self._file)
            if not os.path.samestat(found, before) or found.st_size != before.st_size:
                self._close_file()

    def cut(self) -> None:
        """Cut off the bytes that are not durable, and close the file for good. Raises nothing."""
        with suppress(OSError):  # bytes that cannot be cut off are damage to readers; the records come again
            if self.is_open:
                os.ftruncate(self._file, self.durable_size_bytes)
        with suppress(OSError):  # close may report the error that led here once more
            self._close_file()

    def close(self) -> None:
        """Close the file for good."""
        self._suspended = None
        self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class RecordingWriter:
    """Appends to the recording of ``stream`` in ``folder``; makes the recording, or continues after the last record.

    The next batch must begin at ``next_sequence``. All records before ``durable_sequence`` survive a power loss.
    ``first_held_sequence`` is the first record that can come again: when a power loss tore a hole behind that record,
    the writer continues at the hole. ``wall_time_ns`` stamps the segment heads. ``root``: see ``make_folder``. Raises
    OSError, Malformed when the folder holds another stream, UnsupportedVersion when a newer program wrote the folder.
    """

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        *,
        wall_time_ns: int,
        first_held_sequence: int = SEQUENCE_MAX,
        segment_size_max_bytes: int = SEGMENT_SIZE_MAX_BYTES,
        root: Path | None = None,
    ) -> None:
        self.folder, self.stream = folder, stream
        self._wall_time_ns = wall_time_ns
        self._segment_size_max_bytes = segment_size_max_bytes
        self._segment = SegmentAppender()
        self.next_sequence = 1
        self._unsynced = unsynced_parents(folder, root)
        folder.mkdir(parents=True, exist_ok=True)
        segments = list_segments(folder)
        if segments:
            self._sync_folders()
            self._continue(segments, first_held_sequence)
        self.durable_sequence = self.next_sequence

    def __repr__(self) -> str:
        return f"<RecordingWriter {self.folder.name} next {self.next_sequence} durable {self.durable_sequence}>"

    def append(self, batch: FrameBatch) -> None:
        """Append a batch. Raises Malformed when the batch does not begin at ``next_sequence``.

        The first batch of a segment is durable on return. Raises OSError; ``next_sequence`` then goes back to
        ``durable_sequence``.
        """
        if batch.first_sequence != self.next_sequence:
            raise Malformed(f"a batch from {batch.first_sequence} where {self.next_sequence} is due")
        try:
            self._segment.resume()
            size_bytes = self._segment.size_bytes + len(batch.frames)
            if self._segment.is_open and size_bytes <= self._segment_size_max_bytes:
                self._segment.write(batch.frames)
            else:
                self._begin_segment(batch)
        except OSError:
            self._go_back()
            raise
        self.next_sequence = batch.next_sequence

    def sync(self) -> None:
        """Make all records durable. Raises OSError; ``next_sequence`` then goes back to ``durable_sequence``."""
        if self._segment.is_open and self.durable_sequence != self.next_sequence:
            try:
                self._segment.sync()
            except OSError:
                self._go_back()
                raise
        self.durable_sequence = self.next_sequence

    def suspend(self) -> None:
        """Make all records durable and close the file; an append opens the file again. Raises as ``sync``."""
        self.sync()
        self._segment.suspend()

    def close(self) -> None:
        """Make all records durable and close the file. A second call does nothing; an append begins a new segment."""
        try:
            self.sync()
        finally:
            self._segment.close()

    def _begin_segment(self, batch: FrameBatch) -> None:
        """Finish the current segment, and make the next with a batch: one sync makes head and batch durable.

        The sync of the file comes first: where a file system has one log for all its changes, that sync makes the new
        folders durable too, and the syncs of the folders have nothing left to write.
        """
        if self._segment.is_open:
            self.sync()
            self._segment.close()
        # The head is written twice: with its only head damaged, the segment would not say whose records it holds.
        head = 2 * pack_segment_head(self.stream, batch.first_sequence, self._wall_time_ns)
        self._segment.begin(segment_path(self.folder, batch.first_sequence), head, batch.frames)
        self._sync_folders()
        self._segment.publish()
        self.durable_sequence = batch.next_sequence

    def _sync_folders(self) -> None:
        """Make the names of the folders durable. The first segment does that, so that the constructor is fast."""
        for parent in self._unsynced:
            sync_folder(parent)
        self._unsynced = []

    def _go_back(self) -> None:
        self._segment.cut()
        self.next_sequence = self.durable_sequence

    def _continue(self, segments: list[SegmentFile], first_held_sequence: int) -> None:
        """Find the end: behind the last whole record, or at a hole that can be filled; cut off what lies behind."""
        found = read_stream(segments)
        if found.id != self.stream.id:
            raise Malformed(f"{self.folder} holds stream {found.id.hex()}, not {self.stream.id.hex()}")
        last = segments[-1]
        self.next_sequence, end = last.first_sequence, 0
        for item in read_frames(memoryview(last.path.read_bytes())):
            if isinstance(item, Frame):
                kind, sequence, next_sequence = parse_sequence(item.payload)
                if sequence > self.next_sequence >= first_held_sequence:
                    os.truncate(last.path, end)
                    break
                if kind != Kind.SEGMENT:
                    self.next_sequence = max(self.next_sequence, next_sequence)
                end = item.end
        sync_file(last.path)
        sync_folder(self.folder)
