"""The outbox: a recording in shared memory, written by the training thread, emptied by the sender thread.

Rule 1: an append is a few memory copies. The head of a frame, twelve bytes, is written last, so that a record torn by
a kill does not exist. What lies in the map survives the process (C2).
Rule 2: a slot is a frame whose values are still on a device. Its place and size are fixed when it is reserved, so that
the records behind it are kept at once; nothing is shipped beyond the first slot that is not filled. Readers of an
orphaned outbox see an unfilled slot as damage, and its sequence number as lost.
Rule 3: when the outbox is full, records are refused by class, pictures first and lifecycle last. A refused record has
a sequence number; the next record that fits is preceded by a Gap that says which numbers, of which kinds, and why.
"""

import fcntl
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from crc32c import crc32c

from protocol.codec import encode_body
from protocol.errors import TooLarge
from protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, mask_crc
from protocol.limits import RECORD_SIZE_MAX_BYTES
from protocol.record import HEADER_SIZE_BYTES, Kind, pack_header
from protocol.run import Run
from protocol.segment import SEGMENT_HEAD_MAX_BYTES
from protocol.stream import Stream
from trainer.telemetry.memory_segment import MemorySegment
from trainer.telemetry.refusal import Refusals, capacity_limits

SEGMENT_SIZE_BYTES: Final = 4 * 2**20
OWNER_LOCK: Final = "owner.lock"
# Ends of earlier reads that are remembered, one for each reader: the link and the recorder.
_READERS_MAX: Final = 4


class Slot:
    """A reserved frame at ``start`` of ``segment``, ``size_bytes`` of payload, for the record described."""

    __slots__ = ("kind", "segment", "sequence", "size_bytes", "start", "step", "wall_time_ns")

    def __init__(self, kind: int, step: int, wall_time_ns: int, size_bytes: int) -> None:
        self.kind, self.step, self.wall_time_ns, self.size_bytes = kind, step, wall_time_ns, size_bytes
        self.segment: MemorySegment
        self.sequence = self.start = 0


class Outbox:
    """A recording of ``stream`` in ``folder``; see the module's rules.

    ``append``, ``reserve`` and ``fill`` may be called from any thread; ``read``, ``release`` and ``prepare`` belong to
    the sender thread. ``capacity_bytes`` bounds what is kept; the segment being filled and a spare come on top. Raises
    OSError when the folder or the first segment cannot be made.
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
        self._slots: deque[Slot] = deque()
        folder.mkdir(parents=True, mode=0o700)
        self._owner = lock_owner(folder)
        segment = MemorySegment(folder, segment_size_bytes)
        segment.begin(stream, 1, wall_time_ns)
        self._segments = [segment]
        self._spare: MemorySegment | None = None
        self._full_segments_bytes = 0
        self._starts: dict[int, tuple[MemorySegment, int]] = {}

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
        """Keep a record and return its sequence number, also when it is refused. Raises TooLarge."""
        size = HEADER_SIZE_BYTES + len(body)
        with self._lock:
            if not self._make_room(kind, size, wall_time_ns):
                return self._refuse(kind)
            sequence = self.next_sequence
            header = pack_header(kind, 1, len(body), sequence, step, wall_time_ns)
            self.next_sequence += 1
            self._append_frame(header, body)
        return sequence

    def reserve(self, kind: int, step: int, wall_time_ns: int, body_size_max_bytes: int) -> Slot | None:
        """Reserve a place for a record that :meth:`fill` completes; None when it is refused. Raises TooLarge."""
        slot = Slot(kind, step, wall_time_ns, HEADER_SIZE_BYTES + body_size_max_bytes)
        with self._lock:
            if not self._make_room(kind, slot.size_bytes, wall_time_ns):
                self._refuse(kind)
                return None
            slot.segment, slot.sequence = self._segments[-1], self.next_sequence
            slot.start = slot.segment.end
            self.next_sequence += 1
            # Zeros where payload and checksum will be: a frame that no reader takes for valid.
            slot.segment.append(bytes(slot.size_bytes + 4), slot.size_bytes, self.next_sequence)
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
        start = self._start_of(segment, sequence)
        if end - start > size_max_bytes:
            end, next_sequence = segment.walk(start, size_max_bytes)
        self._starts[next_sequence] = (segment, end)
        return Run(segment.copy(start, end), sequence, next_sequence)

    def release(self, next_sequence: int) -> None:
        """Give back the segments whose records all lie before ``next_sequence``."""
        while len(self._segments) > 1 and self._segments[0].next_sequence <= next_sequence:
            with self._lock:
                segment = self._segments.pop(0)
                self._full_segments_bytes -= segment.size_bytes
            segment.close(keep=False)

    def prepare(self) -> None:
        """Keep a spare segment at hand, so that the training thread seldom makes one."""
        if self._spare is None and self.used_bytes < self.capacity_bytes:
            with suppress(OSError):  # no memory now: a record that finds no room will be refused, and counted
                self._spare = MemorySegment(self.folder, self._segment_size_bytes)

    def close(self, *, keep: bool) -> None:
        """Let go of the memory; the files stay for a later drain when ``keep``, else they are deleted."""
        with self._lock:
            for segment in [*self._segments, *filter(None, [self._spare])]:
                segment.close(keep=keep and segment is not self._spare)
        if not keep:
            (self.folder / OWNER_LOCK).unlink()
            self.folder.rmdir()
        os.close(self._owner)

    def _make_room(self, kind: int, size_bytes: int, wall_time_ns: int) -> bool:
        """Tell whether a payload can be appended now, after telling an open gap and beginning a segment where due."""
        if self.used_bytes + size_bytes > self._limits[kind]:
            return False
        if not self.refusals and self._segments[-1].fits(size_bytes):
            return True
        if size_bytes > RECORD_SIZE_MAX_BYTES:
            raise TooLarge("record in bytes", size_bytes, RECORD_SIZE_MAX_BYTES)
        if self.refusals and not self._append_gap(wall_time_ns):
            return False
        return self._segments[-1].fits(size_bytes) or self._begin_segment(size_bytes, wall_time_ns)

    def _start_of(self, segment: MemorySegment, sequence: int) -> int:
        """Return where a frame starts: where an earlier read ended, or by walking there from the segment's head."""
        known, start = self._starts.pop(sequence, (None, 0))
        if len(self._starts) > _READERS_MAX:
            self._starts.clear()
        return start if known is segment else segment.seek(sequence)

    def _append_frame(self, header: bytes, body: bytes) -> None:
        rest = b"".join((header, body, _pack_crc(crc32c(body, crc32c(header)))))
        self._segments[-1].append(rest, len(rest) - 4, self.next_sequence)

    def _append_gap(self, wall_time_ns: int) -> bool:
        """Append the gap over the numbers since the last frame; tell whether there was room."""
        gap_size_max_bytes = HEADER_SIZE_BYTES + 1024
        if not self._segments[-1].fits(gap_size_max_bytes) and not self._begin_segment(
            gap_size_max_bytes, wall_time_ns
        ):
            return False
        first = self._segments[-1].next_sequence
        body = encode_body(self.refusals.take_gap())
        header = pack_header(Kind.GAP, self.next_sequence - first, len(body), first, 0, wall_time_ns)
        self._append_frame(header, body)
        return True

    def _begin_segment(self, size_bytes: int, wall_time_ns: int) -> bool:
        """Begin the next segment, large enough for a payload; tell whether there was memory."""
        last, spare = self._segments[-1], self._spare
        size = max(self._segment_size_bytes, size_bytes + FRAME_OVERHEAD_BYTES + SEGMENT_HEAD_MAX_BYTES)
        if spare is None or spare.size_bytes < size:
            try:
                spare = MemorySegment(self.folder, size)
            except OSError:
                return False
        else:
            self._spare = None
        spare.begin(self.stream, last.next_sequence, wall_time_ns)
        self._full_segments_bytes += last.size_bytes
        self._segments.append(spare)
        return True

    def _refuse(self, kind: int) -> int:
        self.refusals.add(kind)
        self.next_sequence += 1
        return self.next_sequence - 1


def lock_owner(folder: Path) -> int:
    """Lock an outbox for as long as the returned descriptor is open. Raises BlockingIOError when another owns it."""
    descriptor = os.open(folder / OWNER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _find(ends: list[tuple[MemorySegment, int, int]], sequence: int) -> tuple[MemorySegment, int, int]:
    for found in ends:
        if found[0].first_sequence <= sequence < found[2]:
            return found
    raise LookupError(f"sequence {sequence} was released; {ends[0][0].first_sequence} is the first that is held")


def _pack_crc(crc: int) -> bytes:
    return mask_crc(crc).to_bytes(4, "little")
