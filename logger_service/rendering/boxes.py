"""A picture with boxes and labels, drawn as torch's writer draws them: red frames, labels at the lower left corner."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tensorboard_sidecar.logger_service.rendering.canvas import Canvas, Picture, check_pixels
from tensorboard_sidecar.logger_service.rendering.pictures import on_white
from tensorboard_sidecar.logger_service.rendering.text import ascent, fit, line_height, presentable, text_width
from tensorboard_sidecar.logger_service.rendering.theme import INK, Colour, Pixels, TextStyle
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX

_FRAME: Final[Colour] = (255, 0, 0)
_THICKNESS: Final = 2
_LABEL: Final = TextStyle(11, INK)
_LABEL_MARGIN: Final = 2
# Coordinates are clipped to this many pixels outside of the picture.
_OUTSIDE: Final = 4


def draw_boxes(
    image: Pixels, boxes: npt.NDArray[np.float32], labels: Sequence[str] = (), *, scale: float = 1.0
) -> Picture:
    """Draw boxes, ``[K, 4]`` of left, top, right, bottom in pixels of the picture, over uint8 ``[H, W, C]``.

    The picture is scaled first, so that frames and labels are sharp at any scale. ``labels`` is empty or has one text a
    box; a label is cut at the right side of the picture. Transparent pixels lie on white. Raises Malformed or TooLarge
    for an invalid picture, Malformed for another number of labels.
    """
    check_pixels(image)
    if len(labels) not in (0, len(boxes)):
        raise Malformed(f"{len(labels)} labels for {len(boxes)} boxes; expected as many")
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    if max(height, width) > IMAGE_SIDE_MAX:
        raise TooLarge("side of a picture in pixels", max(height, width), IMAGE_SIDE_MAX)
    pixels = on_white(image)
    if (height, width) != image.shape[:2]:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    canvas = Canvas.over(pixels)
    sides = (width, height, width, height)
    scaled = np.clip(boxes.astype(np.float64) * scale, -_OUTSIDE, np.add(sides, _OUTSIDE)).round().astype(int)
    for place, (x1, y1, x2, y2) in enumerate(scaled.tolist()):
        left, top, right, bottom = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        _draw_frame(canvas, left, top, right, bottom)
        if labels:
            _draw_label(canvas, left, bottom, labels[place])
    return canvas.picture()


def _draw_frame(canvas: Canvas, left: int, top: int, right: int, bottom: int) -> None:
    wide, high = right - left + _THICKNESS, bottom - top + _THICKNESS
    for x, y, width, height in (
        (left - 1, top - 1, wide, _THICKNESS),
        (left - 1, bottom - 1, wide, _THICKNESS),
        (left - 1, top - 1, _THICKNESS, high),
        (right - 1, top - 1, _THICKNESS, high),
    ):
        _fill(canvas, x, y, width, height)


def _draw_label(canvas: Canvas, left: int, bottom: int, label: str) -> None:
    """Write a label on the frame's colour; the label lies inside of the box, above its lower side."""
    left, room = max(left, 0), canvas.pixels.shape[1] - 2 * _LABEL_MARGIN - max(left, 0)
    text = presentable(label)
    if not text or room <= 0:
        return
    text = fit(text, room, _LABEL)
    height = line_height(_LABEL)
    top = min(max(bottom - height, 0), max(canvas.pixels.shape[0] - height, 0))
    _fill(canvas, left, top, text_width(text, _LABEL) + 2 * _LABEL_MARGIN, height)
    canvas.write(left + _LABEL_MARGIN, top + ascent(_LABEL), text, _LABEL)


def _fill(canvas: Canvas, x: int, y: int, width: int, height: int) -> None:
    """Fill the part of a rectangle that lies in the picture."""
    left, top = max(x, 0), max(y, 0)
    canvas.fill(left, top, max(x + width - left, 0), max(y + height - top, 0), _FRAME)
