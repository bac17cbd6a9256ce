"""Reading a recording, finished or still growing.

The reader stands at a sequence number and yields what lies there, in order, once. It waits for nothing: when it has
read all there is, ``read`` returns an empty list, and may be called again later.

Rule 1: a torn frame at the end of the last segment is unfinished, not wrong. Anywhere else it is damage.
Rule 2: damage is counted and passed over; sequence numbers that never came are in ``holes``.
Rule 3: what was read before is not read again (a segment begun anew after a failed write repeats some records).
"""

import os
from pathlib import Path
from typing import Final

from protocol.errors import ProtocolError
from protocol.frame import End, Frame, read_frame
from protocol.record import Kind, Record, parse_record, parse_sequence
from protocol.segment import SegmentFile, list_segments, read_segment_head
from protocol.stream import Stream

_CHUNK_SIZE_BYTES: Final = 2**20


class RecordingReader:
    """Reads one recording from ``next_sequence`` on; ``first_sequence`` is the first that it may hold.

    Raises Malformed when the first segment has no valid head, OSError when it cannot be read.
    """

    def __init__(self, folder: Path, *, next_sequence: int = 1) -> None:
        self.folder = folder
        segments = list_segments(folder)
        if not segments:
            raise FileNotFoundError(f"{folder} holds no segments; a recording is a folder of *.segment files")
        self.stream = Stream.of(read_segment_head(segments[0].path))
        self.first_sequence = segments[0].first_sequence
        self.next_sequence = next_sequence
        self.damages: list[str] = []
        self.holes: list[tuple[int, int]] = []
        self._segment = max((s for s in segments if s.first_sequence <= next_sequence), default=segments[0])
        self._file = os.open(self._segment.path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = 0

    def __repr__(self) -> str:
        return f"<RecordingReader {self.folder.name} at {self.next_sequence} in {self._segment.path.name}>"

    def close(self) -> None:
        """Close the open segment."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, size_max_bytes: int = _CHUNK_SIZE_BYTES) -> list[Record]:
        """Return the records that follow, about ``size_max_bytes`` of them; empty when there are none now."""
        return [parse_record(payload) for payload in self.read_payloads(size_max_bytes)]

    def read_payloads(self, size_max_bytes: int = _CHUNK_SIZE_BYTES) -> list[memoryview]:
        """As :meth:`read`, the payloads of the frames as they lie."""
        while True:
            later = self._later_segments()  # listed before reading: what is then read is all of this segment
            offset = self._offset
            payloads, torn = self._read_chunk(size_max_bytes)
            fresh = [payload for payload in payloads if self._is_next(payload)]
            if fresh:
                return fresh
            if self._offset > offset:
                continue
            if not later:
                return []
            if torn:
                self._note_damage(offset, "torn frame")
            self._open(later[0])

    def _read_chunk(self, size_bytes: int) -> tuple[list[memoryview], bool]:
        """Read whole frames from the offset and move behind them; tell whether a torn frame follows."""
        chunk = memoryview(os.pread(self._file, size_bytes, self._offset))
        payloads, start = [], 0
        while not isinstance(item := read_frame(chunk, start), End):
            if isinstance(item, Frame):
                payloads.append(item.payload)
            else:
                self._note_damage(self._offset + start, item.reason)
            start = item.end
        if start == 0 and item.needed > len(chunk) == size_bytes:
            return self._read_chunk(item.needed)
        self._offset += start
        return payloads, item.needed > 0

    def _is_next(self, payload: memoryview) -> bool:
        """Account for the payload's sequence number; tell whether it is new."""
        try:
            kind, sequence, next_sequence = parse_sequence(payload)
        except ProtocolError as error:
            self._note_damage(self._offset, str(error))
            return False
        if kind == Kind.SEGMENT or next_sequence <= self.next_sequence:
            return False
        if sequence > self.next_sequence:
            self.holes.append((self.next_sequence, sequence - 1))
        self.next_sequence = next_sequence
        return True

    def _later_segments(self) -> list[SegmentFile]:
        return [segment for segment in list_segments(self.folder) if segment > self._segment]

    def _open(self, segment: SegmentFile) -> None:
        self.close()
        self._segment, self._offset = segment, 0
        self._file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)

    def _note_damage(self, offset: int, reason: str) -> None:
        self.damages.append(f"{self._segment.path.name} at byte {offset:,}: {reason}")
