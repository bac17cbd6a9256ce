"""Text as pixels: cleaning, drawing, cutting and wrapping lines of text; no markup is parsed.

Matplotlib draws a line in one or two milliseconds, and most lines (titles, captions) repeat at the next step, so that
:func:`coverage` caches lines. To find where a line must end, the advances of its characters give an estimate without
drawing; only the chosen line is drawn and measured in pixels.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import Any, Final

import numpy as np

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.theme import Pixels, TextStyle

CHARACTERS_MAX: Final = 200  # more than a title or caption shows; bounds the work for labels of 4,096 characters
ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
STAND_IN: Final = "\N{WHITE SQUARE}"

_LINES_KEPT: Final = 2048  # the lines of the largest contact sheet; a few kilobytes each, at most 50 KB
_ADVANCE_MAX: Final = 2.02  # the widest glyph of the font, relative to its size
_CHARACTERS_KEPT: Final = 4096  # cached advances
_ESTIMATE_SLACK: Final = 1.1  # for kerning and ligatures; a text with a larger estimate is not measured
_EM_PIXELS: Final = 1000
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs"})  # controls, joiners and direction marks, lone surrogates
_COMBINING: Final = frozenset({"Mn", "Me"})


def presentable(text: str) -> str:
    """Return the text as a line of at most ``CHARACTERS_MAX`` characters that the font can draw.

    A sequence of white space becomes a space, invisible characters are removed, and a character without a glyph becomes
    a square.
    """
    known = _glyphs()
    characters = unicodedata.normalize("NFC", text[: 4 * CHARACTERS_MAX])
    line = " ".join("".join(c if ord(c) in known else _replacement(c) for c in characters).split())
    return line if len(line) <= CHARACTERS_MAX else line[: CHARACTERS_MAX - 1] + ELLIPSIS


def text_width(text: str, style: TextStyle) -> int:
    """Return the visible width of presentable text in pixels."""
    _, width = coverage(text, style).shape
    return int(width)


@lru_cache(maxsize=_LINES_KEPT)
def coverage(text: str, style: TextStyle) -> Pixels:
    """Return the coverage of each pixel by a line of presentable text: uint8 ``[H, W]``, 255 for a covered pixel.

    H is :func:`line_height`, the baseline lies at :func:`ascent`, and W is the visible width.
    """
    from matplotlib.backends.backend_agg import RendererAgg  # noqa: PLC0415 - see the room

    untyped_renderer: Any = RendererAgg  # matplotlib's backends have no annotations
    origin = style.size_pixels
    width = 2 * origin + int(_ADVANCE_MAX * style.size_pixels * len(text))
    renderer = untyped_renderer(width, line_height(style), theme.DPI)
    with theme.settings(text_only=True):
        renderer.draw_text(renderer.new_gc(), origin, ascent(style), text, theme.font(style), 0)
    alpha: Pixels = np.asarray(renderer.buffer_rgba())[:, :, 3]
    seen = np.flatnonzero(alpha.any(axis=0))
    # A glyph may extend a pixel to the left of its origin.
    covered = alpha[:, origin - 1 : seen[-1] + 1 if seen.size else 0].copy()
    covered.flags.writeable = False
    return covered


def ascent(style: TextStyle) -> int:
    """Return the height of a line above the baseline in pixels."""
    return style.size_pixels + style.size_pixels // 4


def line_height(style: TextStyle) -> int:
    """Return the height of a line in pixels, with accents and descenders."""
    return ascent(style) + style.size_pixels // 2


def fit(text: str, width_pixels: float, style: TextStyle, *, keep_end: bool = False) -> str:
    """Cut presentable text, with an ellipsis, to at most ``width_pixels``; keep the start, or the end."""
    if _fits(text, width_pixels, style):
        return text
    characters = text[::-1] if keep_end else text
    room = width_pixels - _estimate(ELLIPSIS, style)
    length = _count_to(room, (_advance(character, style) for character in characters))
    while length and text_width(_cut(text, length, keep_end=keep_end), style) > width_pixels:
        length -= max(1, length // 32)
    return _cut(text, length, keep_end=keep_end)


def wrap(text: str, width_pixels: float, style: TextStyle, lines_max: int) -> list[str]:
    """Break presentable text into at most ``lines_max`` lines; a word wider than a line is split.

    The last line is cut with an ellipsis if the text is longer.
    """
    lines: list[str] = []
    words = re.findall(r"\S+", text)
    while words and len(lines) < lines_max - 1:
        line, words = _take_line(words, width_pixels, style)
        lines.append(line)
    if words:
        lines.append(fit(" ".join(words), width_pixels, style))
    return lines


def _take_line(words: Sequence[str], width_pixels: float, style: TextStyle) -> tuple[str, list[str]]:
    """Return the first line (at least a part of a word) and the remaining words."""
    widths = (_estimate(f" {word}", style) for word in words)
    number = _count_to(width_pixels + _estimate(" ", style), widths)
    while number > 1 and text_width(" ".join(words[:number]), style) > width_pixels:
        number -= 1
    if number > 1 or _fits(words[0], width_pixels, style):
        number = max(1, number)
        return " ".join(words[:number]), list(words[number:])
    head = max(1, len(fit(words[0], width_pixels, style)) - 1)
    return words[0][:head], [words[0][head:], *words[1:]]


def _fits(text: str, width_pixels: float, style: TextStyle) -> bool:
    near = _estimate(text, style) <= width_pixels * _ESTIMATE_SLACK
    return near and text_width(text, style) <= width_pixels


def _count_to(limit: float, widths: Iterable[float]) -> int:
    """Return how many of the first widths have a sum within the limit."""
    return sum(1 for _ in takewhile(lambda reach: reach <= limit, accumulate(widths)))


def _estimate(text: str, style: TextStyle) -> float:
    """Return the approximate width of a text in pixels, without drawing."""
    return sum(_advance(character, style) for character in text)


def _advance(character: str, style: TextStyle) -> float:
    return _em_advance(character, style.bold) * style.size_pixels


@lru_cache(maxsize=_CHARACTERS_KEPT)
def _em_advance(character: str, bold: bool) -> float:
    from matplotlib.font_manager import get_font  # noqa: PLC0415 - see the room

    face = get_font(theme.font_path(theme.TITLE if bold else theme.NOTE))
    face.set_size(_EM_PIXELS, 72)
    return float(face.load_char(ord(character)).linearHoriAdvance / 0x10000 / _EM_PIXELS)


def _cut(text: str, length: int, *, keep_end: bool) -> str:
    return ELLIPSIS + text[len(text) - length :].lstrip() if keep_end else text[:length].rstrip() + ELLIPSIS


def _replacement(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in _INVISIBLE | _COMBINING else STAND_IN


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """Return the code points with a visible glyph in both weights of the font."""
    from matplotlib.font_manager import get_font  # noqa: PLC0415 - see the room

    regular, bold = (get_font(theme.font_path(style)).get_charmap() for style in (theme.NOTE, theme.TITLE))
    visible = set(regular) & set(bold)
    return frozenset(point for point in visible if unicodedata.category(chr(point)) not in _INVISIBLE)
