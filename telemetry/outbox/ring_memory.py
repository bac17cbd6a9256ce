"""The flight ring in shared memory, as its trainer writes it; ``protocol.outbox.flight_ring`` defines its bytes.

The callers of ``append`` are those of ``outbox``, rule 1: any thread, signal handler or finalizer. No caller waits: a
place is reserved by one ``list.append`` (see ``state``), and the entries are copied to disjoint places. A thread that
is suspended while others go once around the ring damages a newer entry; the checksums tell the reader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.outbox.flight_ring import (
    ENTRIES_START,
    MARK_SIZE_BYTES,
    MARKS,
    RING_NAME,
    Mark,
    ring_size_bytes,
)
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind, pack_header
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment

_SLICE_BYTES: Final = 2**17  # copying a slice holds the interpreter for some 0.05 ms


Place: TypeAlias = tuple[int, int]
"""The bytes ``[start, end)`` of the ring, for an entry."""


class _Last(msgspec.Struct, eq=False):
    """The place of the entry that was placed last, and its number; ``successors`` as in ``state``."""

    start: int
    end: int
    number: int
    successors: list["_Last"] = []


class RingMemory:
    """The ring of ``steps`` steps in the folder of an outbox; ``mark`` is the mark that was written last.

    Raises OSError when memory is full.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.size_bytes = ring_size_bytes(steps)
        self.mark = Mark(steps)
        self._marks = 0
        self._memory = MemorySegment(folder, self.size_bytes)
        self._memory.populate()
        self._last = _Last(ENTRIES_START, ENTRIES_START, 0)
        self.write_mark(self.mark)
        self._memory.path = self._memory.path.rename(folder / RING_NAME)

    def append(self, step: int, wall_time_ns: int, body: bytes) -> Place | None:
        """Keep an entry, and return its place; None for an entry that is larger than the ring.

        Raises ValueError when the ring is closed.
        """
        size = FRAME_OVERHEAD_BYTES + HEADER_SIZE_BYTES + len(body)
        if size > self.size_bytes - ENTRIES_START:
            return None
        placed = self._reserve(size)
        header = pack_header(Kind.SCALARS, 1, len(body), placed.number, step, wall_time_ns)
        self._memory.write_frame(placed.start, header, body)
        return placed.start, placed.end

    def read(self, place: Place) -> bytes:
        """Return the bytes at a place: the entry, or what has overwritten the entry."""
        return self._memory.map[place[0] : place[1]]

    def copy(self, pause: Callable[[], None]) -> memoryview:
        """Return a copy of the ring. ``pause`` is called between parts, so that other threads can run."""
        data = bytearray(self.size_bytes)
        for start in range(0, self.size_bytes, _SLICE_BYTES):
            data[start : start + _SLICE_BYTES] = self._memory.map[start : start + _SLICE_BYTES]
            pause()
        return memoryview(data)

    def write_mark(self, mark: Mark) -> None:
        """Write what was shipped. Called by one thread at a time."""
        self.mark = mark
        frame, start = mark.pack(), self._marks % MARKS * MARK_SIZE_BYTES
        self._memory.map[start : start + len(frame)] = frame
        self._marks += 1

    def close(self) -> None:
        """Unmap the memory, and delete the file."""
        self._memory.close(keep=False)

    def _reserve(self, size_bytes: int) -> _Last:
        while True:
            last = self._last
            while last.successors:
                last = last.successors[0]
            start = last.end if last.end + size_bytes <= self.size_bytes else ENTRIES_START
            placed = _Last(start, start + size_bytes, last.number + 1)
            last.successors.append(placed)
            if last.successors[0] is placed:
                self._last = placed
                if start < last.end:  # once around: what is left at the end is older than all that lies at the front
                    self._memory.map[last.end :] = bytes(self.size_bytes - last.end)
                return placed
