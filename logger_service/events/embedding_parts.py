"""Files that collect the parts of an embedding until the embedding is complete.

    .joint.parts.json     what is collected, and later the entry of the complete embedding
    .joint.points         raw little-endian float32
    .joint.metadata       lines of metadata
    .joint.thumbnails     raw pixels

Rule 1: memory holds no state. A part is appended behind the rows that ``.parts.json`` counts, and is counted then.
After a kill in between, the next process appends the same bytes to the same place. A part that is counted already
changes nothing.
Rule 2: parts arrive in order. A part that does not follow the collected rows shows that a part was lost: the embedding
is given up, and reported once.
"""

import os
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from tensorboard_sidecar.protocol.messages import Embedding
from tensorboard_sidecar.protocol.record import Record

STATE_SUFFIX: Final = ".parts.json"
_CHUNK_SIZE_BYTES: Final = 2**20
_MINUS_ZERO: Final = 1 << 31  # the bits of -0.0


class IncompleteEmbedding(ValueError):
    """An embedding that is not shown, because one of its parts was lost."""


class Collected(msgspec.Struct, frozen=True):
    """What is collected of an embedding: ``rows`` of ``row_count``, of one kind.

    ``sequence`` and ``wall_time_ns`` are those of the last part. ``thumbnail_size`` is (height, width), (0, 0) without
    thumbnails. ``entry`` is the encoded entry of the complete embedding. ``lost``: a part is missing.
    """

    sequence: int
    wall_time_ns: int
    row_count: int
    dimensions: int
    columns: list[str]
    thumbnail_size: tuple[int, int]
    rows: int = 0
    metadata_bytes: int = 0
    lost: bool = False
    entry: str = ""

    @classmethod
    def before(cls, part: Embedding, record: Record) -> Self:
        """Return the state before a part that begins an embedding."""
        height, width = (0, 0) if part.thumbnails is None else part.thumbnails.shape[1:3]
        dimensions = part.vectors.shape[1]
        return cls(record.sequence, record.wall_time_ns, part.row_count, dimensions, part.columns, (height, width))

    @property
    def complete(self) -> bool:
        """Whether all rows are collected."""
        return self.rows == self.row_count

    def holds(self, record: Record) -> bool:
        """Tell whether the part in a record is collected already."""
        return record.sequence <= self.sequence and record.wall_time_ns <= self.wall_time_ns

    def is_continued_by(self, first_row: int, new: "Collected") -> bool:
        """Tell whether a part of the same embedding follows the collected rows."""
        kinds = [(known.row_count, known.dimensions, known.columns, known.thumbnail_size) for known in (self, new)]
        return self.rows == first_row and kinds[0] == kinds[1]


_DECODER: Final = msgspec.json.Decoder(Collected)


class PartFiles:
    """The files that collect the embedding ``name`` in the folder of a step."""

    def __init__(self, folder: Path, name: str) -> None:
        self._state = folder / f".{name}{STATE_SUFFIX}"
        self.points = folder / f".{name}.points"
        self.points_as_text = folder / f".{name}.points.tsv"
        self.metadata = folder / f".{name}.metadata"
        self.thumbnails = folder / f".{name}.thumbnails"

    @classmethod
    def of(cls, state: Path) -> Self:
        """Return the files beside a file with a state."""
        return cls(state.parent, state.name[1:].removesuffix(STATE_SUFFIX))

    def load(self) -> Collected | None:
        """Return what is collected; None without a state, or when a power loss left the state empty."""
        with suppress(FileNotFoundError, msgspec.DecodeError):
            return _DECODER.decode(self._state.read_bytes())
        return None

    def save(self, collected: Collected) -> None:
        """Write the state."""
        replace_file(self._state, [msgspec.json.encode(collected)])

    def take(self, part: Embedding, metadata: bytes, record: Record) -> Collected:
        """Collect a part, with its lines of metadata; return what is collected then.

        Raises IncompleteEmbedding at the first part that does not follow the part before; later parts of that embedding
        change nothing.
        """
        known, new = self.load(), Collected.before(part, record)
        if part.first_row == 0:
            self.remove()
            known = new
        elif known is not None and (known.lost or known.holds(record)):
            return known
        if known is None or not known.is_continued_by(part.first_row, new) or not self._append(part, metadata, known):
            self.remove()
            self.save(replace(new, lost=True))
            raise IncompleteEmbedding(f"rows before row {part.first_row:,} of {part.row_count:,} are missing")
        known = replace(
            known,
            sequence=record.sequence,
            wall_time_ns=record.wall_time_ns,
            rows=part.first_row + part.vectors.shape[0],
            metadata_bytes=known.metadata_bytes + len(metadata),
        )
        self.save(known)
        return known

    def remove(self, *, keep_state: bool = False) -> None:
        """Delete the files, the state last if at all."""
        for path in (self.points, self.points_as_text, self.metadata, self.thumbnails):
            path.unlink(missing_ok=True)
        if not keep_state:
            self._state.unlink(missing_ok=True)

    def pixels(self, collected: Collected) -> npt.NDArray[np.uint8]:
        """Return the thumbnails of a complete embedding, uint8 ``[N, H, W, 3]``, as a map of their file."""
        return np.memmap(self.thumbnails, np.uint8, "r", shape=(collected.row_count, *collected.thumbnail_size, 3))

    def settle_points(self, dimensions: int) -> str:
        """Make the points of a complete embedding readable for the plugin; return the suffix of their file.

        The plugin reads raw numbers only if the first line is no text. A line with a zero becomes no text when the zero
        becomes -0.0; other points are written as text.
        """
        with self.points.open("rb") as points:
            line = first_line(points)
        if line is None:
            return "bytes"
        points_as_bits = np.memmap(self.points, "<u4", "r+")
        numbers = points_as_bits[-(-line[0] // 4) : line[1] // 4]
        zeros = numbers == 0
        if zeros.any():
            numbers[zeros.argmax()] = _MINUS_ZERO
            points_as_bits.flush()
            return "bytes"
        replace_file(self.points_as_text, _text(np.memmap(self.points, "<f4", "r").reshape(-1, dimensions)))
        return "tsv"

    def _append(self, part: Embedding, metadata: bytes, known: Collected) -> bool:
        """Write a part behind the collected rows; return False if a power loss has cut off some of these rows."""
        height, width = known.thumbnail_size
        thumbnails = part.thumbnails.data if part.thumbnails else b""
        return (
            _write_at(self.points, 4 * known.dimensions * known.rows, part.vectors.data)
            and _write_at(self.metadata, known.metadata_bytes, metadata)
            and _write_at(self.thumbnails, 3 * height * width * known.rows, thumbnails)
        )


def replace_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that appears whole or not at all, also after a power loss; follow no link.

    The name of the file is not durable.
    """
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with _open(unfinished, os.O_EXCL) as stream:
        for piece in pieces:
            stream.write(piece)
        _sync(stream)
    unfinished.replace(path)


def text_lines(numbers: npt.NDArray[np.float32]) -> Iterator[str]:
    """Yield points as lines of text, from which the same float32 are read."""
    return ("\t".join(f"{number:.9g}" for number in row.tolist()) for row in numbers)


def _text(numbers: npt.NDArray[np.float32]) -> Iterator[bytes]:
    """Yield the lines of many points. JSON's decimals are 30 times as fast as :func:`text_lines`; JSON has no NaN."""
    for row in numbers:
        if np.isfinite(row).all():
            yield msgspec.json.encode(row.tolist())[1:-1].replace(b",", b"\t") + b"\n"
        else:
            yield b"".join(f"{line}\n".encode() for line in text_lines(row[None]))


def _write_at(path: Path, offset: int, data: bytes) -> bool:
    """Cut a file to ``offset`` bytes and append data; return False for a file that is shorter."""
    if not (data or offset):
        return True
    with _open(path) as stream:
        if os.fstat(stream.fileno()).st_size < offset:
            return False
        stream.truncate(offset)
        stream.seek(offset)
        stream.write(data)
        _sync(stream)
    return True


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fdatasync(stream.fileno())


def _open(path: Path, flags: int = 0) -> BinaryIO:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o644)
    return os.fdopen(file, "wb")


def first_line(points: BinaryIO) -> tuple[int, int] | None:
    """Return the range of bytes of the first line that is not empty if this line is valid UTF-8, otherwise None."""
    decoder, start, end = getincrementaldecoder("utf-8")(), 0, 0
    try:
        while chunk := points.read(_CHUNK_SIZE_BYTES):
            if start == end:
                start = end = start + len(chunk) - len(chunk := chunk.lstrip(b"\n"))
            line, newline, _ = chunk.partition(b"\n")
            end += len(line)
            decoder.decode(line)
            if newline:
                break
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    return start, end
