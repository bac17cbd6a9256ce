"""Frames in memory that hold successive records, and the batches that readers cut from them."""

import mmap
import struct
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES
from tensorboard_sidecar.protocol.record import HEADER

_LENGTH: Final = struct.Struct("<Q")
# Ends of earlier reads to remember: some for each reader (the link and the recorder).
_STARTS_MAX: Final = 8


class Frames:
    """Frames at ``[first_frame, end)`` of a buffer, for the numbers ``[first_sequence, next_sequence)``."""

    def __init__(
        self, buffer: mmap.mmap | bytes, *, first_sequence: int, next_sequence: int, first_frame: int, end: int
    ) -> None:
        self._buffer = buffer
        self.first_sequence, self.next_sequence = first_sequence, next_sequence
        self.first_frame, self.end = first_frame, end

    def copy(self, start: int, end: int) -> memoryview:
        """Return a copy of the bytes ``[start, end)``."""
        return memoryview(self._buffer[start:end])

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
        buffer, length_at, limit = self._buffer, _LENGTH.unpack_from, start + size_bytes
        last, end = start, start + length_at(buffer, start)[0] + FRAME_OVERHEAD_BYTES
        while end < limit:
            following = end + length_at(buffer, end)[0] + FRAME_OVERHEAD_BYTES
            if following > limit:
                break
            last, end = end, following
        return end, self._step(last)[1]

    def _step(self, start: int) -> tuple[int, int]:
        """Return where the frame after the frame at ``start`` begins, and its sequence number."""
        (size,) = _LENGTH.unpack_from(self._buffer, start)
        _, _, _, span, _, _, sequence, _, _ = HEADER.unpack_from(self._buffer, start + HEAD_SIZE_BYTES)
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
        return FrameBatch(frames.copy(start, end), sequence, next_sequence)

    def _start_of(self, frames: Frames, sequence: int) -> int:
        """Return where a frame starts: where an earlier read ended, else found by walking from the first frame."""
        known, start = self._starts.get(sequence, (None, 0))
        if len(self._starts) > _STARTS_MAX:
            del self._starts[next(iter(self._starts))]
        return start if known is frames else frames.seek(sequence)
