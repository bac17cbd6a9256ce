"""The overview of a model's layers: a row for each layer, with the magnitudes of its values on a logarithmic axis."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import (
    Canvas,
    figure_pixels,
    new_figure,
    style_text,
    style_ticks,
)
from tensorboard_sidecar.logger_service.rendering.layer_shares import OCTAVE_MIN, Floats, LayerShares
from tensorboard_sidecar.logger_service.rendering.overview_layout import (
    BAR_WIDTH,
    HEIGHT_MAX,
    NAME_GAP,
    SIDE_WIDTH,
    Layout,
    lay_out,
)
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.logger_service.rendering.theme import Pixels
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.messages import TensorSummary

_LAYOUTS_KEPT: Final = 4  # up to a dozen megabytes each
_LEVELS: Final = 256
_DECADE_PITCH: Final = 40
_BAR_SHARES: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_LOG2_OF_10: Final = float(np.log2(10))


def layer_overview(layers: Sequence[tuple[str, TensorSummary]], *, title: str, step: int) -> Picture:
    """Draw a row for each layer, in the given order.

    The colour of a cell is the share of the layer's values whose magnitude lies in that octave (from a power of two to
    the next); a mark shows the root mean square. Zeros have a column on the left; infinities and NaN have two columns
    on the right, in red. Octaves with less than 0.01 % of every layer are left out at both ends of the axis. Long names
    are cut at the left; of very many layers only some are named, and with more layers than pixels, groups of layers are
    averaged. Raises Malformed for an empty list or a summary with an invalid bucket, TooLarge for more than
    ``TAGS_MAX`` layers.
    """
    if not layers:
        raise Malformed("overview of layers: no layers; expected at least one")
    if len(layers) > TAGS_MAX:
        raise TooLarge("layers of an overview", len(layers), TAGS_MAX)
    shares = LayerShares.of([summary for _, summary in layers])
    layout = lay_out([name for name, _ in layers], shares.span())
    canvas = Canvas.over(_static_parts(layout))
    _draw_rows(canvas, layout, shares.grouped(HEIGHT_MAX))
    canvas.write_header(title, step, _note(shares))
    return canvas.picture()


def _note(shares: LayerShares) -> str:
    """Return the note: layers, layers with infinities or NaN, and a legend."""
    layers = shares.zeros.size
    not_finite = int(np.count_nonzero(shares.infinities + shares.nans))
    parts = [f"{layers:,} layer{'s' if layers > 1 else ''}"]
    if not_finite:
        parts.append(f"{not_finite:,} with infinities or NaN")
    parts.append("colour: share of the layer's values")
    parts.append("orange: root mean square")
    return " \N{MIDDLE DOT} ".join(parts)


def _draw_rows(canvas: Canvas, layout: Layout, shares: LayerShares) -> None:
    octaves = shares.octaves[:, layout.low - OCTAVE_MIN : layout.high - OCTAVE_MIN]
    _draw_cells(canvas, layout, layout.octaves_x, layout.octave_width, octaves, theme.SEQUENTIAL)
    _draw_cells(canvas, layout, layout.zeros_x, SIDE_WIDTH, shares.zeros[:, None], theme.SEQUENTIAL)
    not_finite = np.stack((shares.infinities, shares.nans), axis=1)
    _draw_cells(canvas, layout, layout.not_finite_x, SIDE_WIDTH, not_finite, theme.ALARM)
    for row, mark in enumerate(shares.root_mean_square_log2):
        if not np.isnan(mark):
            x = layout.octaves_x + round((min(max(mark, layout.low), layout.high) - layout.low) * layout.octave_width)
            canvas.fill(x - 1, layout.top + row * layout.row_height, 3, layout.painted_height, theme.ACCENT)


def _draw_cells(canvas: Canvas, layout: Layout, x: int, width: int, shares: Floats, anchors: Sequence[str]) -> None:
    """Draw the positive shares of ``[rows, columns]``, with a hairline between rows if there is space."""
    colours = theme.colours(anchors, np.sqrt(shares))
    height = layout.row_height
    mask = (shares > 0).repeat(width, axis=1).repeat(height, axis=0)
    if layout.painted_height < height:
        mask[height - 1 :: height] = False
    canvas.paste(x, layout.top, colours.repeat(width, axis=1).repeat(height, axis=0), mask)


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _static_parts(layout: Layout) -> Pixels:
    """Draw the axes, the colour bar and the names."""
    width, height = layout.size
    with theme.settings():
        figure = new_figure(width, height)

        def add(x: int, columns: int, rows_height: int) -> Axes:
            bottom = height - layout.top - rows_height
            axes = figure.add_axes((x / width, bottom / height, columns / width, rows_height / height))
            axes.set_facecolor(theme.fraction(theme.GROUND))
            axes.spines[:].set_visible(False)
            return axes

        rows = layout.rows_height
        _label_columns(add(layout.zeros_x, SIDE_WIDTH, rows), ["0"], layout)
        _label_columns(add(layout.not_finite_x, 2 * SIDE_WIDTH, rows), ["±∞", "NaN"], layout)
        _draw_octaves_axis(add(layout.octaves_x, layout.octaves_width, rows), layout)
        _draw_bar(add(layout.bar_x, BAR_WIDTH, layout.bar_height))
        canvas = Canvas.over(figure_pixels(figure))
    for place, name in enumerate(layout.names):
        middle = layout.top + (place * layout.stride + 0.5) * layout.row_height
        baseline = middle + theme.TICK.size_pixels * 0.36
        canvas.write(layout.zeros_x - NAME_GAP, baseline, name, theme.TICK, "right")
    canvas.pixels.flags.writeable = False
    return canvas.pixels


def _label_columns(axes: Axes, names: Sequence[str], layout: Layout) -> None:
    axes.set_xlim(0, len(names))
    axes.set_yticks([])
    axes.set_xticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(top=layout.is_tall, labeltop=layout.is_tall)
    style_ticks(axes)


def _draw_octaves_axis(axes: Axes, layout: Layout) -> None:
    """Draw ticks at powers of ten on an axis in powers of two."""
    axes.set_xlim(layout.low, layout.high)
    axes.set_yticks([])
    stride = -(-_DECADE_PITCH // int(_LOG2_OF_10 * layout.octave_width))
    decades = range(math.ceil(layout.low / _LOG2_OF_10), math.floor(layout.high / _LOG2_OF_10) + 1)
    shown = [decade for decade in decades if decade % stride == 0]
    axes.set_xticks([decade * _LOG2_OF_10 for decade in shown], [_power_of_ten(decade) for decade in shown])
    axes.tick_params(top=layout.is_tall, labeltop=layout.is_tall)
    axes.grid(visible=True, axis="x", color=theme.fraction(theme.GRID), linewidth=0.5)
    style_ticks(axes)
    axes.set_xlabel("magnitude")
    style_text(axes.xaxis.label, theme.LABEL)


def _power_of_ten(decade: int) -> str:
    return f"1e{decade}".replace("-", "\N{MINUS SIGN}") if decade else "1"


def _draw_bar(axes: Axes) -> None:
    """Draw the colour bar of shares, on a square-root scale, which makes small shares visible."""
    levels = theme.colours(theme.SEQUENTIAL, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    axes.imshow(levels[:, None], aspect="auto", interpolation="nearest", origin="lower", extent=(0, 1, 0, 1))
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.set_yticks(np.sqrt(_BAR_SHARES), [f"{share:.0%}" for share in _BAR_SHARES])
    style_ticks(axes)
