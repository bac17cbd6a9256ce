"""The outbox: a recording in shared memory, written by the training thread, emptied by the sender thread.

Rule 1: an append is a few memory copies. The head of a frame, twelve bytes, is written last, so that a record torn by
a kill does not exist. What lies in the map survives the process (C2).
Rule 2: a slot is a frame whose values are still on a device. Its place and size are fixed when it is reserved, so that
the records behind it are kept at once; nothing is shipped beyond the first slot that is not filled. Readers of an
orphaned outbox see an unfilled slot as damage, and its sequence number as lost.
Rule 3: when the outbox is full, records are refused by class, pictures first and lifecycle last. A refused record has
a sequence number; the next record that fits is preceded by a Gap that says which numbers, of which kinds, and why. The
sender thread tells it when no record comes.
Rule 4: numbers of slots and of refused records are written down in the owner's lock file as they are given out, so that
an orphaned outbox tells of those too that no record follows.
"""

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.frame import HEAD_SIZE_BYTES
from tensorboard_sidecar.protocol.outbox.owner_lock import OwnerLock
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, pack_header
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.allocator import Allocator
from tensorboard_sidecar.telemetry.outbox.frames import RunCutter
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment, pack_frame_rest
from tensorboard_sidecar.telemetry.outbox.overflow import Refusals
from tensorboard_sidecar.telemetry.outbox.state import Slot

SEGMENT_SIZE_BYTES: Final = 4 * 2**20


class Outbox:
    """A recording of ``stream`` in ``folder``; see the module's rules.

    ``append``, ``reserve`` and ``fill`` may be called from any thread; those that read and release belong to the sender
    thread. ``capacity_bytes`` bounds what is kept; the segment being filled and a spare come on top. Raises
    OSError when the folder or the first segment cannot be made; nothing is then left of it.
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
            raise RuntimeError("telemetry needs a Python with a global interpreter lock")
        self.folder, self.stream, self.capacity_bytes = folder, stream, capacity_bytes
        self._released_sequence = 1
        self._cutter = RunCutter()
        folder.mkdir(parents=True, mode=0o700)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            self._owner = OwnerLock(folder, make=True)
            undo.callback(self._owner.close)
            self._room = Allocator(
                folder,
                stream,
                capacity_bytes=capacity_bytes,
                segment_size_bytes=segment_size_bytes,
                wall_time_ns=wall_time_ns,
            )
            self._held, self._way = self._room.held, self._room.way
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Outbox next {self.next_sequence} {self.used_bytes:,}/{self.capacity_bytes:,} bytes>"

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that are not released; of the last, those written."""
        return self._held.used_bytes

    @property
    def first_sequence(self) -> int:
        """The first sequence number that is still held."""
        return self._held.segments[0].first_sequence

    @property
    def next_sequence(self) -> int:
        """The number behind the last that was given out."""
        return self._held.next_sequence

    @property
    def refusals(self) -> Refusals:
        """What was refused so far."""
        return self._held.refusals

    @property
    def oldest_slot(self) -> Slot | None:
        """The first slot that is not filled."""
        slots = self._held.slots
        return slots[0] if slots else None

    def append(self, kind: int, step: int, wall_time_ns: int, body: bytes) -> int:
        """Keep a record and return its sequence number, also when it is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        done: int
        size, tries, way = HEADER_SIZE_BYTES + len(body), 0, self._way
        while True:
            if tries:
                way.take(tries, size)
            elif way.holder:
                way.give()
            tries += 1
            segment = self._room.make(kind, size, wall_time_ns)
            if segment is None:
                sequence = done = self._refuse(kind)
            else:
                start, sequence = segment.end, segment.next_sequence
                header = pack_header(kind, 1, len(body), sequence, step, wall_time_ns)
                done = self._held.append(segment, start, pack_frame_rest(header, body), sequence + 1)
            if done:
                if way.holder:
                    way.end()
                return sequence

    def reserve(
        self, kind: int, step: int, wall_time_ns: int, body_size_max_bytes: int, values: Any = None
    ) -> Slot | None:
        """Reserve a place for a record that :meth:`fill` completes from its ``values``; None when it is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        done: int
        slot = Slot(kind, step, wall_time_ns, HEADER_SIZE_BYTES + body_size_max_bytes, values)
        tries, way = 0, self._way
        while True:
            if tries:
                way.take(tries, slot.size_bytes)
            elif way.holder:
                way.give()
            tries += 1
            segment = self._room.make(kind, slot.size_bytes, wall_time_ns)
            if segment is None:
                done = self._refuse(kind)
            else:
                slot.segment, slot.start, slot.sequence = segment, segment.end, segment.next_sequence
                # The header for those who step over frames, then zeros, in the checksum too: no reader takes it for
                # valid.
                header = pack_header(kind, 1, 0, slot.sequence, step, wall_time_ns)
                rest = header.ljust(slot.size_bytes + 4, b"\0")
                done = self._held.append(segment, slot.start, rest, slot.sequence + 1, slot=slot)
            if done:
                if way.holder:
                    way.end()
                if segment is None:
                    return None
                self._owner.give(slot.sequence)
                return slot

    def fill(self, slot: Slot, body: bytes, *, kind: int | None = None) -> None:
        """Complete a reserved record, padded with zeros to the size reserved; as another ``kind``, a gap, if need be.

        Raises TooLarge.
        """
        padding = slot.size_bytes - HEADER_SIZE_BYTES - len(body)
        if padding < 0:
            raise TooLarge("body for a reserved slot", len(body), slot.size_bytes - HEADER_SIZE_BYTES)
        header = pack_header(kind or slot.kind, 1, len(body), slot.sequence, slot.step, slot.wall_time_ns)
        slot.segment.overwrite(slot.start + HEAD_SIZE_BYTES, pack_frame_rest(header, body + bytes(padding)))
        self._held.slots.remove(slot)

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return the records from ``sequence`` on, at least one and about ``size_max_bytes``; None when there is none.

        Raises LookupError when ``sequence`` was released.
        """
        ends = [(segment, segment.end, segment.next_sequence) for segment in self._held.segments]
        slot = self.oldest_slot  # behind the ends, so that each slot before them is known
        if sequence >= ends[-1][2] or (slot and sequence >= slot.sequence):
            return None
        segment, end, next_sequence = _find(ends, sequence)
        if slot and slot.segment is segment:
            end, next_sequence = slot.start, slot.sequence
        return self._cutter.cut(segment, sequence, end, next_sequence, size_max_bytes)

    def oldest_full_segment(self) -> MemorySegment | None:
        """Return the oldest segment when nobody will write to it any more: another follows, and no slot is open."""
        segment, *others = self._held.segments
        slot = self.oldest_slot
        return segment if others and not (slot and slot.segment is segment) else None

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        self._released_sequence = next_sequence
        while (segment := self._held.release(next_sequence)) is not None:
            segment.close(keep=False)

    def prepare(self, wall_time_ns: int) -> None:
        """Do what the training thread is then spared, or what must not wait for its next record."""
        self._room.prepare(self._released_sequence, wall_time_ns)

    def seal(self) -> None:
        """Take no more records. What is there can still be filled, read and released."""
        self._held.sealed = True

    def close(self, *, keep: bool) -> None:
        """Let go of the memory; the files stay for a later drain when ``keep``, else they are deleted."""
        self._room.close(keep=keep)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._owner.close()

    def disown(self) -> None:
        """Let go of the lock in a forked child, which would else keep it as long as it lives. Not to be used again."""
        self._owner.close()

    def _refuse(self, kind: int) -> int:
        """Give a number to a record that is not kept; 0 when something came in between."""
        last, refusals = self._held.segments[-1], self._held.refusals
        sequence = last.next_sequence + refusals.untold
        if not self._held.refuse(sequence, refusals, kind):
            return 0
        self._owner.give(sequence)
        return sequence


def _find(ends: list[tuple[MemorySegment, int, int]], sequence: int) -> tuple[MemorySegment, int, int]:
    for found in ends:
        if found[0].first_sequence <= sequence < found[2]:
            return found
    raise LookupError(f"sequence {sequence} was released; {ends[0][0].first_sequence} is the first that is held")
