"""One segment of the outbox: a file in shared memory, allocated in full and mapped before anybody writes to it."""

import mmap
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, pack_head
from protocol.segment import pack_segment_head, segment_path
from protocol.stream import Stream
from trainer.telemetry.frames import Frames

_pack_head: Final = lru_cache(maxsize=256)(pack_head)  # a loop's records come in few sizes
_POPULATE: Final = getattr(mmap, "MAP_POPULATE", 0)  # Linux: page faults now, not on the training thread


class MemorySegment(Frames):
    """A mapped segment of fixed size; frames are appended up to ``end``.

    Made as a spare without a name of its own; :meth:`begin` gives it the name and head of a segment. Raises OSError
    (ENOSPC) when the memory is not there: a sparse map would answer that with SIGBUS at the first write instead.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.path = folder / f"{id(self):x}.spare"
        self.size_bytes = size_bytes
        # What a constructor that Ctrl-C ended has left under this name is written over.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(file, 0, size_bytes)
            self.map = mmap.mmap(file, size_bytes, mmap.MAP_SHARED | _POPULATE)
            super().__init__(self.map, first_sequence=0, next_sequence=0, first_frame=0, end=0)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def __repr__(self) -> str:
        return f"<MemorySegment {self.path.name} {self.end:,}/{self.size_bytes:,} bytes>"

    def begin(self, stream: Stream, first_sequence: int, wall_time_ns: int) -> None:
        """Write the head and take the name of the segment that begins at ``first_sequence``."""
        head = pack_segment_head(stream, first_sequence, wall_time_ns)
        self.map[: len(head)] = head
        self.end = self.first_frame = len(head)
        self.first_sequence = self.next_sequence = first_sequence
        self.path = self.path.rename(segment_path(self.path.parent, first_sequence))

    def fits(self, payload_size_bytes: int) -> bool:
        """Tell whether a frame with a payload of this size can be appended."""
        return self.end + payload_size_bytes + FRAME_OVERHEAD_BYTES <= self.size_bytes

    def append(self, rest: bytes, payload_size_bytes: int, next_sequence: int) -> None:
        """Append a frame given its payload and tail in one; its head goes last, so that a torn frame does not exist.

        From the head on nothing is called, so that no signal handler can come in between: Ctrl-C finds the record
        kept and accounted for, or not there.
        """
        start = self.end
        end = start + payload_size_bytes + FRAME_OVERHEAD_BYTES
        self.map[start + HEAD_SIZE_BYTES : end] = rest
        self.map[start : start + HEAD_SIZE_BYTES] = _pack_head(payload_size_bytes)
        self.next_sequence = next_sequence
        self.end = end

    def overwrite(self, start: int, data: bytes) -> None:
        """Write over bytes that were appended before."""
        self.map[start : start + len(data)] = data

    def close(self, *, keep: bool) -> None:
        """Unmap; delete the file unless it is to ``keep``."""
        if not keep:
            with suppress(OSError):  # a volume can be read-only by now; what stays was shipped, and is told so
                self.path.unlink(missing_ok=True)
        self.map.close()
