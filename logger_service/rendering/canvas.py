"""A raster image for pixels and text, its PNG encoder, and helpers for static backgrounds.

Most of the time of a drawing goes into parts that are equal at every step: axes, ticks, labels, the colour bar. Each
kind of picture draws these parts with matplotlib once for a layout (:func:`figure_pixels`) and keeps the pixels in a
bounded cache. For each step, a copy gets the parts that change: cells, title, a line of notes. The cached pixels are
read-only and a pure function of the layout, so that no picture depends on earlier pictures.

The PNG encoder uses a single filter (Up) for all lines and zlib's fastest level. Compared with an encoder that tries
five filters for each line, it takes a third of the time, and the files are no larger, for drawings as for photographs
(``python -m benchmarks.rendering``). A file has no text, time or software name: the same pixels give the same bytes.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.text import ascent, coverage, fit, presentable, text_width
from tensorboard_sidecar.logger_service.rendering.theme import Colour, Pixels, TextStyle
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Align: TypeAlias = Literal["left", "centre", "right"]

MARGIN: Final = 16
HEADER_HEIGHT: Final = 64  # title line, line of notes, and the space below
_TITLE_BASELINE: Final = 27
_NOTE_BASELINE: Final = 48

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES: Final = {1: 0, 3: 2, 4: 6}  # grey, RGB, RGBA by channels
_BIT_DEPTH: Final = 8
_FILTER_UP: Final = 2  # each byte minus the byte above it
_FASTEST: Final = 1


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file and its size in pixels."""

    png: bytes
    width: int
    height: int


class Canvas:
    """RGB pixels, white at first. ``x`` grows to the right and ``y`` downwards from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels: Pixels = np.full((height, width, 3), theme.PAPER, np.uint8)

    @classmethod
    def over(cls, background: Pixels) -> Self:
        """Return a canvas that starts as a copy of ``background``, uint8 ``[H, W, 3]``."""
        canvas = cls.__new__(cls)
        canvas.pixels = background.copy()
        return canvas

    def paste(self, x: int, y: int, pixels: Pixels, mask: npt.NDArray[np.bool_] | None = None) -> None:
        """Copy uint8 ``[H, W, 3]`` to the canvas, with the upper left corner at (x, y); must lie inside the canvas.

        With ``mask``, bool ``[H, W]``, only pixels with a true mask are copied.
        """
        height, width, _ = pixels.shape
        region = self.pixels[y : y + height, x : x + width]
        if mask is None:
            region[:] = pixels
        else:
            np.copyto(region, pixels, where=mask[:, :, None])

    def fill(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        """Fill a rectangle."""
        self.pixels[y : y + height, x : x + width] = colour

    def frame(self, x: int, y: int, width: int, height: int) -> None:
        """Draw a border of one pixel outside of a rectangle."""
        for left, top, wide, high in (
            (x - 1, y - 1, width + 2, 1),
            (x - 1, y + height, width + 2, 1),
            (x - 1, y, 1, height),
            (x + width, y, 1, height),
        ):
            self.fill(left, top, wide, high, theme.LINE)

    def write(self, x: float, baseline: float, text: str, style: TextStyle, align: Align = "left") -> None:
        """Write presentable text at ``x``; text outside of the canvas is clipped.

        The style's colour is blended over the canvas with the coverage of the glyphs.
        """
        covered = coverage(text, style)
        written = covered.shape[1]
        x = round(x) - {"left": 0, "centre": written // 2, "right": written}[align]
        y = round(baseline) - ascent(style)
        height, width, _ = self.pixels.shape
        left, top = max(x, 0), max(y, 0)
        seen = covered[top - y : max(height - y, 0), left - x : max(width - x, 0)].astype(np.int32)[:, :, None]
        region = self.pixels[top : top + seen.shape[0], left : left + seen.shape[1]]
        region[:] = (region * (255 - seen) + np.asarray(style.colour, np.int32) * seen + 127) // 255

    def write_header(self, title: str, step: int, note: str) -> None:
        """Write the two header lines: the title with the step, and a note."""
        width = self.pixels.shape[1] - 2 * MARGIN
        step_text = f"step {step:,}"
        title_width = width - text_width(step_text, theme.STEP) - 2 * MARGIN
        shown = fit(presentable(title), title_width, theme.TITLE)
        self.write(MARGIN, _TITLE_BASELINE, shown, theme.TITLE)
        step_x = MARGIN + (text_width(shown, theme.TITLE) + 12 if shown else 0)
        self.write(step_x, _TITLE_BASELINE, step_text, theme.STEP)
        self.write(MARGIN, _NOTE_BASELINE, fit(presentable(note), width, theme.NOTE), theme.NOTE)

    def picture(self) -> Picture:
        """Encode the canvas as PNG."""
        return encode_png(self.pixels)


def encode_png(pixels: Pixels) -> Picture:
    """Encode uint8 ``[H, W, C]`` with C of 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises Malformed for another shape or dtype, TooLarge for a side above ``IMAGE_SIDE_MAX``. The format is that of the
    PNG specification, third edition (W3C, 2025), sections 5, 9 and 11.2.
    """
    check_pixels(pixels)
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, _BIT_DEPTH, _COLOUR_TYPES[channels], 0, 0, 0)
    lines = pixels.reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    data = zlib.compress(filtered.data, _FASTEST)
    png = b"".join((_SIGNATURE, _chunk(b"IHDR", head), _chunk(b"IDAT", data), _chunk(b"IEND", b"")))
    return Picture(png, width, height)


def check_pixels(pixels: Pixels) -> None:
    """Raise Malformed or TooLarge unless ``pixels`` are a valid picture, uint8 ``[H, W, C]``."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _COLOUR_TYPES or not pixels.size:
        raise Malformed(f"a picture of {pixels.dtype} {pixels.shape}; expected uint8 [H, W, C] with C of 1, 3 or 4")
    if max(pixels.shape[:2]) > IMAGE_SIDE_MAX:
        raise TooLarge("side of a picture in pixels", max(pixels.shape[:2]), IMAGE_SIDE_MAX)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def new_figure(width: int, height: int) -> "Figure":
    """Return a white matplotlib figure of exactly this size in pixels, unknown to pyplot."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - see the room

    return Figure(figsize=(width / theme.DPI, height / theme.DPI), dpi=theme.DPI, facecolor="white")


def style_text(text: "Text", style: TextStyle) -> None:
    """Apply a style to a text of a figure; ``$`` stays a dollar sign."""
    text.set_fontproperties(theme.font(style))
    text.set_color(theme.fraction(style.colour))
    text.set_parse_math(False)


def style_ticks(axes: "Axes") -> None:
    """Apply the theme to ticks and their labels."""
    axes.tick_params(length=4, width=1, pad=4, color=theme.fraction(theme.LINE))
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        style_text(label, theme.TICK)


def draw_colour_bar(
    axes: "Axes", colours: Pixels, span: tuple[float, float], ticks: Sequence[float], labels: Sequence[str]
) -> None:
    """Draw colours, uint8 ``[N, 3]``, as a vertical bar over ``span``, the first at the bottom, ticks on the right."""
    axes.imshow(colours[:, None], aspect="auto", interpolation="nearest", origin="lower", extent=(0, 1, *span))
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.set_yticks(ticks, labels)
    axes.spines[:].set_visible(False)
    style_ticks(axes)


def figure_pixels(figure: "Figure") -> Pixels:
    """Draw a figure with Agg and return its pixels, read-only uint8 ``[H, W, 3]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - see the room

    canvas: Any = FigureCanvasAgg(figure)  # matplotlib's backends have no annotations
    canvas.draw()
    pixels = np.array(np.asarray(canvas.buffer_rgba())[:, :, :3])
    pixels.flags.writeable = False
    return pixels
