"""The outbox: a recording in shared memory, written by the training thread, emptied by the sender thread.

Rule 1: a record gets its place and number first; then its bytes are copied into the place. ``append`` returns when the
bytes are in shared memory: from then on the record survives a kill (C2). This holds for every caller: the training
thread, any other thread, a signal handler, or a finalizer that the garbage collector runs, also in the middle of
another call of the same thread. A call that a kill or an exception ends has kept its record or has not.
Rule 2: no caller waits for another caller: placing needs no lock (see ``state``), and copies go to disjoint places. A
segment that was made in vain becomes the spare, or is deleted.
Rule 3: order in the stream is the order of places. Readers stop before the first record that is not written. When an
exception like KeyboardInterrupt ended a call between placing and copying, the sender thread writes the record.
Rule 4: a slot is a place whose values are still on a device; ``fill`` writes the record when the values arrive. Readers
of an orphaned outbox see a record that was not written as damage, and its number as lost.
Rule 5: when the outbox is full, records are refused by class, pictures first and lifecycle last. A refused record has
a sequence number; before the next record that fits, a Gap says which numbers, of which kinds, and why. The sender
thread appends the Gap when no record comes.
Rule 6: numbers of slots and of refused records are noted in the owner's lock file, so that an orphaned outbox tells
these numbers too when no record follows.
Rule 7: a scalar's record has a shorter way, ``append_scalar``, by the same rules. Where the rules ask for more than the
next place, ``append_scalar`` leaves the record to ``append``.
"""

import shutil
import sys
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.outbox.owner_lock import OwnerLock
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, FrameBatch, Kind
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_HEAD_MAX_BYTES
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.memory_segment import BatchCutter, MemorySegment
from tensorboard_sidecar.telemetry.outbox.state import (
    FullSegment,
    HostSlot,
    Layout,
    OutboxState,
    Refusals,
    ScalarSlot,
    Slot,
    StateChain,
    capacity_limits,
)

SEGMENT_SIZE_BYTES: Final = 4 * 2**20
_GAP_SIZE_MAX_BYTES: Final = HEADER_SIZE_BYTES + 1024
# An outbox of a script that ends within this time, with less records than this, needs no second segment: to make one
# takes longer than the script logs. The rest of the first segment is populated at the same moment.
_SHORT_NS: Final = 250_000_000
_SHORT_BYTES: Final = 2**18


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
        self._begun_ns, self._unpopulated = wall_time_ns, True
        segment = MemorySegment(folder, segment_size_bytes)
        segment.populate(0, _SHORT_BYTES)
        segment.begin(stream, 1, wall_time_ns)
        segment.take_name()
        layout = Layout(segment, scalars_max_bytes=self._limits[Kind.SCALARS])
        self.states = StateChain(OutboxState(layout, segment.first_frame, 1, (), layout.scalars_end))

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
        if self._unpopulated and not self._is_short(state, wall_time_ns):
            self._unpopulated = False
            state.layout.last.populate(_SHORT_BYTES)
        if not (self._spares or self._unpopulated) and state.used_bytes < self._capacity_bytes:
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

    def _is_short(self, state: OutboxState, wall_time_ns: int) -> bool:
        """Return whether the stream is young and has few records."""
        few = state.end < min(_SHORT_BYTES // 2, self._segment_size_bytes // 8) and not state.layout.full
        return few and wall_time_ns - self._begun_ns < _SHORT_NS

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


class Outbox:
    """A recording of ``stream`` in ``folder``; see the module's rules.

    Any thread may call ``append`` and ``reserve``; the sender thread alone reads, fills and releases.
    ``capacity_bytes`` bounds the records; the segment being filled and a spare segment come on top. Raises OSError when
    the folder or the first segment cannot be made, and leaves no folder then.
    """

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        *,
        capacity_bytes: int,
        wall_time_ns: int,
        segment_size_bytes: int = SEGMENT_SIZE_BYTES,
    ) -> None:
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            # Closing a map while another thread writes there was not tried without the lock.
            raise RuntimeError("telemetry needs a Python with a global interpreter lock")
        self.folder, self.stream, self.capacity_bytes = folder, stream, capacity_bytes
        self._released_sequence = 1
        self._cutter = BatchCutter()
        folder.mkdir(parents=True, mode=0o700)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            self._owner = OwnerLock(folder, make=True)
            undo.callback(self._owner.close)
            self._allocator = Allocator(
                folder,
                stream,
                capacity_bytes=capacity_bytes,
                segment_size_bytes=segment_size_bytes,
                wall_time_ns=wall_time_ns,
            )
            self._states = self._allocator.states
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Outbox next {self.next_sequence} {self.used_bytes:,}/{self.capacity_bytes:,} bytes>"

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that are not released; of the last segment, the bytes in use."""
        return self._states.latest().used_bytes

    @property
    def first_sequence(self) -> int:
        """The first sequence number that is still held."""
        return _extents(self._states.latest())[0].segment.first_sequence

    @property
    def next_sequence(self) -> int:
        """The number after the last number that was given out."""
        return self._states.latest().following_sequence

    @property
    def refusals(self) -> Refusals:
        """The account of refused records."""
        return self._states.latest().layout.refusals

    @property
    def oldest_slot(self) -> Slot | None:
        """The first record whose values are not there yet. For the sender thread."""
        return _first_waiting(self._states.latest())

    def append(self, kind: int, step: int, wall_time_ns: int, body: bytes) -> int:
        """Keep a record and return its sequence number, also when the record is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        slot = HostSlot(kind, step, wall_time_ns, body)
        try:
            if self._allocator.place(slot):
                slot.write()
            else:
                self._owner.give(self.next_sequence - 1)
        except BaseException:
            if not slot.written:
                self._note_interrupted()
            raise
        return slot.sequence

    def append_scalar(self, template: ScalarTemplate, step: int, wall_time_ns: int, value: float) -> bool:
        """Keep the record of one scalar if the record needs no more than the next place, as nearly always.

        False: nothing is kept and nothing is counted. :meth:`append` with the same record makes room, or refuses.
        """
        try:
            slot = self._states.place_scalar(template, step, wall_time_ns, value)
            if slot is None:
                return False
            try:  # as ``slot.write``, without its call
                template.write(slot.segment.map, slot.start, slot.sequence, step, wall_time_ns, value)
            except TypeError:
                slot.check_written()
            slot.written = True
        except BaseException:
            self._note_interrupted()
            raise
        return True

    def reserve(
        self, kind: int, step: int, wall_time_ns: int, body_size_max_bytes: int, values: Any = None
    ) -> Slot | None:
        """Reserve a place for a record that :meth:`fill` completes from its ``values``; None when it is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        slot = Slot(kind, step, wall_time_ns, HEADER_SIZE_BYTES + body_size_max_bytes, values)
        try:
            placed = self._allocator.place(slot)
            self._owner.give(self.next_sequence - 1)
        except BaseException:
            self._note_interrupted()
            raise
        if not placed:
            return None
        slot.mark()
        return slot

    def fill(self, slot: Slot, body: bytes, *, kind: int | None = None) -> None:
        """Complete a reserved record, padded with zeros to the reserved size; ``kind`` replaces its kind (a gap).

        For the sender thread. Raises TooLarge.
        """
        slot.fill(body, kind or slot.kind)
        self._allocator.forget_written()

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return the records from ``sequence`` on, at least one and about ``size_max_bytes``; None when there is none.

        Raises LookupError when ``sequence`` was released.
        """
        state = self._states.latest()
        slot = _first_waiting(state)
        extents = _extents(state)
        if sequence >= state.next_sequence or (slot and sequence >= slot.sequence):
            return None
        segment, end, next_sequence = _find(extents, sequence)
        if slot and slot.segment is segment:
            end, next_sequence = slot.start, slot.sequence
        return self._cutter.cut(segment, sequence, end, next_sequence, size_max_bytes)

    def oldest_full_segment(self) -> MemorySegment | None:
        """Return the oldest segment when all its records are written, and another segment follows."""
        state = self._states.latest()
        slot = _first_waiting(state)
        if not state.layout.full or (slot and slot.segment is state.layout.full[0].segment):
            return None
        segment, end, next_sequence = state.layout.full[0]
        return segment.finish(end, next_sequence)

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        self._released_sequence = next_sequence
        self._allocator.release(next_sequence)

    def prepare(self, wall_time_ns: int) -> None:
        """Do the work that would delay the training thread, or that must not wait for the next record."""
        self._allocator.prepare(self._released_sequence, wall_time_ns)

    def seal(self) -> None:
        """Take no more records. Kept records can still be filled, read and released."""
        self._allocator.change_layout(sealed=True)

    def close(self, *, keep: bool) -> None:
        """Unmap the memory; the files stay for a later drain when ``keep``, else they are deleted."""
        self._allocator.close(keep=keep)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._owner.close()

    def _note_interrupted(self) -> None:
        """Note the last number that was given out, as rule 6 says, when an exception ends a call.

        A handler may have closed the outbox in the middle of the call. The exception, an exit for example, goes on.
        """
        with suppress(ValueError):
            self._owner.give(self.next_sequence - 1)


def _extents(state: OutboxState) -> tuple[FullSegment, ...]:
    """Return all segments, and how far they are in use."""
    return (*state.layout.full, FullSegment(state.layout.last, state.end, state.next_sequence))


def _find(extents: tuple[FullSegment, ...], sequence: int) -> FullSegment:
    for extent in extents:
        if extent.segment.first_sequence <= sequence < extent.next_sequence:
            return extent
    raise LookupError(
        f"sequence {sequence} was released; {extents[0].segment.first_sequence} is the first that is held"
    )


def _first_waiting(state: OutboxState) -> Slot | None:
    """Return the first slot that waits for its values. Write the records that an interrupted call has not written."""
    waiting = None
    for slot in state.slots:
        if not slot.written:
            if isinstance(slot, HostSlot | ScalarSlot):
                slot.write()
            elif waiting is None:
                waiting = slot
    return waiting


def _check_open(state: OutboxState) -> None:
    if state.layout.sealed:
        raise RuntimeError("the outbox takes no more records")


def _fits(state: OutboxState, payload_size_bytes: int) -> bool:
    """Tell whether the last segment has its name and room for a frame with a payload of this size."""
    last = state.layout.last
    return last.named and state.end + payload_size_bytes + FRAME_OVERHEAD_BYTES <= last.size_bytes
