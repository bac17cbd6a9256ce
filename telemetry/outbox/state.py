"""What an outbox holds, and the strokes that change it.

Rule 1: no lock. The interpreter runs a signal handler between two bytecodes of the main thread, and a finalizer where
any thread takes memory: one that logs would wait for what the thread below it holds, for ever.
Rule 2: what is to be kept is prepared aside, and kept in one stroke: a look whether all is as it was then, and a few
assignments. In a stroke nothing is called (but, as its last act, what runs no Python), and no object is made that the
collector knows. So the interpreter, which holds its lock all the while, lets no handler, no finalizer and no other
thread come in between, and Ctrl-C finds a record kept and accounted for, or not there.
Rule 3: a stroke that comes too late changes nothing, and says so; its record is prepared again.
Rule 4: readers take no lock either. A segment's end and next number, read one after the other, belong together.
"""

from collections import deque
from typing import Any

from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment, pack_frame_head
from tensorboard_sidecar.telemetry.outbox.overflow import Refusals


class Slot:
    """A reserved frame at ``start`` of ``segment``, ``size_bytes`` of payload, for the record described.

    ``values`` is what completes it.
    """

    __slots__ = ("kind", "segment", "sequence", "size_bytes", "start", "step", "values", "wall_time_ns")

    def __init__(self, kind: int, step: int, wall_time_ns: int, size_bytes: int, values: Any) -> None:
        self.kind, self.step, self.wall_time_ns, self.size_bytes = kind, step, wall_time_ns, size_bytes
        self.values = values
        self.segment: MemorySegment
        self.sequence = self.start = 0


class OutboxState:
    """Segments, the last being filled; slots in order; refusals. Read by anybody, changed by its strokes alone.

    ``full_segments_bytes`` is the size of all segments but the last. A ``sealed`` one takes gaps alone.
    """

    def __init__(self, segment: MemorySegment) -> None:
        self.segments: tuple[MemorySegment, ...] = (segment,)
        self.slots: deque[Slot] = deque()
        self.refusals = Refusals()
        self.full_segments_bytes = 0
        self.sealed = self.closed = False

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that are held; of the last, those written."""
        return self.full_segments_bytes + self.segments[-1].end

    @property
    def next_sequence(self) -> int:
        """The number behind the last that was given out, be it to a refused record."""
        return self.segments[-1].next_sequence + self.refusals.untold

    def append(
        self,
        segment: MemorySegment,
        start: int,
        rest: bytes,
        next_sequence: int,
        *,
        slot: Slot | None = None,
        tells: Refusals | None = None,
    ) -> bool:
        """Append a frame, prepared for ``start`` of ``segment``, given its payload and tail in one.

        Its head goes last, so that a torn frame does not exist. It is of a record, which may wait for values in
        ``slot``, or the gap that ``tells`` of all refusals.
        """
        size, rest_start = len(rest), start + HEAD_SIZE_BYTES
        head, end = pack_frame_head(size + HEAD_SIZE_BYTES - FRAME_OVERHEAD_BYTES), rest_start + size
        rest_at, head_at = slice(rest_start, end), slice(start, rest_start)
        told = None if tells is None else tells.told()
        if self.segments[-1] is not segment or segment.end != start or end > segment.size_bytes:
            return False
        if (self.sealed or self.refusals.untold) if tells is None else self.refusals is not tells:
            return False
        segment.map[rest_at] = rest
        segment.map[head_at] = head
        segment.next_sequence = next_sequence
        segment.end = end
        if told is not None:
            self.refusals = told
        if slot is not None:
            self.slots.append(slot)
        return True

    def refuse(self, sequence: int, refusals: Refusals, kind: int) -> bool:
        """Give ``sequence``, which comes next after ``refusals``, to a record that is not kept."""
        more = refusals.add(kind)
        if self.sealed or self.refusals is not refusals:
            return False
        if self.segments[-1].next_sequence + refusals.untold != sequence:
            return False
        self.refusals = more
        return True

    def follow(self, last: MemorySegment, segment: MemorySegment) -> bool:
        """Let ``segment`` follow ``last``, or take its place while that is empty: they will have the same name."""
        segments, full_segments_bytes = self.segments, self.full_segments_bytes
        if segment.first_sequence > last.first_sequence:
            following, full_segments_bytes = (*segments, segment), full_segments_bytes + last.size_bytes
        else:
            following = (*segments[:-1], segment)
        if self.closed or self.segments is not segments or segments[-1] is not last:
            return False
        if last.next_sequence != segment.first_sequence:
            return False
        self.segments, self.full_segments_bytes = following, full_segments_bytes
        return True

    def release(self, next_sequence: int) -> MemorySegment | None:
        """Let go of the first segment, and its slots, when its records all lie before ``next_sequence``; return it.

        For the thread that fills slots.
        """
        while True:
            segments = self.segments
            first, following = segments[0], segments[1:]
            if not following or first.next_sequence > next_sequence:
                return None
            full_segments_bytes = self.full_segments_bytes - first.size_bytes
            if self.segments is segments:
                self.segments, self.full_segments_bytes = following, full_segments_bytes
                break
        while self.slots and self.slots[0].segment is first:
            self.slots.popleft()  # whoever has its record does not wait for what completes it
        return first
