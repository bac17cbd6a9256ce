"""Contents of the files that TensorBoard's embedding projector reads for one embedding. Pure functions.

Points are raw little-endian float32, which loads hundreds of times faster than text. The plugin first reads the points
as lines of text, and reads raw numbers only after a decoding error. Bytes that begin with a line of valid UTF-8 (zeros,
for example) are therefore written as text.
"""

import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from tensorboard_sidecar.logger_service.rendering.png import Picture, encode_png

# The largest WebGL texture on common hardware; the embedding projector refuses a larger sprite.
SPRITE_SIDE_MAX_PIXELS: Final = 8192
_EMPTY_CELL: Final = "-"
_FILE_NAME_MAX_CHARACTERS: Final = 80
_UNSAFE_IN_FILE_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_UNSAFE_IN_TITLES: Final = re.compile(r"[&#+%:]")


class Entry(msgspec.Struct, frozen=True):
    """An embedding in the config: its file names are relative to the config; "" means no file."""

    tag: str
    step: int
    shape: tuple[int, int]
    points: str
    metadata: str = ""
    sprite: str = ""
    thumbnail_size: tuple[int, int] = (0, 0)


def file_name(tag: str) -> str:
    """Return the name for the files of a tag: ASCII, no separators, different for different tags."""
    name = _UNSAFE_IN_FILE_NAMES.sub("_", tag)[:_FILE_NAME_MAX_CHARACTERS]
    return name if name == tag else f"{name}-{zlib.crc32(tag.encode('utf-8', 'replace')):08x}"


def tensor_name(tag: str, step: int, *, latest: bool) -> str:
    """Return the name in the menu of the embedding projector, without the characters that break its routes.

    The menu is sorted and opens its first entry: the name of the latest step begins with "latest", which sorts before
    "step".
    """
    title = _UNSAFE_IN_TITLES.sub("_", tag)
    if title != tag:
        title += f" {zlib.crc32(tag.encode('utf-8', 'replace')):08x}"
    return f"{title} \N{MIDDLE DOT} {f'latest (step {step})' if latest else f'step {step}'}"


def points_file(vectors: npt.NDArray[np.float32]) -> tuple[str, bytes]:
    """Return suffix and content of the file of points: ``bytes``, or ``tsv`` when the raw bytes begin as valid text."""
    data = np.ascontiguousarray(vectors, "<f4").tobytes()
    if not _begins_with_text(data):
        return "bytes", data
    lines = ("\t".join(f"{number:.9g}" for number in row.tolist()) for row in vectors)
    return "tsv", _lines(lines)


def metadata_file(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return the metadata, a line a point. The plugin expects a head line for two or more columns, and none for one."""
    lines = [[_cell(cell) for cell in row] for row in rows]
    if len(columns) > 1:
        lines.insert(0, [_cell(column) for column in columns])
    return _lines("\t".join(line) for line in lines)


def sprite(
    thumbnails: npt.NDArray[np.uint8], side_max_pixels: int = SPRITE_SIDE_MAX_PIXELS
) -> tuple[Picture, tuple[int, int]]:
    """Lay thumbnails, uint8 ``[N, H, W, 3]``, in rows from the upper left.

    Returns the picture, and (width, height) of a thumbnail in it. There are as many rows as columns, and the last rows
    may stay black: the embedding projector divides by the number of columns where the number of rows belongs.
    Thumbnails are scaled down when the sheet would be wider than ``side_max_pixels``.
    """
    number, height, width, _ = thumbnails.shape
    across = math.ceil(math.sqrt(number))
    scale = min(1.0, side_max_pixels // across / max(width, height))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    sheet = np.zeros((across * height, across * width, 3), np.uint8)
    for place, thumbnail in enumerate(thumbnails):
        row, column = divmod(place, across)
        small = thumbnail if scale == 1.0 else _resize(thumbnail, width, height)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = small
    return encode_png(sheet), (width, height)


def config_block(entry: Entry, *, latest: bool) -> str:
    """Return the part of ``projector_config.pbtxt`` for one embedding."""
    lines = [
        f"tensor_name: {_quote(tensor_name(entry.tag, entry.step, latest=latest))}",
        *(f"tensor_shape: {side}" for side in entry.shape),
        f"tensor_path: {_quote(entry.points)}",
    ]
    if entry.metadata:
        lines.append(f"metadata_path: {_quote(entry.metadata)}")
    if entry.sprite:
        width, height = entry.thumbnail_size
        sizes = f"single_image_dim: {width} single_image_dim: {height}"
        lines.append(f"sprite {{ image_path: {_quote(entry.sprite)} {sizes} }}")
    return "".join(["embeddings {\n", *(f"  {line}\n" for line in lines), "}\n"])


def _begins_with_text(data: bytes) -> bool:
    """Tell whether the first line, which the plugin decodes first, is valid UTF-8."""
    first_line = data.lstrip(b"\n").split(b"\n", 1)[0]
    try:
        first_line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _resize(picture: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[Any]:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def _cell(text: str) -> str:
    """Return one line without tabs, never blank: the plugin skips blank lines, and all labels after them shift."""
    return " ".join(text.split()) or _EMPTY_CELL


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _quote(text: str) -> str:
    """Return a string literal of the protobuf text format, with all characters except plain ASCII escaped."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
