"""The overview of a model's layers: a row for each layer, with the magnitudes of its values on a logarithmic axis.

:class:`LayerShares` holds the numbers: the distribution of each layer's values over octaves of magnitude.
``_Layout`` places the parts. From left to right: names, zeros, the octaves, infinities and NaN, the colour bar.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from os.path import commonprefix
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import (
    HEADER_HEIGHT,
    MARGIN,
    Canvas,
    Picture,
    draw_colour_bar,
    figure_pixels,
    new_figure,
    style_text,
    style_ticks,
)
from tensorboard_sidecar.logger_service.rendering.text import ELLIPSIS, fit, presentable, text_width
from tensorboard_sidecar.logger_service.rendering.theme import Pixels
from tensorboard_sidecar.protocol.buckets import bucket_octaves
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.messages import TensorSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats: TypeAlias = npt.NDArray[np.float64]

# Below and above all buckets that a summary can hold.
OCTAVE_MIN: Final = -134
OCTAVE_MAX: Final = 128
SHARE_MIN: Final = 1e-4  # an octave with a smaller share in every layer does not extend the axis
_ROUNDING: Final = 4  # the axis ends at multiples of this, so that small changes of values do not change it
_OCTAVES_SHOWN_MIN: Final = 12

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

_LAYOUTS_KEPT: Final = 4  # up to a dozen megabytes each
_LEVELS: Final = 256
_DECADE_PITCH: Final = 40
_BAR_SHARES: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_LOG2_OF_10: Final = float(np.log2(10))


@dataclass(frozen=True, slots=True)
class LayerShares:
    """Shares of a layer's values, 0 to 1: ``octaves`` ``[layers, OCTAVE_MAX - OCTAVE_MIN]``, the others ``[layers]``.

    ``root_mean_square_log2`` is NaN for a layer whose finite values are all zero.
    """

    octaves: Floats
    zeros: Floats
    infinities: Floats
    nans: Floats
    root_mean_square_log2: Floats

    @classmethod
    def of(cls, summaries: Sequence[TensorSummary]) -> Self:
        """Return the shares of summaries, a row for each. Raises Malformed for an invalid bucket."""
        octaves = np.zeros((len(summaries), OCTAVE_MAX - OCTAVE_MIN))
        zeros, infinities, nans, marks = np.zeros((4, len(summaries)))
        for layer, summary in enumerate(summaries):
            counts = summary.counts.numpy().astype(np.float64)
            places = bucket_octaves(summary.indexes.numpy(), summary.mantissa_bits) - OCTAVE_MIN
            np.add.at(octaves[layer], places, counts)
            zero, nan = max(summary.zeros, 0), max(summary.nans, 0)
            infinite = max(summary.positive_infinities, 0) + max(summary.negative_infinities, 0)
            finite = float(counts.sum()) + zero
            total = (finite + infinite + nan) or 1.0
            octaves[layer] /= total
            zeros[layer], infinities[layer], nans[layer] = zero / total, infinite / total, nan / total
            mean_square = summary.sum_squares / (finite or 1.0)
            marks[layer] = math.log2(mean_square) / 2 if 0 < mean_square < math.inf else math.nan
        return cls(octaves, zeros, infinities, nans, marks)

    def grouped(self, rows_max: int) -> Self:
        """Average groups of neighbours to at most ``rows_max`` rows; a group has its largest root mean square."""
        layers = self.zeros.size
        if layers <= rows_max:
            return self
        starts = np.arange(0, layers, -(-layers // rows_max))
        sizes = np.diff(starts, append=layers)
        return type(self)(
            np.add.reduceat(self.octaves, starts, axis=0) / sizes[:, None],
            np.add.reduceat(self.zeros, starts) / sizes,
            np.add.reduceat(self.infinities, starts) / sizes,
            np.add.reduceat(self.nans, starts) / sizes,
            np.fmax.reduceat(self.root_mean_square_log2, starts),
        )

    def span(self) -> tuple[int, int]:
        """Return the first octave to show and the octave after the last, rounded outwards; never empty."""
        seen = np.flatnonzero((self.octaves >= SHARE_MIN).any(axis=0)) + OCTAVE_MIN
        marks = self.root_mean_square_log2[~np.isnan(self.root_mean_square_log2)]
        marks = np.clip(np.floor(marks), OCTAVE_MIN, OCTAVE_MAX - 1).astype(np.int64)
        shown = np.concatenate((seen, marks)) if seen.size or marks.size else np.array([-1])
        high = -(-(int(shown.max()) + 1) // _ROUNDING) * _ROUNDING
        low = min(int(shown.min()) // _ROUNDING * _ROUNDING, high - _OCTAVES_SHOWN_MIN)
        return low, high


@dataclass(frozen=True, slots=True)
class _Layout:
    """All inputs of the static parts of an overview, and their cache key; every ``stride``-th row has a name.

    Places, widths and heights are in pixels.
    """

    names: tuple[str, ...]
    names_width: int
    stride: int
    rows: int
    row_height: int
    low: int
    high: int

    @property
    def octave_width(self) -> int:
        width = _OCTAVES_WIDTH // (self.high - self.low)
        return min(max(width, _OCTAVE_WIDTH_MIN), _OCTAVE_WIDTH_MAX)

    @property
    def zeros_x(self) -> int:
        return MARGIN + self.names_width + NAME_GAP

    @property
    def octaves_x(self) -> int:
        return self.zeros_x + SIDE_WIDTH + _SIDE_GAP

    @property
    def octaves_width(self) -> int:
        return self.octave_width * (self.high - self.low)

    @property
    def not_finite_x(self) -> int:
        return self.octaves_x + self.octaves_width + _SIDE_GAP

    @property
    def bar_x(self) -> int:
        return self.not_finite_x + 2 * SIDE_WIDTH + _BAR_GAP

    @property
    def top(self) -> int:
        return HEADER_HEIGHT + (_AXIS_HEIGHT if self.is_tall else 0)

    @property
    def is_tall(self) -> bool:
        """Whether the axis also has labels at the top."""
        return self.rows_height > _HEIGHT_TALL

    @property
    def rows_height(self) -> int:
        return self.rows * self.row_height

    @property
    def painted_height(self) -> int:
        """The painted part of a row's height: high rows leave a hairline of one pixel between them."""
        return self.row_height - 1 if self.row_height >= _ROW_HAIRLINE_MIN else self.row_height

    @property
    def bar_height(self) -> int:
        return max(min(self.rows_height, _BAR_HEIGHT), _BAR_HEIGHT_MIN)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        height = self.top + max(self.rows_height, self.bar_height) + _BOTTOM
        return self.bar_x + BAR_WIDTH + _BAR_LABELS, height


def lay_out(names: Sequence[str], span: tuple[int, int]) -> _Layout:
    """Return the layout for the named layers; ``span`` is the first octave shown and the octave after the last."""
    group = -(-len(names) // HEIGHT_MAX)
    rows = -(-len(names) // group)
    row_height = min(max(_HEIGHT_FEW // rows, _ROW_HEIGHT_USUAL), _ROW_HEIGHT_MAX, HEIGHT_MAX // rows)
    stride = -(-_NAME_PITCH // row_height)
    shown = _shorten(names[:: group * stride])
    width = max((text_width(name, theme.TICK) for name in shown), default=0)
    return _Layout(shown, width, stride, rows, row_height, *span)


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


def _draw_rows(canvas: Canvas, layout: _Layout, shares: LayerShares) -> None:
    octaves = shares.octaves[:, layout.low - OCTAVE_MIN : layout.high - OCTAVE_MIN]
    _draw_cells(canvas, layout, layout.octaves_x, layout.octave_width, octaves, theme.SEQUENTIAL)
    _draw_cells(canvas, layout, layout.zeros_x, SIDE_WIDTH, shares.zeros[:, None], theme.SEQUENTIAL)
    not_finite = np.stack((shares.infinities, shares.nans), axis=1)
    _draw_cells(canvas, layout, layout.not_finite_x, SIDE_WIDTH, not_finite, theme.ALARM)
    for row, mark in enumerate(shares.root_mean_square_log2):
        if not np.isnan(mark):
            x = layout.octaves_x + round((min(max(mark, layout.low), layout.high) - layout.low) * layout.octave_width)
            canvas.fill(x - 1, layout.top + row * layout.row_height, 3, layout.painted_height, theme.ACCENT)


def _draw_cells(canvas: Canvas, layout: _Layout, x: int, width: int, shares: Floats, anchors: Sequence[str]) -> None:
    """Draw the positive shares of ``[rows, columns]``, with a hairline between rows if there is space."""
    colours = theme.colours(anchors, np.sqrt(shares))
    height = layout.row_height
    mask = (shares > 0).repeat(width, axis=1).repeat(height, axis=0)
    if layout.painted_height < height:
        mask[height - 1 :: height] = False
    canvas.paste(x, layout.top, colours.repeat(width, axis=1).repeat(height, axis=0), mask)


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _static_parts(layout: _Layout) -> Pixels:
    """Draw the axes, the colour bar and the names."""
    width, height = layout.size
    with theme.settings():
        figure = new_figure(width, height)

        def add(x: int, columns: int, rows_height: int) -> "Axes":
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


def _label_columns(axes: "Axes", names: Sequence[str], layout: _Layout) -> None:
    axes.set_xlim(0, len(names))
    axes.set_yticks([])
    axes.set_xticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(top=layout.is_tall, labeltop=layout.is_tall)
    style_ticks(axes)


def _draw_octaves_axis(axes: "Axes", layout: _Layout) -> None:
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


def _draw_bar(axes: "Axes") -> None:
    """Draw the colour bar of shares, on a square-root scale, which makes small shares visible."""
    colours = theme.colours(theme.SEQUENTIAL, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    ticks = [math.sqrt(share) for share in _BAR_SHARES]
    draw_colour_bar(axes, colours, (0, 1), ticks, [f"{share:.0%}" for share in _BAR_SHARES])
