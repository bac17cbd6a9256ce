"""Contact sheets: pictures in rows, with numbers and captions."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import HEADER_HEIGHT, MARGIN, Canvas
from tensorboard_sidecar.logger_service.rendering.pictures import check_images, thumbnail
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.logger_service.rendering.text import presentable, text_width, wrap
from tensorboard_sidecar.logger_service.rendering.theme import Pixels, TextStyle
from tensorboard_sidecar.protocol.errors import Malformed

_FEW: Final = 4  # up to this many pictures are shown larger
_SIDE_FEW: Final = 384
_SIDE: Final = 192
_GAP: Final = 20
_CAPTION_GAP: Final = 4
_LINES_MAX: Final = 3
_LINE_PITCH: Final = 16
_NUMBER: Final = TextStyle(theme.CAPTION.size_pixels, theme.MUTED, bold=True)
_NUMBER_GAP: Final = 6


def contact_sheet(images: Pixels, captions: Sequence[str], *, title: str, step: int) -> Picture:
    """Draw pictures, uint8 ``[N, H, W, C]``, in rows, each with its number (from 1) and caption below.

    Large pictures are reduced; small pictures are enlarged by a whole factor. ``captions`` is empty or has a caption
    for each picture, of at most three lines; characters missing in the font are drawn as squares. Raises Malformed or
    TooLarge for invalid pictures or another number of captions.
    """
    check_images(images)
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
