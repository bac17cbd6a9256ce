"""One segment of the outbox: a file in shared memory, allocated in full and mapped before anybody writes to it."""

import ctypes
import mmap
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from crc32c import crc32c

from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, mask_crc, pack_head
from tensorboard_sidecar.protocol.storage.segment import pack_segment_head, segment_path
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.frames import Frames

pack_frame_head: Final = lru_cache(maxsize=256)(pack_head)  # a loop's records come in few sizes
_POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE of Linux 5.14, for which Python's mmap has no name
# Its pages take half a millisecond, in which a training thread that maps memory has to wait.
_POPULATE_BYTES: Final = 2**21
_LIBC: Final = ctypes.CDLL(None)


def pack_frame_rest(header: bytes, body: bytes) -> bytes:
    """Return what follows the head of a record's frame."""
    return b"".join((header, body, mask_crc(crc32c(body, crc32c(header))).to_bytes(4, "little")))


class MemorySegment(Frames):
    """A mapped segment of fixed size; frames are appended up to ``end`` once it has its name.

    Made as a spare without a name of its own; :meth:`begin` makes it the segment that begins with a number, and
    :meth:`take_name` lets others find it. Raises OSError (ENOSPC) when the memory is not there: a sparse map would
    answer that with SIGBUS at the first write instead.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.path = self._spare_path = folder / f"{id(self):x}.spare"
        self.size_bytes = size_bytes
        self.named = False
        # What a constructor that Ctrl-C ended has left under this name is written over.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(file, 0, size_bytes)
            self._inode = os.fstat(file).st_ino
            self.map = mmap.mmap(file, size_bytes)
            super().__init__(self.map, first_sequence=0, next_sequence=0, first_frame=0, end=0)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    def __repr__(self) -> str:
        return f"<MemorySegment {self.path.name} {self.end:,}/{self.size_bytes:,} bytes>"

    def populate(self) -> None:
        """Take all page faults now, so that whoever appends takes none: before others know of the segment.

        They run meanwhile: Python's own ``mmap.madvise`` holds the interpreter, a call by ctypes does not. A system
        that knows no such thing leaves the faults to the appends.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        for start in range(0, self.size_bytes, _POPULATE_BYTES):
            size = ctypes.c_size_t(min(_POPULATE_BYTES, self.size_bytes - start))
            _LIBC.madvise(ctypes.c_void_p(address + start), size, _POPULATE_WRITE)

    def begin(self, stream: Stream, first_sequence: int, wall_time_ns: int) -> None:
        """Write the head of the segment that begins at ``first_sequence``; it may still begin with another."""
        head = pack_segment_head(stream, first_sequence, wall_time_ns)
        self.map[: len(head)] = head
        self.end = self.first_frame = len(head)
        self.first_sequence = self.next_sequence = first_sequence

    def take_name(self) -> None:
        """Take the segment's name. Several may try at once: it is there when any of them returns. Raises OSError."""
        if self.named:
            return
        path = segment_path(self._spare_path.parent, self.first_sequence)
        try:
            self._spare_path.rename(path)
        except FileNotFoundError:
            if path.stat().st_ino != self._inode:
                raise
        self.path, self.named = path, True

    def fits(self, payload_size_bytes: int) -> bool:
        """Tell whether a frame with a payload of this size can be appended: not before the segment has its name."""
        return self.named and self.end + payload_size_bytes + FRAME_OVERHEAD_BYTES <= self.size_bytes

    def overwrite(self, start: int, data: bytes) -> None:
        """Write over bytes that were appended before."""
        self.map[start : start + len(data)] = data

    def close(self, *, keep: bool) -> None:
        """Unmap; delete the file unless it is to ``keep``."""
        self.map.close()
        if not keep:
            with suppress(OSError):  # a volume can be read-only by now; what stays was shipped, and is told so
                self.path.unlink(missing_ok=True)
