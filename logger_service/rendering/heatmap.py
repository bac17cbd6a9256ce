"""Heatmaps of matrices: a sharp cell for each value, a colour bar, and the step in the title.

``_CellGrid`` gives all cells of a matrix the same whole number of pixels; :class:`ColourRange` bounds the colours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import (
    HEADER_HEIGHT,
    Canvas,
    Picture,
    draw_colour_bar,
    figure_pixels,
    new_figure,
    style_text,
    style_ticks,
)
from tensorboard_sidecar.logger_service.rendering.text import fit, presentable
from tensorboard_sidecar.logger_service.rendering.theme import Pixels
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import MATRIX_SIDE_MAX

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values: TypeAlias = npt.NDArray[np.floating[Any]]

_SIDE_USUAL: Final = 480  # target for the longer side; with more than 160 cells the side has 320 to 640 pixels
_CELLS_MAX: Final = 640
_SIDE_MIN: Final = 48  # a smaller side would draw single rows and columns as hairlines

_LIMIT_STEPS: Final = (1, 2, 2.5, 5, 10)
_LIMIT_STEPS_MAX: Final = 10
_SAME: Final = 1e-6  # relative difference below which two values count as equal

_LEVELS: Final = 256
_LAYOUTS_KEPT: Final = 16  # about a megabyte each
_LEFT: Final = 76
_BOTTOM: Final = 58
_BAR_GAP: Final = 20
_BAR_WIDTH: Final = 14
_BAR_LABELS: Final = 66
_LABEL_SIDE_MIN: Final = 160  # a label may be longer than a short side
_WIDTH_MIN: Final = 440  # room for the title above a narrow matrix


@dataclass(frozen=True, slots=True)
class _CellGrid:
    """A grid of ``rows`` by ``columns`` cells; a cell shows a block of values as a rectangle of pixels.

    Blocks are in values; the other heights and widths are in pixels.
    """

    rows: int
    columns: int
    row_block: int
    column_block: int
    cell_height: int
    cell_width: int

    @property
    def height(self) -> int:
        return self.rows * self.cell_height

    @property
    def width(self) -> int:
        return self.columns * self.cell_width

    def enlarge(self, colours: Pixels) -> Pixels:
        """Enlarge cells to pixels: uint8 ``[rows, columns, 3]`` to ``[height, width, 3]``."""
        return colours.repeat(self.cell_width, axis=1).repeat(self.cell_height, axis=0)


def lay_cells(rows: int, columns: int) -> _CellGrid:
    """Return the grid of a matrix: square cells, except that cells of a very short side are stretched."""
    block = -(-max(rows, columns) // _CELLS_MAX)
    # A short side keeps its detail: it is averaged to no less than _SIDE_MIN cells.
    row_block, column_block = (min(block, max(1, side // _SIDE_MIN)) for side in (rows, columns))
    cell_rows, cell_columns = -(-rows // row_block), -(-columns // column_block)
    cell = max(1, round(_SIDE_USUAL / max(cell_rows, cell_columns)))
    cell_height, cell_width = (max(cell, -(-_SIDE_MIN // side)) for side in (cell_rows, cell_columns))
    return _CellGrid(cell_rows, cell_columns, row_block, column_block, cell_height, cell_width)


def shrink(values: Values, cells: _CellGrid) -> Values:
    """Return the mean of each block of ``values`` ``[rows, columns]``; the last blocks may be smaller.

    A block with NaN or infinity gives NaN or infinity, so that a single such value stays visible.
    """
    if cells.row_block * cells.column_block == 1:
        return values
    rows, columns = values.shape
    with np.errstate(invalid="ignore"):  # infinities of both signs in a block give NaN, which is grey too
        sums = _sum_blocks(_sum_blocks(values, cells.row_block).T, cells.column_block).T
    means: Values = sums / np.outer(_block_sizes(rows, cells.row_block), _block_sizes(columns, cells.column_block))
    return means


def _sum_blocks(values: Values, block: int) -> Values:
    """Sum every ``block`` rows in float64, so that sums of float32 values do not overflow."""
    sums = np.zeros((-(-values.shape[0] // block), values.shape[1]))
    for offset in range(block):
        part = values[offset::block]
        sums[: part.shape[0]] += part
    return sums


def _block_sizes(length: int, block: int) -> npt.NDArray[np.intp]:
    return np.diff(np.arange(0, length, block), append=length)


@dataclass(frozen=True, slots=True)
class ColourRange:
    """The range from ``low`` to ``high``, with ``low < high``."""

    low: float
    high: float


def choose_range(given: tuple[float, float] | None, extent: tuple[float, float] | None) -> ColourRange:
    """Return the given range; without one, round limits around ``extent``, symmetric if zero lies inside.

    Round limits do not change while values change little: colours keep their meaning from step to step, and the cached
    background stays valid. ``extent`` is the smallest and largest finite value; None without finite values.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - see the room

    if given is not None:
        return ColourRange(float(given[0]), float(given[1]))
    if extent is None:
        return ColourRange(-1.0, 1.0)
    low, high = extent
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    elif high - low <= _SAME * max(abs(low), abs(high)):
        reach = abs(high) / 2 or 1.0
        low, high = low - reach, high + reach
    ticks = MaxNLocator(_LIMIT_STEPS_MAX, steps=_LIMIT_STEPS).tick_values(low, high)
    return ColourRange(float(ticks[0]), float(ticks[-1]))


def round_ticks(scale: ColourRange, ticks_max: int, *, whole: bool = False) -> list[float]:
    """Return round numbers inside the range, at most about ``ticks_max``; integers if ``whole``."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - see the room

    locator = MaxNLocator(max(1, ticks_max), steps=(1, 2, 5, 10), integer=whole, min_n_ticks=1)
    slack = (scale.high - scale.low) * _SAME
    ticks = (float(tick) for tick in locator.tick_values(scale.low, scale.high))
    return [tick for tick in ticks if scale.low - slack <= tick <= scale.high + slack]


def format_ticks(ticks: Sequence[float]) -> list[str]:
    """Return the ticks as texts, with enough digits to distinguish neighbours."""
    largest = max(map(abs, ticks), default=0.0)
    step = min((b - a for a, b in pairwise(ticks)), default=largest)
    digits = 4 if not step or not largest else min(max(math.ceil(math.log10(largest / step)) + 2, 4), 8)
    # A locator may return zero as 1e-17.
    return [format_number(tick if abs(tick) > step * _SAME else 0.0, digits) for tick in ticks]


def format_number(value: float, digits: int = 3) -> str:
    """Return the value with ``digits`` significant digits, a Unicode minus sign and, if needed, a short exponent."""
    rounded = float(f"{value:.{digits}g}")
    if not rounded or 1e-4 <= abs(rounded) < 1e6:
        number = f"{rounded:.12g}"
    else:
        significand, _, exponent = f"{rounded:e}".partition("e")
        number = f"{float(significand):.12g}e{int(exponent)}"
    return number.replace("-", "\N{MINUS SIGN}")


def format_range(low: float, high: float) -> str:
    """Return ``low … high``, or ``all low`` for equal ends."""
    if low == high:
        return f"all {format_number(low)}"
    return f"{format_number(low)} \N{HORIZONTAL ELLIPSIS} {format_number(high)}"


@dataclass(frozen=True, slots=True)
class _Layout:
    """All inputs of the static parts of a heatmap; the key of their cache."""

    cells: _CellGrid
    scale: ColourRange
    row_label: str
    column_label: str

    @property
    def size(self) -> tuple[int, int]:
        width = _LEFT + self.cells.width + _BAR_GAP + _BAR_WIDTH + _BAR_LABELS
        return max(width, _WIDTH_MIN), HEADER_HEIGHT + self.cells.height + _BOTTOM


def heatmap(
    values: Values, *, title: str, row_label: str, column_label: str, value_range: tuple[float, float] | None, step: int
) -> Picture:
    """Draw ``values``, float ``[rows, columns]``, row 0 at the top.

    The colours cover ``value_range``, and values beyond are clipped. None means round limits just outside of the finite
    values, symmetric if zero lies between them. A range around zero has a diverging colour map with zero nearly white,
    any other range a sequential map. NaN and infinities are grey, and the note counts them. A matrix with more cells
    than pixels is averaged in blocks, as the note then says. Raises Malformed or TooLarge for invalid arguments.
    """
    _check(values, value_range)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
        values = values.astype(np.float32, copy=False)
    extent, not_finite = _finite_extent(values)
    cells = lay_cells(*values.shape)
    scale = choose_range(value_range, extent)
    layout = _Layout(cells, scale, presentable(row_label), presentable(column_label))
    canvas = Canvas.over(_static_parts(layout))
    canvas.paste(_LEFT, HEADER_HEIGHT, cells.enlarge(_paint(shrink(values, cells), scale)))
    canvas.write_header(title, step, _note(values.shape, extent, not_finite, cells))
    return canvas.picture()


def _check(values: Values, value_range: tuple[float, float] | None) -> None:
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise Malformed(f"heatmap: {values.dtype} {values.shape}; expected floats [rows, columns]")
    if max(values.shape) > MATRIX_SIDE_MAX:
        raise TooLarge("side of a matrix", max(values.shape), MATRIX_SIDE_MAX)
    if value_range is not None:
        low, high = value_range
        if not (low < high and math.isfinite(high - low)):
            raise Malformed(f"heatmap: value range {value_range}; expected finite low < high")


def _finite_extent(values: Values) -> tuple[tuple[float, float] | None, int]:
    """Return the smallest and largest finite value (None without any), and the number of values that are not finite."""
    low, high = float(values.min()), float(values.max())
    if math.isfinite(low) and math.isfinite(high):  # NaN in the matrix makes both NaN
        return (low, high), 0
    finite = values[np.isfinite(values)]
    extent = (float(finite.min()), float(finite.max())) if finite.size else None
    return extent, values.size - finite.size


def _note(shape: tuple[int, ...], extent: tuple[float, float] | None, not_finite: int, cells: _CellGrid) -> str:
    parts = [f"{shape[0]:,} \N{MULTIPLICATION SIGN} {shape[1]:,}"]
    if extent is not None:
        parts.append(format_range(*extent))
    if cells.row_block * cells.column_block > 1:
        parts.append(f"mean of {cells.row_block} \N{MULTIPLICATION SIGN} {cells.column_block} a cell")
    if not_finite:
        parts.append(f"{not_finite:,} not finite (grey)")
    return " \N{MIDDLE DOT} ".join(parts)


def _paint(values: Values, scale: ColourRange) -> Pixels:
    """Return the colour of each value: uint8 ``[rows, columns, 3]``."""
    wide = values.astype(np.float64)
    with np.errstate(all="ignore"):  # a range of subnormal width overflows to infinity, which is clipped
        level = (wide - scale.low) * (_LEVELS / (scale.high - scale.low))
    level = np.where(np.isfinite(wide), np.clip(level, 0, _LEVELS - 1), _LEVELS)
    return _palette(scale)[level.astype(np.intp)]


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _palette(scale: ColourRange) -> Pixels:
    """Return the colours of the levels, then the colour of NaN and infinity: uint8 ``[levels + 1, 3]``."""
    centres = (np.arange(_LEVELS) + 0.5) / _LEVELS
    if scale.low < 0 < scale.high:
        reach = max(-scale.low, scale.high)
        values = scale.low + centres * (scale.high - scale.low)
        levels = theme.colours(theme.DIVERGING, 0.5 + 0.5 * values / reach)
    else:
        levels = theme.colours(theme.SEQUENTIAL, centres)
    palette = np.concatenate((levels, np.array([theme.NOT_FINITE], np.uint8)))
    palette.flags.writeable = False
    return palette


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _static_parts(layout: _Layout) -> Pixels:
    """Draw axes, ticks, labels and the colour bar around the area of the cells."""
    width, height = layout.size
    cells = layout.cells
    with theme.settings():
        figure = new_figure(width, height)
        bottom, top = _BOTTOM / height, cells.height / height
        axes = figure.add_axes((_LEFT / width, bottom, cells.width / width, top), frameon=False)
        _draw_axes(axes, layout)
        bar_left = (_LEFT + cells.width + _BAR_GAP) / width
        _draw_bar(figure.add_axes((bar_left, bottom, _BAR_WIDTH / width, top)), layout)
        canvas = Canvas.over(figure_pixels(figure))
    canvas.frame(_LEFT, HEADER_HEIGHT, cells.width, cells.height)
    canvas.pixels.flags.writeable = False
    return canvas.pixels


def _draw_axes(axes: "Axes", layout: _Layout) -> None:
    """Draw the row and column numbers (from 0, at the centre of cells) and the axis labels."""
    cells = layout.cells
    rows, columns = cells.rows * cells.row_block, cells.columns * cells.column_block
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    column_ticks = round_ticks(ColourRange(0, max(columns - 1, 1e-3)), cells.width // 44, whole=True)
    row_ticks = round_ticks(ColourRange(0, max(rows - 1, 1e-3)), cells.height // 28, whole=True)
    axes.set_xticks(column_ticks, [f"{tick:.0f}" for tick in column_ticks])
    axes.set_yticks(row_ticks, [f"{tick:.0f}" for tick in row_ticks])
    style_ticks(axes)
    column_label = fit(layout.column_label, max(cells.width, _LABEL_SIDE_MIN), theme.LABEL)
    row_label = fit(layout.row_label, max(cells.height, _LABEL_SIDE_MIN), theme.LABEL)
    axes.set_xlabel(column_label)
    axes.set_ylabel(row_label)
    for label in (axes.xaxis.label, axes.yaxis.label):
        style_text(label, theme.LABEL)


def _draw_bar(axes: "Axes", layout: _Layout) -> None:
    scale = layout.scale
    ticks = round_ticks(scale, min(layout.cells.height // 24, 8))
    draw_colour_bar(axes, _palette(scale)[:_LEVELS], (scale.low, scale.high), ticks, format_ticks(ticks))
