"""Clips of pictures as one animated GIF: TensorBoard shows a GIF wherever it shows a picture."""

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from tensorboard_sidecar.logger_service.rendering.pictures import average_blocks, on_white
from tensorboard_sidecar.logger_service.rendering.theme import Pixels
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX

# A GIF counts in hundredths of a second, 16 bits of them; browsers show a picture of less than 2 for 10.
_DURATION_MIN_MS: Final = 20
_DURATION_MAX_MS: Final = 655_350
_COLOURS: Final = 256


@dataclass(frozen=True, slots=True)
class Animation:
    """A GIF file, its size in pixels and its number of channels, 1 or 3."""

    gif: bytes
    width: int
    height: int
    channels: int


def animation(clips: Pixels, frames_per_second: float) -> Animation:
    """Encode clips, uint8 ``[N, T, H, W, C]`` with C of 1, 3 or 4, as one endless animation of T pictures.

    The clips lie in a grid, as torch lays them: a power of two of rows and of columns, empty places are black. If a
    side of the grid would exceed ``IMAGE_SIDE_MAX``, the pictures are reduced by averaging blocks of pixels.
    Transparent pixels lie on white. Raises Malformed for another shape.
    """
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[4] not in (1, 3, 4) or not clips.size:
        raise Malformed(f"clips of {clips.dtype} {clips.shape}; expected uint8 [N, T, H, W, C] with C of 1, 3 or 4")
    duration_ms = min(max(round(1000 / max(frames_per_second, 1e-3)), _DURATION_MIN_MS), _DURATION_MAX_MS)
    try:
        return _encode(clips, duration_ms)
    except (OverflowError, struct.error):  # Pillow joins equal neighbours, and their durations: more than a GIF can say
        return _encode(clips, min(duration_ms, _DURATION_MAX_MS // clips.shape[1]))


def _encode(clips: Pixels, duration_ms: int) -> Animation:
    pictures = _pictures(clips)
    first = next(pictures)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=pictures, duration=duration_ms, loop=0, optimize=False)
    return Animation(file.getvalue(), first.width, first.height, 1 if clips.shape[4] == 1 else 3)


def _pictures(clips: Pixels) -> Iterator[Image.Image]:
    """Yield the pictures of the grid: grey, or with a palette of their own."""
    number, length, height, width, _ = clips.shape
    rows = 2 ** ((number.bit_length() - 1) // 2)
    columns = 2 ** (number - 1).bit_length() // rows
    # From rounding up, each picture may need a pixel more.
    factor = math.ceil(max(rows * height, columns * width) / (IMAGE_SIDE_MAX - max(rows, columns)))
    for place in range(length):
        tiles = [average_blocks(clip[place] if clip.shape[3] == 1 else on_white(clip[place]), factor) for clip in clips]
        tile_height, tile_width, channels = tiles[0].shape
        whole = np.zeros((rows * tile_height, columns * tile_width, channels), np.uint8)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, columns)
            y, x = row * tile_height, column * tile_width
            whole[y : y + tile_height, x : x + tile_width] = tile
        yield Image.fromarray(whole[:, :, 0]) if channels == 1 else _with_palette(Image.fromarray(whole))


def _with_palette(picture: Image.Image) -> Image.Image:
    """Return a picture with at most 256 colours: its own if it has no more.

    For more colours, the octree takes a millisecond where the median cut takes a hundred (measured: 320 x 240 pixels,
    a mean error of 5 instead of 4 of 255).
    """
    few = picture.getcolors(_COLOURS) is not None
    return picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT if few else Image.Quantize.FASTOCTREE)
