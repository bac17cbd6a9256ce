"""Finding recordings below a folder, and reading a recording, finished or still growing.

The reader has a position, a sequence number, and returns the records from there on, in order, each once. The reader
never waits: at the end ``read`` returns an empty list, and may be called again later.

Rule 1: a segment holds the sequence numbers from its first up to the first of the next segment. After a crash or a
failed write, the writer begins the next segment at the first number that is not durable; records of the older segment
from there on, whole or damaged, are skipped.
Rule 2: a torn frame ends its segment. A torn frame is damage only when the next segment begins behind the next number.
Rule 3: damage is counted and skipped; sequence numbers that are missing are in ``holes``.
Rule 4: a segment is complete when a later segment existed before the read that found no more records in the segment.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, End, Frame, read_frame
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES, SEQUENCE_MAX
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.record import Kind, Record, parse_record, parse_sequence
from tensorboard_sidecar.protocol.storage.segment import (
    SEGMENT_SUFFIX,
    SegmentFile,
    is_segment_name,
    list_segments,
    read_first_record,
    read_segment_head,
    read_stream,
)
from tensorboard_sidecar.protocol.stream import Stream

_PEEK_SIZE_BYTES: Final = 4096
_CHUNK_SIZE_BYTES: Final = 2**20
_CHUNK_SIZE_MAX_BYTES: Final = RECORD_SIZE_MAX_BYTES + FRAME_OVERHEAD_BYTES


class RecordingReader:
    """Reads one recording from ``next_sequence`` on; ``first_sequence`` is the first number that it may hold.

    ``damages`` describes damaged places, ``holes`` lists missing numbers as (first, last). Raises Malformed when no
    segment has a valid head, OSError when the folder or a segment cannot be read.
    """

    def __init__(self, folder: Path, *, next_sequence: int = 1) -> None:
        self.folder = folder
        segments = list_segments(folder)
        if not segments:
            raise FileNotFoundError(f"{folder} holds no segments; a recording is a folder of *.segment files")
        self.stream = read_stream(segments)
        self.first_sequence = segments[0].first_sequence
        self.next_sequence = next_sequence
        self.damages: list[str] = []
        self.holes: list[tuple[int, int]] = []
        self._stop_sequence = SEQUENCE_MAX
        self._file = -1
        self._open(max((s for s in segments if s.first_sequence <= next_sequence), default=segments[0]))

    def __repr__(self) -> str:
        return f"<RecordingReader {self.folder.name} at {self.next_sequence} in {self._segment.path.name}>"

    @property
    def in_last_segment(self) -> bool:
        """Whether the last read found no later segment."""
        return self._stop_sequence == SEQUENCE_MAX

    @property
    def at_end(self) -> bool:
        """Whether everything that the recording holds at present has been read. Raises OSError."""
        in_file = self._file >= 0 and os.fstat(self._file).st_size <= self._offset
        return in_file and self.in_last_segment and not self._following_segment()

    def close(self) -> None:
        """Close the open segment."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, size_max_bytes: int = _CHUNK_SIZE_BYTES) -> list[Record]:
        """Return the next records, about ``size_max_bytes`` of them; an empty list at the end."""
        return [parse_record(payload) for payload in self.read_payloads(size_max_bytes)]

    def read_payloads(self, size_max_bytes: int = _CHUNK_SIZE_BYTES) -> list[memoryview]:
        """Return the next records as the payloads of their frames, not decoded; see :meth:`read`."""
        while True:
            following = self._following_segment()
            offset = self._offset
            self._stop_sequence = following.first_sequence if following else SEQUENCE_MAX
            fresh, torn = self._read_chunk(max(size_max_bytes, HEAD_SIZE_BYTES))
            if fresh:
                return fresh
            if self._offset > offset:
                continue
            if following is None:
                return []
            if torn and self._offset > self._damage_end:
                self._note_damage(0, 0, "torn frame")
            self._open(following)

    def _read_chunk(self, size_bytes: int) -> tuple[list[memoryview], bool]:
        """Read whole frames from the offset and move behind them; tell whether a torn frame follows.

        Bytes at the end of the chunk that are no frame are read again, in a larger chunk if needed: the reader must see
        zeros and damage whole.
        """
        chunk = memoryview(os.pread(self._file, size_bytes, self._offset))
        may_grow = len(chunk) == size_bytes < _CHUNK_SIZE_MAX_BYTES
        fresh, start = [], 0
        while not isinstance(item := read_frame(chunk, start), End):
            if isinstance(item, Frame):
                if self._is_next(item):
                    fresh.append(item.payload)
            elif may_grow and item.end > len(chunk) - HEAD_SIZE_BYTES:
                break
            else:
                self._note_damage(item.start, item.end, item.reason)
            start = item.end
        needed = item.needed if isinstance(item, End) else 0
        if start == 0 and may_grow:
            return self._read_chunk(min(max(needed, 2 * size_bytes), _CHUNK_SIZE_MAX_BYTES))
        self._offset += start
        return fresh, needed > 0

    def _is_next(self, frame: Frame) -> bool:
        """Move the position behind a record; tell whether the record is new."""
        try:
            kind, sequence, next_sequence = parse_sequence(frame.payload)
        except ProtocolError as error:
            self._note_damage(frame.start, frame.end, str(error))
            return False
        if kind == Kind.SEGMENT or next_sequence <= self.next_sequence or sequence >= self._stop_sequence:
            return False
        if sequence > self.next_sequence:
            self.holes.append((self.next_sequence, sequence - 1))
        self.next_sequence = next_sequence
        return True

    def _following_segment(self) -> SegmentFile | None:
        """Return the segment to read next: a later segment, or another file that has this segment's name now."""
        for segment in list_segments(self.folder):
            if segment > self._segment:
                return segment
            if segment == self._segment and not os.path.samestat(segment.path.stat(), os.fstat(self._file)):
                return segment
        return None

    def _open(self, segment: SegmentFile) -> None:
        file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.close()
        self._file, self._segment, self._offset, self._damage_end = file, segment, 0, -1
        self._stop_sequence = SEQUENCE_MAX
        with suppress(Malformed):  # a damaged head is noted when it is read
            head = read_segment_head(segment.path)
            if head.stream != self.stream.id:
                size = os.fstat(file).st_size
                self._note_damage(0, size, f"a segment of another stream, {head.stream.hex()}")
                self._offset = size

    def _note_damage(self, start: int, end: int, reason: str) -> None:
        if self.next_sequence >= self._stop_sequence:
            return
        self.damages.append(f"{self._segment.path.name} at byte {self._offset + start:,}: {reason}")
        self._damage_end = self._offset + end


def find_recordings(root: Path) -> Iterator[tuple[Path, tuple[str, int]]]:
    """Yield every recording at or below ``root``, with a token that changes when the recording grows.

    Symbolic links are not followed. Folders that vanish during the walk, or cannot be read, are skipped.
    """
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(filter(is_segment_name, files), reverse=True):
            with suppress(FileNotFoundError):
                found = Path(folder, name).lstat()
                if stat.S_ISREG(found.st_mode):
                    yield Path(folder), (name, found.st_size)
                    break


class Beginning(NamedTuple):
    """The stream of a recording, and when the recording began.

    ``seen_ns`` is the time of the first segment's head, by the clock of the writer. ``start_ns`` is the time of the
    first record, by the clock of the stream; a record without a time (a gap) has ``seen_ns``. 0: there is no record.
    """

    stream: Stream
    start_ns: int
    seen_ns: int


def beginning_of(folder: Path) -> Beginning:
    """Return the beginning of a recording. Raises Malformed when no segment has a valid head, OSError."""
    with closing(RecordingReader(folder)) as reader:
        payloads = reader.read_payloads(_PEEK_SIZE_BYTES)
    head = read_first_record(list_segments(folder)[0].path)
    seen_ns = head.wall_time_ns if head is not None else 0
    start_ns = (parse_record(payloads[0]).wall_time_ns or seen_ns) if payloads else 0
    return Beginning(reader.stream, start_ns, seen_ns)


def require_recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the recordings at or below ``paths``, each once; raise FileNotFoundError for a path without any."""
    found: dict[Path, None] = {}
    for path in paths:
        below = [folder for folder, _ in find_recordings(path)]
        if not below:
            raise FileNotFoundError(
                f"no recording at or below {path}; a recording is a folder of *{SEGMENT_SUFFIX} files"
            )
        found.update(dict.fromkeys(below))
    return list(found)


def by_log_dir(paths: Sequence[Path]) -> list[tuple[Path, list[Path]]]:
    """Return the recordings at or below ``paths`` by the log directory in whose hidden folder they lie.

    Raises FileNotFoundError where there is no recording, and for a recording that lies in no log directory.
    """
    found: dict[Path, list[Path]] = {}
    for folder in require_recordings(paths):
        hidden = [parent for parent in folder.absolute().parents if parent.name == RECORDING_NAME]
        if not hidden:
            raise FileNotFoundError(
                f"{folder} lies in no log directory; say where its event files shall be: --logdir DIR"
            )
        found.setdefault(hidden[0].parent, []).append(folder)
    return list(found.items())
