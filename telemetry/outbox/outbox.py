"""The outbox: a recording in shared memory, written by the training thread, emptied by the sender thread.

Rule 1: a record gets its place and number first; then its bytes are copied into the place. ``append`` returns when the
bytes are in shared memory: from then on the record survives a kill (C2). This holds for every caller: any thread, a
signal handler, a finalizer, also in the middle of another call of the same thread. A call that a kill or an exception
ends has kept its record or has not.
Rule 2: no caller waits for another caller. Placing takes a microsecond and needs no lock (see ``state``); copies go to
disjoint places.
Rule 3: order in the stream is the order of places. Readers stop before the first record that is not written. When an
exception like KeyboardInterrupt ended a call between placing and copying, the sender thread writes the record.
Rule 4: a slot is a place whose values are still on a device; ``fill`` writes the record when the values arrive. Readers
of an orphaned outbox see a record that was not written as damage, and its number as lost.
Rule 5: when the outbox is full, records are refused by class, pictures first and lifecycle last. A refused record has
a sequence number; before the next record that fits, a Gap says which numbers, of which kinds, and why. The sender
thread appends the Gap when no record comes.
Rule 6: numbers of slots and of refused records are noted in the owner's lock file, so that an orphaned outbox tells
these numbers too when no record follows.
"""

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.protocol.outbox.owner_lock import OwnerLock
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, FrameBatch
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.allocator import Allocator
from tensorboard_sidecar.telemetry.outbox.memory_segment import BatchCutter, MemorySegment
from tensorboard_sidecar.telemetry.outbox.state import FullSegment, HostSlot, OutboxState, Refusals, Slot

SEGMENT_SIZE_BYTES: Final = 4 * 2**20


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
        finally:
            if not slot.written:
                self._owner.give(self.next_sequence - 1)
        return slot.sequence

    def reserve(
        self, kind: int, step: int, wall_time_ns: int, body_size_max_bytes: int, values: Any = None
    ) -> Slot | None:
        """Reserve a place for a record that :meth:`fill` completes from its ``values``; None when it is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        slot = Slot(kind, step, wall_time_ns, HEADER_SIZE_BYTES + body_size_max_bytes, values)
        try:
            if not self._allocator.place(slot):
                return None
        finally:
            self._owner.give(self.next_sequence - 1)
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

    def disown(self) -> None:
        """Close the owner lock in a forked child, so that the child does not hold the lock while it lives.

        The outbox cannot be used after that.
        """
        self._owner.close()


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
            if isinstance(slot, HostSlot):
                slot.write()
            elif waiting is None:
                waiting = slot
    return waiting
