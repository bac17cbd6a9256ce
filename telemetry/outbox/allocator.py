"""Where in an outbox the next record goes: the segment being filled, or one that follows it.

Everything is decided on a :class:`Holding` that others change meanwhile, be it a signal handler in the middle: what was
prepared in vain is kept as a spare, or thrown away.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind, pack_header
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_HEAD_MAX_BYTES
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.contention import Contention
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment, pack_frame_rest
from tensorboard_sidecar.telemetry.outbox.overflow import capacity_limits
from tensorboard_sidecar.telemetry.outbox.state import OutboxState

_GAP_SIZE_MAX_BYTES: Final = HEADER_SIZE_BYTES + 1024


class Allocator:
    """Makes room in ``folder`` for records of ``stream``, up to ``capacity_bytes``.

    The segment being filled and a spare come on top. Raises OSError when the first segment cannot be made.
    """

    def __init__(
        self, folder: Path, stream: Stream, *, capacity_bytes: int, segment_size_bytes: int, wall_time_ns: int
    ) -> None:
        self._folder, self._stream, self._capacity_bytes = folder, stream, capacity_bytes
        self._segment_size_bytes = segment_size_bytes
        self._limits = capacity_limits(capacity_bytes)
        self._spare: MemorySegment | None = None
        self.way = Contention()
        segment = MemorySegment(folder, segment_size_bytes)
        segment.populate()
        segment.begin(stream, 1, wall_time_ns)
        segment.take_name()
        self.held = OutboxState(segment)

    def __repr__(self) -> str:
        return f"<Allocator {self.held.used_bytes:,}/{self._capacity_bytes:,} bytes>"

    def make(self, kind: int, size_bytes: int, wall_time_ns: int) -> MemorySegment | None:
        """Return the segment that a payload can be appended to now; None when its record is to be refused.

        Refusals are told, and a segment begun, where that is due. Raises TooLarge, RuntimeError when sealed.
        """
        held = self.held
        if held.sealed:
            raise RuntimeError("the outbox takes no more records")
        last, tries = held.segments[-1], 0
        if held.full_segments_bytes + last.end + size_bytes > self._limits[kind]:
            return None
        while held.refusals.untold or not last.fits(size_bytes):
            if tries:  # others took what was made
                self.way.take(tries, size_bytes)
            tries += 1
            if size_bytes > RECORD_SIZE_MAX_BYTES:
                raise TooLarge("record in bytes", size_bytes, RECORD_SIZE_MAX_BYTES)
            made = self._append_gap(wall_time_ns) if held.refusals else self._begin_segment(size_bytes, wall_time_ns)
            if not made:
                return None
            last = held.segments[-1]
        return last

    def prepare(self, released_sequence: int, wall_time_ns: int) -> None:
        """Do what the training thread is then spared, or what must not wait for its next record.

        A spare segment is kept at hand. A last segment that was released, but is a good part of the capacity, gives way
        to the spare: nothing else would ever make room again. Refusals are told once there is room.
        """
        held = self.held
        if self._spare is None and held.used_bytes < self._capacity_bytes:
            with suppress(OSError):  # no memory now: a record that finds no room will be refused, and counted
                spare = MemorySegment(self._folder, self._segment_size_bytes)
                spare.populate()
                self._keep_spare(spare)
        last = held.segments[-1]
        released = last.next_sequence <= released_sequence
        if released and last.end > self._capacity_bytes / 8 and self._spare is not None:
            self._begin_segment(0, wall_time_ns)
        if held.refusals and held.used_bytes + _GAP_SIZE_MAX_BYTES <= self._capacity_bytes:
            self._append_gap(wall_time_ns)

    def close(self, *, keep: bool) -> None:
        """Let go of the memory; the segments stay when ``keep``."""
        self.held.sealed = self.held.closed = True
        spare, self._spare = self._spare, None
        for segment in self.held.segments:
            segment.close(keep=keep and segment.named)
        if spare is not None:
            spare.close(keep=False)

    def _append_gap(self, wall_time_ns: int) -> bool:
        """Append the gap over the numbers since the last frame, or make room for it; tell whether there was any."""
        segment, refusals = self.held.segments[-1], self.held.refusals
        start, sequence = segment.end, segment.next_sequence
        if not refusals:  # told meanwhile
            return True
        if not segment.fits(_GAP_SIZE_MAX_BYTES):
            return self._begin_segment(_GAP_SIZE_MAX_BYTES, wall_time_ns)
        body = encode_body(refusals.gap())
        header = pack_header(Kind.GAP, refusals.untold, len(body), sequence, 0, wall_time_ns)
        self.held.append(segment, start, pack_frame_rest(header, body), sequence + refusals.untold, tells=refusals)
        return True

    def _begin_segment(self, size_bytes: int, wall_time_ns: int) -> bool:
        """Begin the next segment, large enough for a payload, unless somebody else does; tell whether there is one."""
        last = self.held.segments[-1]
        size = max(self._segment_size_bytes, size_bytes + FRAME_OVERHEAD_BYTES + SEGMENT_HEAD_MAX_BYTES)
        try:
            if last.named:
                segment = self._take_spare(size) or MemorySegment(self._folder, size)
                segment.begin(self._stream, last.next_sequence, wall_time_ns)
                if not self.held.follow(last, segment):
                    self._keep_spare(segment)
            last = self.held.segments[-1]  # or another's, who was interrupted before it had a name
            last.take_name()
        except OSError:
            return self.held.segments[-1] is not last  # if empty, somebody else may have put another in its place
        return not self.held.closed

    def _take_spare(self, size_bytes: int) -> MemorySegment | None:
        spare, self._spare = self._spare, None
        if spare is not None and spare.size_bytes < size_bytes:
            self._keep_spare(spare)
            return None
        return spare

    def _keep_spare(self, segment: MemorySegment) -> None:
        if self._spare is None and not self.held.closed:
            self._spare = segment
        else:
            segment.close(keep=False)
