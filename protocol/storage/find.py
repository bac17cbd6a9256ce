"""Finds recordings: folders with segments, anywhere below a folder; and reads when each recording began."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.record import parse_record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import (
    SEGMENT_HEAD_MAX_BYTES,
    SEGMENT_SUFFIX,
    is_segment_name,
    list_segments,
)
from tensorboard_sidecar.protocol.stream import Stream

_PEEK_SIZE_BYTES: Final = 4096


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
    reader = RecordingReader(folder)
    try:
        payloads = reader.read_payloads(_PEEK_SIZE_BYTES)
    finally:
        reader.close()
    seen_ns = _head_time_ns(folder)
    start_ns = (parse_record(payloads[0]).wall_time_ns or seen_ns) if payloads else 0
    return Beginning(reader.stream, start_ns, seen_ns)


def _head_time_ns(folder: Path) -> int:
    with list_segments(folder)[0].path.open("rb") as file:
        for item in read_frames(memoryview(file.read(2 * SEGMENT_HEAD_MAX_BYTES))):
            if isinstance(item, Frame):
                return parse_record(item.payload).wall_time_ns
    return 0


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
