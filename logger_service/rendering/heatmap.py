"""Heatmaps of matrices: a sharp cell for each value, a colour bar, and the step in the title."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import (
    HEADER_HEIGHT,
    Canvas,
    figure_pixels,
    new_figure,
    style_text,
    style_ticks,
)
from tensorboard_sidecar.logger_service.rendering.cell_grid import CellGrid, Values, lay_cells, shrink
from tensorboard_sidecar.logger_service.rendering.colour_range import (
    ColourRange,
    choose_range,
    format_range,
    format_ticks,
    round_ticks,
)
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.logger_service.rendering.text import fit, presentable
from tensorboard_sidecar.logger_service.rendering.theme import Pixels
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import MATRIX_SIDE_MAX

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
class _Layout:
    """All inputs of the static parts of a heatmap; the key of their cache."""

    cells: CellGrid
    scale: ColourRange
    row_label: str
    column_label: str

    @property
    def size(self) -> tuple[int, int]:
        width = _LEFT + self.cells.width + _BAR_GAP + _BAR_WIDTH + _BAR_LABELS
        return max(width, _WIDTH_MIN), HEADER_HEIGHT + self.cells.height + _BOTTOM


def heatmap(
    values: Values,
    *,
    title: str,
    row_label: str,
    column_label: str,
    value_range: tuple[float, float] | None,
    step: int,
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


def _note(shape: tuple[int, ...], extent: tuple[float, float] | None, not_finite: int, cells: CellGrid) -> str:
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


def _draw_axes(axes: Axes, layout: _Layout) -> None:
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


def _draw_bar(axes: Axes, layout: _Layout) -> None:
    """Draw the colour bar from low to high, with round ticks."""
    scale = layout.scale
    axes.imshow(
        _palette(scale)[:_LEVELS, None],
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        extent=(0, 1, scale.low, scale.high),
    )
    ticks = round_ticks(scale, min(layout.cells.height // 24, 8))
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.set_yticks(ticks, format_ticks(ticks))
    axes.spines[:].set_visible(False)
    style_ticks(axes)
