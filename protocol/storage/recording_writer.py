"""Writing a recording on disk: append runs of framed records, make them durable, begin a new segment when one is full.

What "full" means: a segment takes runs until it would pass its size; the disk's own end is an OSError of ``append`` or
``sync``. After one, what was not durable is not trusted again: the writer cuts it off, goes back to
``durable_sequence`` and begins a new segment there (a failed fsync may have dropped pages that a second fsync would
call clean).

A segment is appended to only by the writer that made it, and never after a cut, so that a reader's place in it holds. A
writer that rests has its file closed, and opens the same one again if it is still as it was left. Where two segments
hold the same number, readers take the later one's.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.limits import SEGMENT_SIZE_MAX_BYTES, SEQUENCE_MAX
from tensorboard_sidecar.protocol.record import Kind, parse_sequence
from tensorboard_sidecar.protocol.storage.durable import make_folder, sync_file, sync_folder
from tensorboard_sidecar.protocol.storage.segment import (
    SegmentFile,
    list_segments,
    pack_segment_head,
    read_stream,
    segment_path,
)
from tensorboard_sidecar.protocol.stream import Stream

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class RecordingWriter:
    """Appends to the recording of ``stream`` in ``folder``, which is made, or continued after its last whole record.

    ``next_sequence`` is what the next run must begin with; everything before ``durable_sequence`` survives a power
    loss. ``first_held_sequence`` is the first number whose record can come again: where a power loss tore a hole behind
    it, the writer goes on at the hole. ``wall_time_ns`` stamps the segment heads. The names of folders below ``root``
    are made durable, also of those that somebody made and did not live to sync. Raises OSError, Malformed when the
    folder holds another stream, UnsupportedVersion when a newer program wrote it.
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
        self._file = -1
        self._path = folder  # of the segment at hand
        self._resting: os.stat_result | None = None
        self._size_bytes = self._durable_size_bytes = 0
        self.next_sequence = 1
        make_folder(folder, root)
        segments = list_segments(folder)
        if segments:
            self._continue(segments, first_held_sequence)
        self.durable_sequence = self.next_sequence

    def __repr__(self) -> str:
        return f"<RecordingWriter {self.folder.name} next {self.next_sequence} durable {self.durable_sequence}>"

    def append(self, run: FrameBatch) -> None:
        """Append a run. Raises Malformed when it does not begin at ``next_sequence``.

        Raises OSError; ``next_sequence`` then goes back to ``durable_sequence``.
        """
        if run.first_sequence != self.next_sequence:
            raise Malformed(f"a run from {run.first_sequence} where {self.next_sequence} is due")
        try:
            self._wake()
            if self._file < 0 or self._size_bytes + len(run.frames) > self._segment_size_max_bytes:
                self._begin_segment(run.first_sequence)
            self._write(run.frames)
        except OSError:
            self._go_back()
            raise
        self.next_sequence = run.next_sequence

    def sync(self) -> None:
        """Make what was appended durable. Raises OSError; ``next_sequence`` then goes back to ``durable_sequence``."""
        if self._file >= 0 and self.durable_sequence != self.next_sequence:
            try:
                os.fdatasync(self._file)
            except OSError:
                self._go_back()
                raise
        self.durable_sequence, self._durable_size_bytes = self.next_sequence, self._size_bytes

    def rest(self) -> None:
        """Make everything durable and close the file for now; an append opens it again. Raises as :meth:`sync`."""
        self.sync()
        if self._file >= 0:
            self._resting = os.fstat(self._file)
            self._close_file()

    def close(self) -> None:
        """Make everything durable and close; calling it again does nothing, an append begins a new segment."""
        try:
            self.sync()
        finally:
            self._resting = None
            self._close_file()

    def _write(self, data: memoryview | bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._file, view)
            self._size_bytes += written
            view = view[written:]

    def _wake(self) -> None:
        """Open the segment again that was at hand, unless somebody touched it meanwhile."""
        found, self._resting = self._resting, None
        if found is None:
            return
        with suppress(FileNotFoundError):
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            now = os.fstat(self._file)
            if not os.path.samestat(now, found) or now.st_size != found.st_size:
                self._close_file()

    def _begin_segment(self, first_sequence: int) -> None:
        """Finish the segment at hand, then make the next one, which appears whole under its name or not at all."""
        if self._file >= 0:
            self.sync()
            self._close_file()
        self._path = path = segment_path(self.folder, first_sequence)
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        self._size_bytes = self._durable_size_bytes = 0
        self._file = os.open(unfinished, _FLAGS | os.O_EXCL, 0o644)
        # Twice: where one is damaged, nobody would know whose records all the others are.
        self._write(2 * pack_segment_head(self.stream, first_sequence, self._wall_time_ns))
        os.fdatasync(self._file)
        self._durable_size_bytes = self._size_bytes
        unfinished.replace(path)
        sync_folder(self.folder)

    def _go_back(self) -> None:
        with suppress(OSError):  # what cannot be cut off is damage to readers; the records come again
            if self._file >= 0:
                os.ftruncate(self._file, self._durable_size_bytes)
        with suppress(OSError):  # what close says of what was not durable is known
            self._close_file()
        self.next_sequence = self.durable_sequence

    def _close_file(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _continue(self, segments: list[SegmentFile], first_held_sequence: int) -> None:
        """Stand behind the last whole record, or at a hole that can be filled, cutting off what lies behind it."""
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
