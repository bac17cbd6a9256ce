"""The pixel layout of a layer overview, and the shortened names of layers.

From left to right: names, zeros, the octaves of magnitude, infinities and NaN, the colour bar.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Final

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import HEADER_HEIGHT, MARGIN
from tensorboard_sidecar.logger_service.rendering.text import ELLIPSIS, fit, presentable, text_width

HEIGHT_MAX: Final = 4_400  # room for 400 readable rows; more layers than pixels share rows
SIDE_WIDTH: Final = 30
NAME_GAP: Final = 10
BAR_WIDTH: Final = 14

_NAME_WIDTH_MAX: Final = 340
_NAME_CHARACTERS_MAX: Final = 48
_NAME_BOUNDARY_MAX: Final = 16  # characters dropped so that a cut name starts after a dot or slash
_NAME_PITCH: Final = 11  # smallest readable distance between names in pixels
NAMES_SHOWN_MAX: Final = HEIGHT_MAX // _NAME_PITCH
"""The largest number of names in an overview."""

_ROW_HEIGHT_USUAL: Final = 14
_ROW_HEIGHT_MAX: Final = 26
_ROW_HAIRLINE_MIN: Final = 4
_HEIGHT_FEW: Final = 640  # the total height of a few layers
_HEIGHT_TALL: Final = 600  # a taller overview also has axis labels at the top
_AXIS_HEIGHT: Final = 26
_BOTTOM: Final = 58
_OCTAVES_WIDTH: Final = 560
_OCTAVE_WIDTH_MIN: Final = 2
_OCTAVE_WIDTH_MAX: Final = 16
_SIDE_GAP: Final = 14
_BAR_GAP: Final = 24
_BAR_HEIGHT: Final = 240
_BAR_HEIGHT_MIN: Final = 120
_BAR_LABELS: Final = 62


@dataclass(frozen=True, slots=True)
class Layout:
    """All inputs of the static parts of an overview, and their cache key; every ``stride``-th row has a name."""

    names: tuple[str, ...]
    names_width: int
    stride: int
    rows: int
    row_height: int
    low: int
    high: int

    @property
    def octave_width(self) -> int:
        """Return the width of an octave in pixels."""
        width = _OCTAVES_WIDTH // (self.high - self.low)
        return min(max(width, _OCTAVE_WIDTH_MIN), _OCTAVE_WIDTH_MAX)

    @property
    def zeros_x(self) -> int:
        """Return the x of the column of zeros."""
        return MARGIN + self.names_width + NAME_GAP

    @property
    def octaves_x(self) -> int:
        """Return the x of the first octave."""
        return self.zeros_x + SIDE_WIDTH + _SIDE_GAP

    @property
    def octaves_width(self) -> int:
        """Return the width of all octaves in pixels."""
        return self.octave_width * (self.high - self.low)

    @property
    def not_finite_x(self) -> int:
        """Return the x of the columns of infinities and NaN."""
        return self.octaves_x + self.octaves_width + _SIDE_GAP

    @property
    def bar_x(self) -> int:
        """Return the x of the colour bar."""
        return self.not_finite_x + 2 * SIDE_WIDTH + _BAR_GAP

    @property
    def top(self) -> int:
        """Return the y of the first row."""
        return HEADER_HEIGHT + (_AXIS_HEIGHT if self.is_tall else 0)

    @property
    def is_tall(self) -> bool:
        """Tell whether the axis also has labels at the top."""
        return self.rows_height > _HEIGHT_TALL

    @property
    def rows_height(self) -> int:
        """Return the height of all rows in pixels."""
        return self.rows * self.row_height

    @property
    def painted_height(self) -> int:
        """Return the painted height of a row: high rows leave a hairline of one pixel between them."""
        return self.row_height - 1 if self.row_height >= _ROW_HAIRLINE_MIN else self.row_height

    @property
    def bar_height(self) -> int:
        """Return the height of the colour bar in pixels."""
        return max(min(self.rows_height, _BAR_HEIGHT), _BAR_HEIGHT_MIN)

    @property
    def size(self) -> tuple[int, int]:
        """Return the width and height of the picture in pixels."""
        height = self.top + max(self.rows_height, self.bar_height) + _BOTTOM
        return self.bar_x + BAR_WIDTH + _BAR_LABELS, height


def lay_out(names: Sequence[str], span: tuple[int, int]) -> Layout:
    """Return the layout for the named layers; ``span`` is the first octave shown and the octave after the last."""
    group = -(-len(names) // HEIGHT_MAX)
    rows = -(-len(names) // group)
    row_height = min(max(_HEIGHT_FEW // rows, _ROW_HEIGHT_USUAL), _ROW_HEIGHT_MAX, HEIGHT_MAX // rows)
    stride = -(-_NAME_PITCH // row_height)
    shown = _shorten(names[:: group * stride])
    width = max((text_width(name, theme.TICK) for name in shown), default=0)
    return Layout(shown, width, stride, rows, row_height, *span)


def _shorten(names: Sequence[str]) -> tuple[str, ...]:
    """Drop the common folder of all names, and cut long names at the left, at a nearby dot or slash if possible."""
    folder = len(commonprefix(names).rpartition("/")[0])  # noqa: RUF071 - the prefix is cut at a slash
    cut = folder + 1 if folder else 0
    return tuple(_shorten_name(presentable(name[cut:])) for name in names)


def _shorten_name(name: str) -> str:
    if len(name) > _NAME_CHARACTERS_MAX:
        tail = name[-_NAME_CHARACTERS_MAX:]
        boundary = re.search(r"[./]", tail[:_NAME_BOUNDARY_MAX])
        name = ELLIPSIS + tail[boundary.end() if boundary else 0 :]
    return fit(name, _NAME_WIDTH_MAX, theme.TICK, keep_end=True)
