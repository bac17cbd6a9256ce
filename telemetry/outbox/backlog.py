"""Records that no sink has taken yet: older records in the spill folder on disk, newer records in the outbox.

Rule 1: when more than half of the outbox is in use (0.6 while a logger takes records), the sender thread moves the
oldest full segment to disk, one segment a turn. The outbox releases a segment when the copy on disk is durable: a kill
at any moment finds each record in memory, on disk, or in both.
Rule 2: a disk that fails is reported once and tried again after a pause, which doubles from one second to half a
minute. The outbox keeps its records meanwhile, and refuses records when memory is full.
Rule 3: the spill folder is a recording: the same bytes and names as in memory. The folder is made when the first
segment is kept. Pointer files (``protocol.outbox.outbox_files``) lead there from the outbox when the trainer is gone.
"""

import errno
import logging
import os
import shutil
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from crc32c import crc32c

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes, frame_payloads, pack_lost
from tensorboard_sidecar.protocol.outbox.owner_lock import OwnerLock
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, parse_sequence
from tensorboard_sidecar.protocol.storage.durable import sync_folder, write_file
from tensorboard_sidecar.protocol.storage.segment import segment_path
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.memory_segment import BatchCutter, Frames, MemorySegment
from tensorboard_sidecar.telemetry.outbox.outbox import SEGMENT_SIZE_BYTES, Outbox
from tensorboard_sidecar.telemetry.values.python_values import whole

NO_SPILL: Final = "none"
SPILL_SHARE: Final = 0.5
# A disk may be slower than a logger. The outbox refuses the first records (pictures) beyond 0.7.
_BUSY_SPILL_SHARE: Final = 0.6
_PAUSE_MIN_SECONDS: Final = 1.0
_PAUSE_MAX_SECONDS: Final = 30.0
_DAMAGED: Final = "damaged or deleted in the folder that a full outbox was moved to"
# Segments to hold in memory while they are read: one for each reader (the link and the recorder).
_LOADED_MAX: Final = 2
_SEGMENTS_MIN: Final = 8
_log = logging.getLogger(__name__)


class _Spilled(NamedTuple):
    """A segment on disk: the numbers ``[first_sequence, next_sequence)``; size and checksum of its bytes."""

    path: Path
    first_sequence: int
    next_sequence: int
    first_frame: int
    size_bytes: int
    crc: int


class Spill:
    """Segments of the folder ``outbox`` in ``folder``, whose parent is there; both paths are absolute.

    The segments take at most ``capacity_bytes``, and at most half of the space that was free on the disk.
    """

    def __init__(self, outbox: Path, folder: Path, capacity_bytes: int) -> None:
        self.folder, self.capacity_bytes = folder, capacity_bytes
        self.used_bytes = 0
        self._outbox = outbox
        self._owner: OwnerLock | None = None
        self._named = False
        self._segments: deque[_Spilled] = deque()
        self._loaded: dict[int, tuple[Frames, BatchCutter]] = {}

    def __repr__(self) -> str:
        return f"<Spill {len(self._segments)} segments {self.used_bytes:,}/{self.capacity_bytes:,} bytes>"

    @property
    def first_sequence(self) -> int | None:
        """The first sequence number that is held; None when the folder is empty."""
        return self._segments[0].first_sequence if self._segments else None

    def keep(self, segment: MemorySegment) -> None:
        """Copy ``segment``, the successor of the last segment in the folder; the copy is durable on return.

        Raises OSError (ENOSPC also when the folder is full), and leaves no copy then.
        """
        self._make_folder()
        self._check_room(segment.end)
        path = segment_path(self.folder, segment.first_sequence)
        with memoryview(segment.map) as whole, whole[: segment.end] as data:
            try:
                write_file(path, data)
            except OSError:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                raise
            crc = crc32c(data)
        found = _Spilled(path, segment.first_sequence, segment.next_sequence, segment.first_frame, segment.end, crc)
        self._segments.append(found)
        self.used_bytes += found.size_bytes

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch:
        """Return the records from ``sequence`` on, as ``telemetry.outbox.outbox.Outbox.read`` does.

        A gap stands for damaged or deleted records. Raises LookupError when ``sequence`` is not in the folder, OSError.
        """
        for spilled in self._segments:
            if spilled.first_sequence <= sequence < spilled.next_sequence:
                frames, cutter = self._load(spilled)
                return cutter.cut(frames, sequence, frames.end, frames.next_sequence, size_max_bytes)
        raise LookupError(f"sequence {sequence} is not in the spill folder, {self!r}")

    def release(self, next_sequence: int) -> None:
        """Delete the segments whose records all lie before ``next_sequence``."""
        while self._segments and self._segments[0].next_sequence <= next_sequence:
            spilled = self._segments.popleft()
            self.used_bytes -= spilled.size_bytes
            self._loaded.pop(spilled.first_sequence, None)
            with suppress(OSError):  # the file stays until the end; an adopter knows that a logger has its records
                spilled.path.unlink(missing_ok=True)

    def close(self, *, keep: bool) -> None:
        """Close the folder; delete the folder unless ``keep``. A second call does nothing."""
        if self._owner is not None:
            if not keep:
                outbox_files.remove_spill(self._outbox, self._owner)
            self._owner.close()
            self._owner = None

    def _make_folder(self) -> None:
        """Make the folder, take its lock, and write the pointers; continue where an earlier call failed."""
        if self._owner is None:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._owner = OwnerLock(self.folder, make=True)
        if not self._named:
            sync_folder(self.folder.parent)
            outbox_files.write_spill_pointer(self._outbox, self.folder)
            self._named = True

    def _check_room(self, size_bytes: int) -> None:
        room_bytes = min(self.capacity_bytes, (self.used_bytes + shutil.disk_usage(self.folder).free) // 2)
        if self.used_bytes + size_bytes > room_bytes:
            raise OSError(errno.ENOSPC, f"{self.used_bytes:,} of {room_bytes:,} bytes are taken", str(self.folder))

    def _load(self, spilled: _Spilled) -> tuple[Frames, BatchCutter]:
        loaded = self._loaded.get(spilled.first_sequence)
        if loaded is None:
            loaded = _read(spilled), BatchCutter()
            while len(self._loaded) >= _LOADED_MAX:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[spilled.first_sequence] = loaded
        return loaded


def _read(spilled: _Spilled) -> Frames:
    """Return the frames of a segment, with gaps for damaged frames. Raises OSError."""
    try:
        file = os.open(spilled.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(file, "rb") as segment:
            data = segment.read(spilled.size_bytes)
    except FileNotFoundError:
        data = b""
    first_frame = spilled.first_frame
    if len(data) != spilled.size_bytes or crc32c(data) != spilled.crc:
        data, first_frame = _mend(data, spilled.first_sequence, spilled.next_sequence), 0
    return Frames(
        data,
        first_sequence=spilled.first_sequence,
        next_sequence=spilled.next_sequence,
        first_frame=first_frame,
        end=len(data),
    )


def _mend(data: bytes, first_sequence: int, next_sequence: int) -> bytes:
    """Return the valid frames of a damaged segment, with gaps for the others."""
    records = []
    for item in read_frames(memoryview(data)):
        with suppress(ProtocolError):
            if isinstance(item, Frame) and parse_sequence(item.payload)[0] != Kind.SEGMENT:
                records.append(item.payload)
    frames, at = frame_payloads(records, first_sequence, next_sequence, _DAMAGED)
    if at < next_sequence:
        frames.append(pack_lost(at, next_sequence, _DAMAGED))
    return b"".join(frames)


class Backlog:
    """Reads and releases ``outbox`` and its ``spill`` (None: nothing moves to disk) as one. For the sender thread."""

    def __init__(self, outbox: Outbox, spill: Spill | None = None) -> None:
        self.outbox, self.stream = outbox, outbox.stream
        self._spill = spill or Spill(outbox.folder, outbox.folder, 0)
        self._pause_seconds = 0.0
        self._spill_at = float("-inf")
        self._unread = False

    @property
    def first_sequence(self) -> int:
        """The first sequence number that is still held."""
        return self._spill.first_sequence or self.outbox.first_sequence

    @property
    def next_sequence(self) -> int:
        """The number after the last number that was given out."""
        return self.outbox.next_sequence

    @property
    def spilled_bytes(self) -> int:
        """Bytes on disk."""
        return self._spill.used_bytes

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records as :meth:`Outbox.read` does; None while the disk cannot be read.

        Raises LookupError when ``sequence`` was released.
        """
        if not self.first_sequence <= sequence < self.outbox.first_sequence:
            return self.outbox.read(sequence, size_max_bytes)
        try:
            run = self._spill.read(sequence, size_max_bytes)
        except OSError as error:
            if not self._unread:
                _log.warning("cannot read back from %s: %s; trying again", self._spill.folder, str(error))
            self._unread = True
            return None
        self._unread = False
        return run

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        self._spill.release(next_sequence)
        self.outbox.release(next_sequence)

    def step(self, now_seconds: float, *, busy: bool = False) -> bool:
        """Move the oldest full segment to disk when rule 1 says so; return whether a segment was moved.

        ``busy``: a logger is taking records.
        """
        share = _BUSY_SPILL_SHARE if busy else SPILL_SHARE
        due = self.outbox.used_bytes > share * self.outbox.capacity_bytes and now_seconds >= self._spill_at
        segment = self.outbox.oldest_full_segment() if due and self._spill.capacity_bytes else None
        if segment is None:
            return False
        try:
            self._spill.keep(segment)
        except OSError as error:
            self._pause(str(error), now_seconds)
            return False
        if self._pause_seconds:
            _log.info("the outbox goes on to %s", self._spill.folder)
            self._pause_seconds = 0.0
        self.outbox.release(segment.next_sequence)
        return True

    def close(self, *, keep: bool) -> None:
        """Close the outbox and the spill folder; both stay for a later drain when ``keep``, else delete both."""
        self._spill.close(keep=keep)
        self.outbox.close(keep=keep)

    def _pause(self, reason: str, now_seconds: float) -> None:
        if not self._pause_seconds:
            _log.warning(
                "the outbox of run %s cannot go on to %s: %s; trying again. Records that find it full are refused, "
                "and counted",
                self.stream.run,
                self._spill.folder,
                reason,
            )
        self._pause_seconds = min(max(2 * self._pause_seconds, _PAUSE_MIN_SECONDS), _PAUSE_MAX_SECONDS)
        self._spill_at = now_seconds + self._pause_seconds


class Storage:
    """Settings of ``telemetry.Telemetry``, which documents these names, as users give them.

    Folders become absolute, since a program may change its folder. Raises TypeError for a size that is no whole number,
    ValueError for a negative size.
    """

    def __init__(
        self,
        outbox_bytes: Any = outbox_files.OUTBOX_BYTES,
        outbox_dir: Path | str | None = None,
        spill_dir: Path | str | None = None,
        spill_bytes: Any = outbox_files.SPILL_BYTES,
    ) -> None:
        self.outbox_bytes, self.spill_bytes = whole("outbox_bytes", outbox_bytes), whole("spill_bytes", spill_bytes)
        self.outbox_dir = Path(outbox_dir).absolute() if outbox_dir else None
        self.spill_dir = Path(spill_dir).absolute() if spill_dir and str(spill_dir) != NO_SPILL else spill_dir
        if self.spill_bytes < 0:
            raise ValueError(f"spill_bytes {self.spill_bytes}; expected 0 (nothing goes to disk) or more")

    def make(self, stream: Stream, *, wall_time_ns: int) -> Backlog:
        """Make an empty outbox for a stream. Raises OSError, ValueError for a capacity that is too small."""
        root = outbox_files.outbox_root(self.outbox_dir)
        capacity = outbox_files.outbox_capacity_bytes(root, self.outbox_bytes)
        folder, on_disk = root / stream.id.hex(), None
        try:
            on_disk = self._spill_root()
        except OSError as error:
            if self.spill_dir:
                raise
            _log.warning("a full outbox cannot go on to disk: %s; give a spill_dir, or none", error)
        outbox = Outbox(
            folder,
            stream,
            capacity_bytes=capacity,
            wall_time_ns=wall_time_ns,
            segment_size_bytes=min(SEGMENT_SIZE_BYTES, capacity // _SEGMENTS_MIN),
        )
        return Backlog(outbox, Spill(folder, on_disk / folder.name, self.spill_bytes) if on_disk else None)

    def find_outboxes(self) -> list[Path]:
        """Return the outboxes in the same place, of running and of dead trainers. Raises OSError."""
        roots = [outbox_files.outbox_root(self.outbox_dir)]
        with suppress(OSError):
            roots += filter(None, [self._spill_root()])
        return find_outboxes(*roots)

    def _spill_root(self) -> Path | None:
        """Return the folder for spilled segments, None when spilling is off. Raises OSError when making it fails."""
        if self.spill_bytes == 0 or str(self.spill_dir) == NO_SPILL:
            return None
        return outbox_files.spill_root(Path(self.spill_dir) if self.spill_dir else self.outbox_dir)
