"""Pictures that a user logged: a grid without decoration, and a contact sheet with numbers and captions."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import (
    HEADER_HEIGHT,
    MARGIN,
    Canvas,
    Picture,
    check_pixels,
    encode_png,
)
from tensorboard_sidecar.logger_service.rendering.text import presentable, text_width, wrap
from tensorboard_sidecar.logger_service.rendering.theme import Pixels, TextStyle
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX, IMAGES_MAX

_GRID_GAP: Final = 2

_FEW: Final = 4  # up to this many pictures are shown larger
_SIDE_FEW: Final = 384
_SIDE: Final = 192
_GAP: Final = 20
_CAPTION_GAP: Final = 4
_LINES_MAX: Final = 3
_LINE_PITCH: Final = 16
_NUMBER: Final = TextStyle(theme.CAPTION.size_pixels, theme.MUTED, bold=True)
_NUMBER_GAP: Final = 6


def grid(images: Pixels) -> Picture:
    """Encode pictures, uint8 ``[N, H, W, C]``, as a nearly square grid.

    If a side of the grid would exceed ``IMAGE_SIDE_MAX``, the pictures are reduced by averaging blocks of pixels.
    Raises Malformed or TooLarge for invalid pictures.
    """
    _check_images(images)
    number, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(number))
    rows = -(-number // columns)
    # In addition to its own pixels, each picture may need a gap and, from rounding up, a pixel more.
    room = IMAGE_SIDE_MAX - (_GRID_GAP + 1) * columns
    factor = -(-columns * max(height, width) // room)
    tile_height, tile_width = -(-height // factor), -(-width // factor)
    shape = (rows * (tile_height + _GRID_GAP) - _GRID_GAP, columns * (tile_width + _GRID_GAP) - _GRID_GAP, channels)
    whole = np.full(shape, 255, np.uint8)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        y, x = row * (tile_height + _GRID_GAP), column * (tile_width + _GRID_GAP)
        whole[y : y + tile_height, x : x + tile_width] = average_blocks(image, factor)
    return encode_png(whole)


def contact_sheet(images: Pixels, captions: Sequence[str], *, title: str, step: int) -> Picture:
    """Draw pictures, uint8 ``[N, H, W, C]``, in rows, each with its number (from 1) and caption below.

    Large pictures are reduced; small pictures are enlarged by a whole factor. ``captions`` is empty or has a caption
    for each picture, of at most three lines; characters missing in the font are drawn as squares. Raises Malformed or
    TooLarge for invalid pictures or another number of captions.
    """
    _check_images(images)
    number = images.shape[0]
    if len(captions) not in {0, number}:
        raise Malformed(f"contact sheet: {len(captions)} captions for {number} pictures; expected as many")
    side = _SIDE_FEW if number <= _FEW else _SIDE
    columns = math.ceil(math.sqrt(number))
    texts = [_lines(caption, place, side) for place, caption in enumerate(captions or [""] * number, 1)]
    thumbnails = [thumbnail(image, side) for image in images]
    height = thumbnails[0].shape[0]
    tops = _tops(texts, columns, height)
    canvas = Canvas(2 * MARGIN + columns * (side + _GAP) - _GAP, tops[-1])
    for place, (pixels, lines) in enumerate(zip(thumbnails, texts, strict=True)):
        row, column = divmod(place, columns)
        x = MARGIN + column * (side + _GAP)
        canvas.paste(x, tops[row], pixels)
        _write_caption(canvas, x, tops[row] + height + _CAPTION_GAP, place + 1, lines)
    canvas.write_header(title, step, f"{number:,} picture{'s' if number > 1 else ''}")
    return canvas.picture()


def thumbnail(image: Pixels, side: int) -> Pixels:
    """Return RGB ``[H, W, 3]`` with no side longer than ``side``; transparent pixels lie on white.

    Large pictures are resampled. Small pictures are enlarged by a whole factor, so that single pixels stay sharp.
    """
    height, width, _ = image.shape
    longest = max(height, width)
    if longest <= side:
        factor = side // longest
        return on_white(image).repeat(factor, axis=0).repeat(factor, axis=1)
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    return np.asarray(Image.fromarray(on_white(image)).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def _check_images(images: Pixels) -> None:
    """Raise Malformed or TooLarge unless ``images`` are valid pictures, uint8 ``[N, H, W, C]``."""
    if images.ndim != 4 or not images.size:
        raise Malformed(f"pictures of shape {images.shape}; expected uint8 [N, H, W, C] with N of 1 or more")
    if images.shape[0] > IMAGES_MAX:
        raise TooLarge("pictures", images.shape[0], IMAGES_MAX)
    check_pixels(images[0])


def _lines(caption: str, number: int, side: int) -> list[str]:
    """Break a caption into lines that leave space for the number."""
    return wrap(presentable(caption), side - _indent(number), theme.CAPTION, _LINES_MAX)


def _indent(number: int) -> int:
    return text_width(str(number), _NUMBER) + _NUMBER_GAP


def _tops(texts: Sequence[Sequence[str]], columns: int, height: int) -> list[int]:
    """Return the y of the top of each row of pictures, and the height of the sheet."""
    counts = [max(1, *map(len, texts[first : first + columns])) for first in range(0, len(texts), columns)]
    heights = [height + _CAPTION_GAP + _LINE_PITCH * count + _GAP for count in counts]
    return [int(top) for top in np.cumsum([HEADER_HEIGHT, *heights])]


def _write_caption(canvas: Canvas, x: int, y: int, number: int, lines: Sequence[str]) -> None:
    canvas.write(x, y + _LINE_PITCH - 3, str(number), _NUMBER)
    for place, line in enumerate(lines, 1):
        canvas.write(x + _indent(number), y + place * _LINE_PITCH - 3, line, theme.CAPTION)


def on_white(image: Pixels) -> Pixels:
    """Return a grey, RGB or RGBA picture as RGB, transparent pixels blended with white."""
    channels = image.shape[2]
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    if channels == 3:
        return np.ascontiguousarray(image)
    opacity = image[:, :, 3:].astype(np.uint16)
    blended = image[:, :, :3] * opacity + np.array(theme.PAPER, np.uint16) * (255 - opacity)
    return ((blended + 127) // 255).astype(np.uint8)


def average_blocks(image: Pixels, factor: int) -> Pixels:
    """Average blocks of ``factor`` by ``factor`` pixels; sizes are rounded up."""
    if factor == 1:
        return image
    bands = image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image)
    reduced = np.asarray(Image.fromarray(bands).reduce(factor))
    return reduced.reshape(*reduced.shape[:2], image.shape[2])
