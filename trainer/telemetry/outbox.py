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
import threading
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from crc32c import crc32c

from protocol.codec import encode_body
from protocol.errors import TooLarge
from protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, mask_crc
from protocol.limits import RECORD_SIZE_MAX_BYTES
from protocol.owner_lock import OwnerLock
from protocol.record import HEADER_SIZE_BYTES, Kind, pack_header
from protocol.run import Run
from protocol.segment import SEGMENT_HEAD_MAX_BYTES
from protocol.stream import Stream
from trainer.telemetry.frames import RunCutter
from trainer.telemetry.memory_segment import MemorySegment
from trainer.telemetry.refusal import Refusals, capacity_limits

SEGMENT_SIZE_BYTES: Final = 4 * 2**20
_GAP_SIZE_MAX_BYTES: Final = HEADER_SIZE_BYTES + 1024


class Slot:
    """A reserved frame at ``start`` of ``segment``, ``size_bytes`` of payload, for the record described."""

    __slots__ = ("kind", "segment", "sequence", "size_bytes", "start", "step", "wall_time_ns")

    def __init__(self, kind: int, step: int, wall_time_ns: int, size_bytes: int) -> None:
        self.kind, self.step, self.wall_time_ns, self.size_bytes = kind, step, wall_time_ns, size_bytes
        self.segment: MemorySegment
        self.sequence = self.start = 0


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
        self.folder, self.stream, self.capacity_bytes = folder, stream, capacity_bytes
        self.refusals = Refusals()
        self.next_sequence = 1
        self._segment_size_bytes = segment_size_bytes
        self._limits = capacity_limits(capacity_bytes)
        self._lock = threading.Lock()
        self._sealed = False
        self._slots: deque[Slot] = deque()
        self._spare: MemorySegment | None = None
        self._released_sequence = 1
        self._full_segments_bytes = 0
        self._cutter = RunCutter()
        folder.mkdir(parents=True, mode=0o700)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            self._owner = OwnerLock(folder, make=True)
            undo.callback(self._owner.close)
            segment = MemorySegment(folder, segment_size_bytes)
            segment.begin(stream, 1, wall_time_ns)
            self._segments = [segment]
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Outbox next {self.next_sequence} {self.used_bytes:,}/{self.capacity_bytes:,} bytes>"

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that are not released; of the last, those written."""
        return self._full_segments_bytes + self._segments[-1].end

    @property
    def first_sequence(self) -> int:
        """The first sequence number that is still held."""
        return self._segments[0].first_sequence

    def append(self, kind: int, step: int, wall_time_ns: int, body: bytes) -> int:
        """Keep a record and return its sequence number, also when it is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        size = HEADER_SIZE_BYTES + len(body)
        with self._lock:
            if not self._make_room(kind, size, wall_time_ns):
                return self._refuse(kind)
            segment = self._segments[-1]
            sequence = segment.next_sequence
            header = pack_header(kind, 1, len(body), sequence, step, wall_time_ns)
            rest = b"".join((header, body, _pack_crc(crc32c(body, crc32c(header)))))
            segment.append(rest, size, sequence + 1)
            self.next_sequence = sequence + 1
        return sequence

    def reserve(self, kind: int, step: int, wall_time_ns: int, body_size_max_bytes: int) -> Slot | None:
        """Reserve a place for a record that :meth:`fill` completes; None when it is refused.

        Raises TooLarge, RuntimeError when sealed.
        """
        slot = Slot(kind, step, wall_time_ns, HEADER_SIZE_BYTES + body_size_max_bytes)
        with self._lock:
            if not self._make_room(kind, slot.size_bytes, wall_time_ns):
                self._refuse(kind)
                return None
            slot.segment = segment = self._segments[-1]
            slot.sequence, slot.start = segment.next_sequence, segment.end
            self._owner.give(slot.sequence)
            # The header for those who step over frames, then zeros, in the checksum too: no reader takes it for valid.
            header = pack_header(kind, 1, 0, slot.sequence, step, wall_time_ns)
            segment.append(header.ljust(slot.size_bytes + 4, b"\0"), slot.size_bytes, slot.sequence + 1)
            self.next_sequence = slot.sequence + 1
            self._slots.append(slot)
        return slot

    def fill(self, slot: Slot, body: bytes, *, kind: int | None = None) -> None:
        """Complete a reserved record, padded with zeros to the size reserved; as another ``kind``, a gap, if need be.

        Raises TooLarge.
        """
        padding = slot.size_bytes - HEADER_SIZE_BYTES - len(body)
        if padding < 0:
            raise TooLarge("body for a reserved slot", len(body), slot.size_bytes - HEADER_SIZE_BYTES)
        header = pack_header(kind or slot.kind, 1, len(body), slot.sequence, slot.step, slot.wall_time_ns)
        payload = b"".join((header, body, bytes(padding)))
        slot.segment.overwrite(slot.start + HEAD_SIZE_BYTES, payload + _pack_crc(crc32c(payload)))
        with self._lock:
            self._slots.remove(slot)

    def read(self, sequence: int, size_max_bytes: int) -> Run | None:
        """Return the records from ``sequence`` on, at least one and about ``size_max_bytes``; None when there is none.

        Raises LookupError when ``sequence`` was released.
        """
        with self._lock:
            ends = [(segment, segment.end, segment.next_sequence) for segment in self._segments]
            slot = self._slots[0] if self._slots else None
        if sequence >= (slot.sequence if slot else ends[-1][2]):
            return None
        segment, end, next_sequence = _find(ends, sequence)
        if slot and slot.segment is segment:
            end, next_sequence = slot.start, slot.sequence
        return self._cutter.cut(segment, sequence, end, next_sequence, size_max_bytes)

    def oldest_full_segment(self) -> MemorySegment | None:
        """Return the oldest segment when nobody will write to it any more: another follows, and no slot is open."""
        with self._lock:
            [segment, *others] = self._segments
            slot = self._slots[0] if self._slots else None
        return segment if others and not (slot and slot.segment is segment) else None

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        self._released_sequence = next_sequence
        while len(self._segments) > 1 and self._segments[0].next_sequence <= next_sequence:
            with self._lock:
                segment = self._segments.pop(0)
                self._count_full_segments()
            segment.close(keep=False)

    def prepare(self, wall_time_ns: int) -> None:
        """Do what the training thread is then spared, or what must not wait for its next record.

        A spare segment is kept at hand. A last segment that was released, but is a good part of the capacity, gives way
        to the spare: nothing else would ever make room again. Refusals are told once there is room.
        """
        if self._spare is None and self.used_bytes < self.capacity_bytes:
            with suppress(OSError):  # no memory now: a record that finds no room will be refused, and counted
                self._spare = MemorySegment(self.folder, self._segment_size_bytes)
        with self._lock:
            last = self._segments[-1]
            released = last.next_sequence <= self._released_sequence
            if released and last.end > self.capacity_bytes / 8 and self._spare is not None:
                self._begin_segment(0, wall_time_ns)
            if self.refusals and self.used_bytes + _GAP_SIZE_MAX_BYTES <= self.capacity_bytes:
                self._append_gap(wall_time_ns)

    def seal(self) -> None:
        """Take no more records. What is there can still be filled, read and released."""
        with self._lock:
            self._sealed = True
            self._limits = [-1.0] * len(self._limits)

    def close(self, *, keep: bool) -> None:
        """Let go of the memory; the files stay for a later drain when ``keep``, else they are deleted."""
        self.seal()
        with self._lock:
            for segment in [*self._segments, *filter(None, [self._spare])]:
                segment.close(keep=keep and segment is not self._spare)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._owner.close()

    def disown(self) -> None:
        """Let go of the lock in a forked child, which would else keep it as long as it lives. Not to be used again."""
        self._owner.close()

    def _make_room(self, kind: int, size_bytes: int, wall_time_ns: int) -> bool:
        """Tell whether a payload can be appended now, after telling an open gap and beginning a segment where due."""
        last = self._segments[-1]
        if self._full_segments_bytes + last.end + size_bytes > self._limits[kind]:
            if self._sealed:
                raise RuntimeError("the outbox takes no more records")
            return False
        if not self.refusals and last.fits(size_bytes):
            return True
        if size_bytes > RECORD_SIZE_MAX_BYTES:
            raise TooLarge("record in bytes", size_bytes, RECORD_SIZE_MAX_BYTES)
        if self.refusals and not self._append_gap(wall_time_ns):
            return False
        return self._segments[-1].fits(size_bytes) or self._begin_segment(size_bytes, wall_time_ns)

    def _append_gap(self, wall_time_ns: int) -> bool:
        """Append the gap over the numbers since the last frame; tell whether there was room."""
        if not self._segments[-1].fits(_GAP_SIZE_MAX_BYTES) and not self._begin_segment(
            _GAP_SIZE_MAX_BYTES, wall_time_ns
        ):
            return False
        segment = self._segments[-1]
        first, span = segment.next_sequence, self.next_sequence - segment.next_sequence
        body = encode_body(self.refusals.gap())
        header = pack_header(Kind.GAP, span, len(body), first, 0, wall_time_ns)
        if span > 0:  # else told before, and interrupted before that was noted
            rest = b"".join((header, body, _pack_crc(crc32c(body, crc32c(header)))))
            segment.append(rest, len(rest) - 4, self.next_sequence)
        self.refusals.told()
        return True

    def _begin_segment(self, size_bytes: int, wall_time_ns: int) -> bool:
        """Begin the next segment, large enough for a payload; tell whether there was memory."""
        last, spare = self._segments[-1], self._spare
        size = max(self._segment_size_bytes, size_bytes + FRAME_OVERHEAD_BYTES + SEGMENT_HEAD_MAX_BYTES)
        try:
            if spare is None or spare.size_bytes < size:
                spare = MemorySegment(self.folder, size)
            else:
                self._spare = None
            spare.begin(self.stream, last.next_sequence, wall_time_ns)
        except OSError:
            return False
        if last.next_sequence > last.first_sequence:
            self._segments.append(spare)
        else:  # it is empty, and its name is now that of the new one
            self._segments[-1] = spare
            last.close(keep=True)
        self._count_full_segments()
        return True

    def _count_full_segments(self) -> None:
        self._full_segments_bytes = sum(segment.size_bytes for segment in self._segments[:-1])

    def _refuse(self, kind: int) -> int:
        sequence = self.next_sequence
        self._owner.give(sequence)
        self.refusals.add(kind)
        self.next_sequence = sequence + 1
        return sequence


def _find(ends: list[tuple[MemorySegment, int, int]], sequence: int) -> tuple[MemorySegment, int, int]:
    for found in ends:
        if found[0].first_sequence <= sequence < found[2]:
            return found
    raise LookupError(f"sequence {sequence} was released; {ends[0][0].first_sequence} is the first that is held")


def _pack_crc(crc: int) -> bytes:
    return mask_crc(crc).to_bytes(4, "little")
