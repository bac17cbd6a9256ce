"""Text as pixels: cleaned, drawn, cut and wrapped, never parsed.

Drawing a line takes matplotlib a millisecond or two, and most lines come again at the next step: titles, captions,
their words. :func:`coverage` keeps the last ones.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import get_font

from logger_service.rendering import theme
from logger_service.rendering.theme import Pixels, TextStyle

CHARACTERS_MAX: Final = 200  # more than any title or caption shows; bounds the work for a 4,096 character label
ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
STAND_IN: Final = "\N{WHITE SQUARE}"

_LINES_KEPT: Final = 1024  # a few kilobytes each, 50 KB at most
_ADVANCE_MAX: Final = 2.02  # no glyph of the face is wider than this, in its size
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs"})  # controls, joiners and direction marks, lone surrogates
_COMBINING: Final = frozenset({"Mn", "Me"})
_UNTYPED_RENDERER: Final[Any] = RendererAgg  # matplotlib's backends carry no annotations


def presentable(text: str) -> str:
    """Return one line of characters that the face can draw, at most ``CHARACTERS_MAX``.

    White space of any kind becomes one space; what is invisible goes; a character without a glyph becomes a square.
    """
    known = _glyphs()
    characters = unicodedata.normalize("NFC", text[: 4 * CHARACTERS_MAX])
    line = " ".join("".join(c if ord(c) in known else _replacement(c) for c in characters).split())
    return line if len(line) <= CHARACTERS_MAX else line[: CHARACTERS_MAX - 1] + ELLIPSIS


def text_width(text: str, style: TextStyle) -> int:
    """Return the width in pixels of what is seen of presentable text."""
    _, width = coverage(text, style).shape
    return int(width)


@lru_cache(maxsize=_LINES_KEPT)
def coverage(text: str, style: TextStyle) -> Pixels:
    """Return how much of each pixel a line of presentable text covers: uint8 ``[H, W]``, 255 for all of it.

    The height is that of :func:`line_height`, the baseline that of :func:`ascent`; the width that of what is seen.
    """
    origin = style.size_pixels
    width = 2 * origin + int(_ADVANCE_MAX * style.size_pixels * len(text))
    renderer = _UNTYPED_RENDERER(width, line_height(style), theme.DPI)
    with theme.settings():
        renderer.draw_text(renderer.new_gc(), origin, ascent(style), text, theme.font(style), 0)
    alpha: Pixels = np.asarray(renderer.buffer_rgba())[:, :, 3]
    seen = np.flatnonzero(alpha.any(axis=0))
    # Glyphs may reach a pixel to the left of where they start.
    covered = alpha[:, origin - 1 : seen[-1] + 1 if seen.size else 0].copy()
    covered.flags.writeable = False
    return covered


def ascent(style: TextStyle) -> int:
    """Return the pixels of a line above its baseline."""
    return style.size_pixels + style.size_pixels // 4


def line_height(style: TextStyle) -> int:
    """Return the pixels of a line, accents and descenders included."""
    return ascent(style) + style.size_pixels // 2


def fit(text: str, width_pixels: float, style: TextStyle, *, keep_end: bool = False) -> str:
    """Cut presentable text with an ellipsis so that it is at most ``width_pixels`` wide; keep its start or its end."""
    width = text_width(text, style)
    if width <= width_pixels:
        return text
    length = int(len(text) * width_pixels / width)
    while length and text_width(_cut(text, length, keep_end=keep_end), style) > width_pixels:
        length -= max(1, length // 32)
    return _cut(text, length, keep_end=keep_end)


def wrap(text: str, width_pixels: float, style: TextStyle, lines_max: int) -> list[str]:
    """Break presentable text into at most ``lines_max`` lines; words wider than a line are broken where it ends.

    What does not fit is cut with an ellipsis on the last line.
    """
    lines: list[str] = []
    words = re.findall(r"\S+", text)
    while words and len(lines) < lines_max - 1:
        lines.append(_take_line(words, width_pixels, style))
    if words:
        lines.append(fit(" ".join(words), width_pixels, style))
    return lines


def _take_line(words: list[str], width_pixels: float, style: TextStyle) -> str:
    """Take the words of one line, at least a part of one, off the front."""
    line = words.pop(0)
    if text_width(line, style) > width_pixels:
        head = max(1, len(fit(line, width_pixels, style)) - 1)
        words.insert(0, line[head:])
        return line[:head]
    width = text_width(line, style)
    while words:
        width += style.size_pixels // 3 + text_width(words[0], style)
        if width > width_pixels:
            break
        line = f"{line} {words.pop(0)}"
    return line


def _cut(text: str, length: int, *, keep_end: bool) -> str:
    return ELLIPSIS + text[len(text) - length :].lstrip() if keep_end else text[:length].rstrip() + ELLIPSIS


def _replacement(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in _INVISIBLE | _COMBINING else STAND_IN


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """Return the code points that both weights of the face draw."""
    regular, bold = (get_font(theme.font_path(style)).get_charmap() for style in (theme.NOTE, theme.TITLE))
    visible = set(regular) & set(bold)
    return frozenset(point for point in visible if unicodedata.category(chr(point)) not in _INVISIBLE)
