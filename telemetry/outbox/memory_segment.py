"""Frames in memory, the batches that readers cut from them, and one segment of the outbox."""

import ctypes
import mmap
import os
import struct
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from crc32c import crc32c

from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, mask_crc, pack_head
from tensorboard_sidecar.protocol.record import HEADER, FrameBatch
from tensorboard_sidecar.protocol.storage.segment import pack_segment_head, segment_path
from tensorboard_sidecar.protocol.stream import Stream

_LENGTH: Final = struct.Struct("<Q")
# Ends of earlier reads to remember: some for each reader (the link and the recorder).
_STARTS_MAX: Final = 8
pack_frame_head: Final = lru_cache(maxsize=256)(pack_head)  # a loop's records come in few sizes
_POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE of Linux 5.14, for which Python's mmap has no name
# Page faults of 2 MiB take half a millisecond, in which a training thread that maps memory has to wait.
_POPULATE_BYTES: Final = 2**21
_SLICE_BYTES: Final = 2**18  # copying a slice holds the interpreter for some 0.1 ms
CRC_SIZE_BYTES: Final = FRAME_OVERHEAD_BYTES - HEAD_SIZE_BYTES
_LIBC: Final = ctypes.CDLL(None)


class Frames:
    """Frames at ``[first_frame, end)`` of a buffer, for the numbers ``[first_sequence, next_sequence)``."""

    def __init__(
        self, buffer: mmap.mmap | bytes, *, first_sequence: int, next_sequence: int, first_frame: int, end: int
    ) -> None:
        self.buffer = buffer
        self.first_sequence, self.next_sequence = first_sequence, next_sequence
        self.first_frame, self.end = first_frame, end

    def seek(self, sequence: int) -> int:
        """Return where the frame of ``sequence`` starts. Raises LookupError when no frame starts with it."""
        start, at = self.first_frame, self.first_sequence
        while at < sequence:
            start, at = self._step(start)
        if at != sequence:
            raise LookupError(f"sequence {sequence} lies inside a gap that ends at {at}")
        return start

    def walk(self, start: int, size_bytes: int) -> tuple[int, int]:
        """Step over frames from ``start``: at least one, and as many as ``size_bytes`` hold, fewer than there are.

        Returns where the next frame starts and its sequence number. Reads only the sizes of the frames: a batch may
        have a thousand frames, and the sender thread holds the interpreter meanwhile.
        """
        buffer, length_at, limit = self.buffer, _LENGTH.unpack_from, start + size_bytes
        last, end = start, start + length_at(buffer, start)[0] + FRAME_OVERHEAD_BYTES
        while end < limit:
            following = end + length_at(buffer, end)[0] + FRAME_OVERHEAD_BYTES
            if following > limit:
                break
            last, end = end, following
        return end, self._step(last)[1]

    def _step(self, start: int) -> tuple[int, int]:
        """Return where the frame after the frame at ``start`` begins, and its sequence number."""
        (size,) = _LENGTH.unpack_from(self.buffer, start)
        _, _, _, span, _, _, sequence, _, _ = HEADER.unpack_from(self.buffer, start + HEAD_SIZE_BYTES)
        return start + size + FRAME_OVERHEAD_BYTES, sequence + span


class BatchCutter:
    """Cuts batches from frames, and remembers where batches ended: a reader mostly continues there."""

    def __init__(self) -> None:
        self._starts: dict[int, tuple[Frames, int]] = {}

    def cut(self, frames: Frames, sequence: int, end: int, next_sequence: int, size_max_bytes: int) -> FrameBatch:
        """Return the records from ``sequence`` up to ``next_sequence``, whose frame is at ``end``.

        Returns at least one record, and as many as ``size_max_bytes`` hold. Raises LookupError inside a gap.
        """
        start = self._start_of(frames, sequence)
        if end - start > size_max_bytes:
            end, next_sequence = frames.walk(start, size_max_bytes)
        self._starts[next_sequence] = (frames, end)
        return FrameBatch(memoryview(frames.buffer[start:end]), sequence, next_sequence)

    def _start_of(self, frames: Frames, sequence: int) -> int:
        """Return where a frame starts: where an earlier read ended, else found by walking from the first frame."""
        known, start = self._starts.get(sequence, (None, 0))
        if len(self._starts) > _STARTS_MAX:
            del self._starts[next(iter(self._starts))]
        return start if known is frames else frames.seek(sequence)


class MemorySegment(Frames):
    """A file in shared memory, of fixed size, allocated in full and mapped before the first write.

    A new segment is a spare without a name. :meth:`begin` gives the segment its first sequence number, and
    :meth:`take_name` the file name by which readers find the segment. ``end`` and ``next_sequence`` are those of the
    beginning until :meth:`finish`. Raises OSError (ENOSPC) when memory is full: a sparse map would end the process
    with SIGBUS at the first write.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.path = self._spare_path = folder / f"{id(self):x}.spare"
        self.size_bytes = size_bytes
        self.named = False
        # O_TRUNC: Ctrl-C in an earlier constructor may have left a file of this name.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(file, 0, size_bytes)
            self._inode = os.fstat(file).st_ino
            self.map = mmap.mmap(file, size_bytes)
            super().__init__(self.map, first_sequence=0, next_sequence=0, first_frame=0, end=0)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def populate(self, start: int = 0, end: int | None = None) -> None:
        """Take the page faults of the bytes from ``start`` to ``end`` now, so that appends take none.

        Other threads run meanwhile: a call by ctypes releases the interpreter, Python's own ``mmap.madvise`` does not.
        On a system without MADV_POPULATE_WRITE the appends take the page faults.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        end = self.size_bytes if end is None else min(end, self.size_bytes)
        for at in range(start, end, _POPULATE_BYTES):
            size = ctypes.c_size_t(min(_POPULATE_BYTES, end - at))
            _LIBC.madvise(ctypes.c_void_p(address + at), size, _POPULATE_WRITE)

    def finish(self, end: int, next_sequence: int) -> "MemorySegment":
        """Note where the frames of a segment that takes no more records end; return the segment."""
        self.end, self.next_sequence = end, next_sequence
        return self

    def begin(self, stream: Stream, first_sequence: int, wall_time_ns: int) -> None:
        """Write the head of the segment that begins at ``first_sequence``. May be called again with another number."""
        head = pack_segment_head(stream, first_sequence, wall_time_ns)
        self.map[: len(head)] = head
        self.end = self.first_frame = len(head)
        self.first_sequence = self.next_sequence = first_sequence

    def take_name(self) -> None:
        """Rename the file to the segment's name. Several callers may do so at once. Raises OSError."""
        if self.named:
            return
        path = segment_path(self._spare_path.parent, self.first_sequence)
        try:
            self._spare_path.rename(path)
        except FileNotFoundError:
            if path.stat().st_ino != self._inode:
                raise
        self.path, self.named = path, True

    def write_head(self, start: int, payload_size_bytes: int) -> None:
        """Write the head of a frame. The checksum of its payload stays zero, so that readers see damage."""
        self.map[start : start + HEAD_SIZE_BYTES] = pack_frame_head(payload_size_bytes)

    def write_frame(self, start: int, header: bytes, body: bytes) -> None:
        """Write a frame whose payload is ``header`` and ``body``. A kill in the middle leaves no valid frame.

        The head of a small frame is written last. A large body is copied in slices, between which other threads can
        run; the head is written first, so that readers can step over the frame, and the checksum last.
        """
        checksum = mask_crc(crc32c(body, crc32c(header))).to_bytes(CRC_SIZE_BYTES, "little")
        rest_start = start + HEAD_SIZE_BYTES
        if len(body) <= _SLICE_BYTES:
            rest = b"".join((header, body, checksum))
            self.map[rest_start : rest_start + len(rest)] = rest
            self.map[start:rest_start] = pack_frame_head(len(rest) - CRC_SIZE_BYTES)
            return
        self.write_head(start, len(header) + len(body))
        self.map[rest_start : rest_start + len(header)] = header
        body_start = rest_start + len(header)
        with memoryview(body) as data:
            for at in range(0, len(data), _SLICE_BYTES):
                piece = data[at : at + _SLICE_BYTES]
                self.map[body_start + at : body_start + at + len(piece)] = piece
        self.map[body_start + len(body) : body_start + len(body) + CRC_SIZE_BYTES] = checksum

    def close(self, *, keep: bool) -> None:
        """Unmap; delete the file unless ``keep``."""
        self.map.close()
        if not keep:
            with suppress(OSError):  # the volume may be read-only by now; records in a file that stays were shipped
                self.path.unlink(missing_ok=True)
