"""Places for records: in the segment that is being filled, or in a new segment; and refusals when the outbox is full.

Each change is computed from the latest state, and computed again when another caller came first (see ``state``). A
segment that was made in vain becomes the spare, or is deleted.
"""

from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_HEAD_MAX_BYTES
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment
from tensorboard_sidecar.telemetry.outbox.state import HostSlot, Layout, OutboxState, Slot, StateChain, capacity_limits

_GAP_SIZE_MAX_BYTES: Final = HEADER_SIZE_BYTES + 1024


class Allocator:
    """Places records of ``stream`` in ``folder``, up to ``capacity_bytes``.

    The segment being filled and a spare come on top. Raises OSError when the first segment cannot be made.
    """

    def __init__(
        self, folder: Path, stream: Stream, *, capacity_bytes: int, segment_size_bytes: int, wall_time_ns: int
    ) -> None:
        self._folder, self._stream, self._capacity_bytes = folder, stream, capacity_bytes
        self._segment_size_bytes = segment_size_bytes
        self._limits = capacity_limits(capacity_bytes)
        self._spares: deque[MemorySegment] = deque()
        segment = MemorySegment(folder, segment_size_bytes)
        segment.populate()
        segment.begin(stream, 1, wall_time_ns)
        segment.take_name()
        self.states = StateChain(OutboxState(Layout(segment), segment.first_frame, 1, ()))

    def __repr__(self) -> str:
        return f"<Allocator {self.states.latest().used_bytes:,}/{self._capacity_bytes:,} bytes>"

    def place(self, slot: Slot) -> bool:
        """Give ``slot`` a place and a number; or only a number, and return False, when its record is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        states, size = self.states, slot.size_bytes
        state = states.latest()
        if state.layout.full_bytes + state.end + size > self._limits[slot.kind]:
            return self._refuse(slot)
        while True:
            layout = state.layout
            last = layout.last
            if (
                layout.sealed
                or layout.refusals.untold
                or not last.named
                or state.end + size + FRAME_OVERHEAD_BYTES > last.size_bytes
            ):
                if not self._make_room(state, slot):
                    return self._refuse(slot)
            elif states.replace(state, state.with_slot(slot)):
                return True
            state = states.latest()

    def prepare(self, released_sequence: int, wall_time_ns: int) -> None:
        """Do the work that would delay the training thread, or that must not wait for the next record.

        Keep a spare segment. Replace a last segment that is released and takes a large part of the capacity: nothing
        else would make room again. Tell refusals when there is room.
        """
        state = self.states.latest()
        if not self._spares and state.used_bytes < self._capacity_bytes:
            with suppress(OSError):  # memory is full: a record that finds no room is refused and counted
                spare = MemorySegment(self._folder, self._segment_size_bytes)
                spare.populate()
                self._keep_spare(spare)
        self.forget_written()
        state = self.states.latest()
        if state.next_sequence <= released_sequence and state.end > self._capacity_bytes / 8 and self._spares:
            self._begin_segment(state.layout.last, 0, wall_time_ns)
        state = self.states.latest()
        if state.layout.refusals and state.used_bytes + _GAP_SIZE_MAX_BYTES <= self._capacity_bytes:
            self._append_gap(state, wall_time_ns)

    def forget_written(self) -> None:
        """Give back the memory of records that are written: the outbox has their bytes."""
        state = self.states.latest()
        if state.slots and state.slots[0].written:
            self.states.replace(state, state.without_written())

    def release(self, next_sequence: int) -> None:
        """Delete the segments whose records all lie before ``next_sequence``."""
        while (full := (state := self.states.latest()).layout.full) and full[0].next_sequence <= next_sequence:
            if self.states.replace(state, state.without_first()):
                full[0].segment.close(keep=False)

    def change_layout(self, **changes: Any) -> OutboxState:
        """Replace the state by a state with these changes in its layout; return that state."""
        while True:
            state = self.states.latest()
            changed = state.with_layout(state.layout._replace(**changes))
            if self.states.replace(state, changed):
                return changed

    def close(self, *, keep: bool) -> None:
        """Unmap all segments; their files stay when ``keep``."""
        layout = self.change_layout(sealed=True, closed=True).layout
        for segment in (*(full.segment for full in layout.full), layout.last):
            segment.close(keep=keep and segment.named)
        self._close_spares()

    def _make_room(self, state: OutboxState, slot: Slot) -> bool:
        """Tell the refusals, or begin a segment; return False when memory has no room for that."""
        _check_open(state)
        if slot.size_bytes > RECORD_SIZE_MAX_BYTES:
            raise TooLarge("record in bytes", slot.size_bytes, RECORD_SIZE_MAX_BYTES)
        if state.layout.refusals:
            return self._append_gap(state, slot.wall_time_ns)
        return self._begin_segment(state.layout.last, slot.size_bytes, slot.wall_time_ns)

    def _refuse(self, slot: Slot) -> bool:
        """Give a number to a record that is not kept, and count the record; return False."""
        while True:
            state = self.states.latest()
            _check_open(state)
            layout = state.layout
            slot.sequence = state.following_sequence
            refused = layout._replace(refusals=layout.refusals.add(slot.kind))
            if self.states.replace(state, state.with_layout(refused)):
                return False

    def _append_gap(self, state: OutboxState, wall_time_ns: int) -> bool:
        """Append the gap that tells all refusals, or make room for the gap; tell whether there is room."""
        layout = state.layout
        if not _fits(state, _GAP_SIZE_MAX_BYTES):
            return self._begin_segment(layout.last, _GAP_SIZE_MAX_BYTES, wall_time_ns)
        refusals = layout.refusals
        gap = HostSlot(Kind.GAP, 0, wall_time_ns, encode_body(refusals.gap()), refusals.untold)
        if self.states.replace(state, state.with_gap(gap)):
            gap.write()
        return True

    def _begin_segment(self, last: MemorySegment, size_bytes: int, wall_time_ns: int) -> bool:
        """Let a segment with room for a payload follow ``last``, unless another caller does; tell whether one does."""
        size = max(self._segment_size_bytes, size_bytes + FRAME_OVERHEAD_BYTES + SEGMENT_HEAD_MAX_BYTES)
        try:
            if last.named:
                segment = self._take_spare(size) or MemorySegment(self._folder, size)
                self._append_segment(last, segment, size_bytes, wall_time_ns)
            self.states.latest().layout.last.take_name()
        except OSError:
            return self.states.latest().layout.last is not last
        return not self.states.latest().layout.closed

    def _append_segment(self, last: MemorySegment, segment: MemorySegment, size_bytes: int, wall_time_ns: int) -> None:
        while True:
            state = self.states.latest()
            if state.layout.closed or (state.layout.last is not last and _fits(state, size_bytes)):
                self._keep_spare(segment)
                return
            try:
                state.layout.last.take_name()  # an interrupted caller may have begun it
            except OSError:
                self._keep_spare(segment)
                raise
            segment.begin(self._stream, state.next_sequence, wall_time_ns)
            if self.states.replace(state, state.with_segment(segment)):
                return

    def _take_spare(self, size_bytes: int) -> MemorySegment | None:
        try:
            spare = self._spares.pop()
        except IndexError:
            return None
        if spare.size_bytes >= size_bytes:
            return spare
        self._keep_spare(spare)
        return None

    def _keep_spare(self, segment: MemorySegment) -> None:
        if self._spares:
            segment.close(keep=False)
            return
        self._spares.append(segment)
        if self.states.latest().layout.closed:
            self._close_spares()

    def _close_spares(self) -> None:
        with suppress(IndexError):
            while True:
                self._spares.pop().close(keep=False)


def _check_open(state: OutboxState) -> None:
    if state.layout.sealed:
        raise RuntimeError("the outbox takes no more records")


def _fits(state: OutboxState, payload_size_bytes: int) -> bool:
    """Tell whether the last segment has its name and room for a frame with a payload of this size."""
    last = state.layout.last
    return last.named and state.end + payload_size_bytes + FRAME_OVERHEAD_BYTES <= last.size_bytes
