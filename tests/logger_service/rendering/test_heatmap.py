import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from tensorboard_sidecar.logger_service.rendering import heatmap as module
from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import HEADER_HEIGHT, Picture
from tensorboard_sidecar.logger_service.rendering.heatmap import (
    ColourRange,
    choose_range,
    format_number,
    format_range,
    format_ticks,
    heatmap,
    lay_cells,
    round_ticks,
    shrink,
)
from tensorboard_sidecar.logger_service.rendering.text import coverage
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import MATRIX_SIDE_MAX

sides = st.integers(1, MATRIX_SIDE_MAX)
MINUS = "\N{MINUS SIGN}"
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]
Floats = npt.NDArray[np.floating[Any]]
TIMES = "\N{MULTIPLICATION SIGN}"


@given(rows=sides, columns=sides)
def test_any_matrix_gets_a_picture_of_a_sensible_size(rows: int, columns: int) -> None:
    cells = lay_cells(rows, columns)
    assert min(cells.width, cells.height) >= 48
    assert 320 <= max(cells.width, cells.height) <= 640
    assert rows <= cells.rows * cells.row_block < rows + cells.row_block
    assert columns <= cells.columns * cells.column_block < columns + cells.column_block


@given(side=sides)
def test_cells_of_a_square_matrix_are_square(side: int) -> None:
    cells = lay_cells(side, side)
    assert cells.cell_width == cells.cell_height
    assert cells.row_block == cells.column_block


def test_every_value_of_a_matrix_of_up_to_640_has_its_own_cell() -> None:
    assert lay_cells(640, 640).row_block == 1
    assert lay_cells(641, 641).row_block == 2
    assert lay_cells(1, MATRIX_SIDE_MAX).row_block == 1


def test_blocks_are_averaged_the_last_ones_over_what_there_is() -> None:
    cells = lay_cells(MATRIX_SIDE_MAX, 700)
    values = np.random.default_rng(0).normal(size=(MATRIX_SIDE_MAX, 700)).astype(np.float32)
    means = shrink(values, cells)
    assert means.shape == (cells.rows, cells.columns)
    down, across = cells.row_block, cells.column_block
    assert down == 7
    assert across == 7
    assert means[0, 0] == pytest.approx(values[:down, :across].mean(), abs=1e-6)
    last = values[down * (cells.rows - 1) :, across * 3 : across * 4]
    assert last.shape == (1, across)
    assert means[-1, 3] == pytest.approx(last.mean(), abs=1e-6)


def test_a_single_value_that_is_not_finite_stays_visible() -> None:
    values = np.zeros((1300, 1300), np.float32)
    values[650, 3], values[700, 700], values[701, 701] = np.nan, np.inf, -np.inf
    means = shrink(values, lay_cells(1300, 1300))
    assert np.count_nonzero(~np.isfinite(means)) in {2, 3}


def test_means_of_huge_values_do_not_overflow() -> None:
    values = np.full((1300, 1300), np.finfo(np.float32).max)
    assert np.isfinite(shrink(values, lay_cells(1300, 1300))).all()


def test_enlarged_cells_are_blocks_of_one_colour() -> None:
    cells = lay_cells(3, 5)
    colours = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    pixels = cells.enlarge(colours)
    assert pixels.shape == (cells.height, cells.width, 3)
    np.testing.assert_array_equal(pixels[:: cells.cell_height, :: cells.cell_width], colours)
    np.testing.assert_array_equal(
        pixels[cells.cell_height - 1 :: cells.cell_height, cells.cell_width - 1 :: cells.cell_width], colours
    )


def test_a_given_range_is_taken_as_it_is() -> None:
    assert choose_range((-1, 1), (-0.2, 7.0)) == ColourRange(-1.0, 1.0)


@pytest.mark.parametrize(
    ("extent", "expected"),
    [
        (None, ColourRange(-1.0, 1.0)),
        ((0.0, 0.0), ColourRange(-1.0, 1.0)),
        ((-0.3, 0.94), ColourRange(-1.0, 1.0)),
        ((0.02, 0.97), ColourRange(0.0, 1.0)),
        ((5.0, 5.0), ColourRange(2.5, 7.5)),
        ((-5.0, -5.0), ColourRange(-7.5, -2.5)),
    ],
)
def test_limits_are_round(extent: tuple[float, float] | None, expected: ColourRange) -> None:
    chosen = choose_range(None, extent)
    assert (chosen.low, chosen.high) == pytest.approx((expected.low, expected.high))


@given(first=numbers, second=numbers)
def test_chosen_limits_hold_the_values_and_are_symmetric_around_zero(first: float, second: float) -> None:
    low, high = min(first, second), max(first, second)
    chosen = choose_range(None, (low, high))
    slack = 1e-6 * (chosen.high - chosen.low)
    assert chosen.low < chosen.high
    assert chosen.low - slack <= low <= high <= chosen.high + slack
    if low < 0 < high:
        assert chosen.low == pytest.approx(-chosen.high)


def test_limits_stay_while_values_move_a_little() -> None:
    assert choose_range(None, (-0.31, 0.913)) == choose_range(None, (-0.28, 0.958))


@given(low=numbers, width=st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_read_differently(low: float, width: float) -> None:
    assume(abs(low) < 1e3 * width)
    scale = ColourRange(low, low + width)
    ticks = round_ticks(scale, 8)
    assert 1 <= len(ticks) <= 11
    assert all(scale.low - width / 100 <= tick <= scale.high + width / 100 for tick in ticks)
    labels = format_ticks(ticks)
    assert len(set(labels)) == len(labels)


def test_whole_ticks_are_whole() -> None:
    assert round_ticks(ColourRange(0, 3), 10, whole=True) == [0, 1, 2, 3]
    assert round_ticks(ColourRange(0, 1e-3), 10, whole=True) == [0]
    assert all(tick == math.floor(tick) for tick in round_ticks(ColourRange(0, 63), 8, whole=True))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.5, f"{MINUS}0.5"),
        (1234.5, "1230"),
        (1e-7, f"1e{MINUS}7"),
        (-3.4e38, f"{MINUS}3.4e38"),
        (1e-45, f"1e{MINUS}45"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_number(value) == text


def test_an_extent_of_one_value_is_said_once() -> None:
    assert format_range(0.5, 0.5) == "all 0.5"
    assert format_range(-1.0, 0.5) == f"{MINUS}1 … 0.5"


def test_ticks_far_from_zero_keep_the_digits_that_differ() -> None:
    assert format_ticks([1000.0, 1000.5, 1001.0]) == ["1000", "1000.5", "1001"]
    assert format_ticks([-0.1, 1.4e-17, 0.1]) == [f"{MINUS}0.1", "0", "0.1"]
    assert format_ticks([]) == []


def draw(values: Floats, value_range: tuple[float, float] | None = (-1.0, 1.0), **words: Any) -> Picture:
    said: dict[str, Any] = {"title": "similarity", "row_label": "text", "column_label": "image", "step": 7} | words
    return heatmap(values, value_range=value_range, **said)


def similarities(side: int = 16) -> npt.NDArray[np.float32]:
    values = np.random.default_rng(side).uniform(-0.3, 0.3, (side, side))
    values[np.diag_indices(side)] = 0.9
    return values.astype(np.float32)


def cell_middles(pixels: Pixels, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the pixel in the middle of each cell, ``[rows, columns, 3]``."""
    cells = lay_cells(*shape)
    rows = HEADER_HEIGHT + (np.arange(shape[0]) * cells.cell_height) + cells.cell_height // 2
    columns = module._LEFT + (np.arange(shape[1]) * cells.cell_width) + cells.cell_width // 2
    return pixels[np.ix_(rows, columns)].astype(np.int64)


def test_the_diagonal_is_red_and_the_rest_is_not(decode: Decode) -> None:
    middles = cell_middles(decode(draw(similarities())), (16, 16))
    redness = middles[:, :, 0] - middles[:, :, 2]
    diagonal = np.eye(16, dtype=bool)
    assert (redness[diagonal] > 80).all()
    assert (middles[diagonal].sum(axis=1) < 350).all()
    assert (middles[~diagonal].sum(axis=1) > 450).all()


def test_row_0_is_at_the_top_and_colours_say_the_sign(decode: Decode) -> None:
    values = np.zeros((3, 3), np.float32)
    values[0, 2], values[2, 0] = 1.0, -1.0
    middles = cell_middles(decode(draw(values)), (3, 3))
    assert middles[0, 2, 0] > middles[0, 2, 2] + 50
    assert middles[2, 0, 2] > middles[2, 0, 0] + 50
    assert middles[1, 1].min() > 235


def test_cells_are_the_pixels_that_imshow_draws(decode: Decode) -> None:
    """Same axes, same colours, nearest interpolation: matplotlib's own image, pixel for pixel."""
    shape = (24, 16)
    levels = np.random.default_rng(0).integers(0, 256, shape)
    values = ((levels + 0.5) / 128 - 1).astype(np.float32)
    cells = lay_cells(*shape)
    figure = Figure(figsize=(cells.width / theme.DPI, cells.height / theme.DPI), dpi=theme.DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    palette = ListedColormap(module._palette(ColourRange(-1.0, 1.0))[:256] / 255)
    axes.imshow(values, cmap=palette, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    expected = np.asarray(canvas.buffer_rgba())[:, :, :3]
    drawn = decode(draw(values))[HEADER_HEIGHT:, module._LEFT :][: cells.height, : cells.width]
    np.testing.assert_array_equal(drawn, expected)


def test_what_is_not_finite_is_grey(decode: Decode) -> None:
    values = similarities(6)
    values[1, 2], values[3, 3], values[5, 0] = np.nan, np.inf, -np.inf
    grey = (cell_middles(decode(draw(values)), (6, 6)) == theme.NOT_FINITE).all(axis=2)
    assert sorted(zip(*(place.tolist() for place in np.nonzero(grey)), strict=True)) == [(1, 2), (3, 3), (5, 0)]


def test_the_note_says_what_the_picture_cannot() -> None:
    cells = lay_cells(2000, 2000)
    note = module._note((2000, 2000), (-0.5, 0.25), 3, cells)
    assert (
        note.replace(TIMES, "x")
        == "2,000 x 2,000 · \N{MINUS SIGN}0.5 … 0.25 · mean of 4 x 4 a cell · 3 not finite (grey)"
    )
    assert module._note((2, 3), None, 6, lay_cells(2, 3)) == f"2 {TIMES} 3 · 6 not finite (grey)"


def test_values_beyond_the_range_take_the_colours_of_its_ends(decode: Decode) -> None:
    values = np.array([[-1.0, -9.0], [1.0, 1e30]], np.float32)
    middles = cell_middles(decode(draw(values)), (2, 2))
    assert (middles[:, 0] == middles[:, 1]).all()


def test_zero_is_nearly_white_in_a_range_that_is_not_symmetric(decode: Decode) -> None:
    middles = cell_middles(decode(draw(np.array([[0.0, 1.0]], np.float32), (-0.2, 1.0))), (1, 2))
    assert middles[0, 0].min() > 235


def test_without_a_range_values_of_one_sign_take_one_hue(decode: Decode) -> None:
    middles = cell_middles(decode(draw(np.array([[0.0, 3.0, 10.0]], np.float32), None)), (1, 3))
    brightness = middles.sum(axis=2)[0]
    assert (np.diff(brightness) < -100).all()
    assert (middles[:, :, 2] >= middles[:, :, 0]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (300, 7)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_shape_and_float_is_drawn(shape: tuple[int, int], dtype: Any, decode: Decode) -> None:
    pixels = decode(draw(np.full(shape, 0.5, dtype), None))
    assert pixels.shape[0] > 100
    assert pixels.shape[1] >= 440


@settings(max_examples=25, deadline=None)
@given(
    values=arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(width=32)),
    given_range=st.none() | st.just((-1.0, 1.0)),
)
def test_no_value_breaks_a_heatmap(values: Floats, given_range: tuple[float, float] | None) -> None:
    """NaN, infinities, subnormal and huge numbers; warnings are errors here."""
    assert draw(values, given_range).png


def test_numbers_beyond_float32_count_as_infinite(decode: Decode) -> None:
    middles = cell_middles(decode(draw(np.array([[1e300, 0.0]]), None)), (1, 2))
    assert middles[0, 0].tolist() == list(theme.NOT_FINITE)


@pytest.mark.parametrize("value_range", [(0.0, 5e-324), (-1e-320, 1e-320), (1e300, 1.1e300)])
def test_strange_ranges_are_drawn(value_range: tuple[float, float]) -> None:
    assert draw(similarities(3), value_range).png


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_largest_matrix_is_drawn_in_seconds(dtype: Any, decode: Decode) -> None:
    """The bound is far above the usual 0.1 s; only an algorithm with another complexity exceeds it."""
    values = similarities(MATRIX_SIDE_MAX).astype(dtype)
    start = time.process_time()
    picture = draw(values)
    assert time.process_time() - start < 5
    assert max(decode(picture).shape) < 1000


@pytest.mark.parametrize(
    "words",
    ["", "$\\frac{1}{2", "日本語 שלום مرحبا 🎉", "x" * 4096, "line\nbreak\x00\ud800", "100% $5 & {a} _b ^c \\"],
)
def test_any_words_are_drawn_as_they_are(words: str) -> None:
    assert draw(similarities(2), title=words, row_label=words, column_label=words).png


def test_what_was_drawn_before_does_not_change_a_picture() -> None:
    """Kept parts are pure functions of the layout: the same bytes after other drawings and from nothing."""
    first = draw(similarities(), step=1)
    for side in range(2, 22):  # more layouts than are kept
        draw(similarities(side), None, title=f"other {side}")
    assert draw(similarities(), step=1) == first
    module._static_parts.cache_clear()
    module._palette.cache_clear()
    coverage.cache_clear()
    assert draw(similarities(), step=1) == first
    assert draw(similarities(), step=2) != first


@pytest.mark.parametrize(
    "values",
    [np.zeros((0, 3), np.float32), np.zeros(3, np.float32), np.zeros((2, 2, 2)), np.zeros((2, 2), np.int32)],
)
def test_what_is_no_matrix_is_refused(values: Floats) -> None:
    with pytest.raises(Malformed, match="expected floats"):
        draw(values)


def test_a_side_above_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="side of a matrix"):
        draw(np.zeros((1, MATRIX_SIDE_MAX + 1), np.float32))


@pytest.mark.parametrize("value_range", [(1.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (0.0, np.inf), (-1.7e308, 1.7e308)])
def test_what_is_no_range_is_refused(value_range: tuple[float, float]) -> None:
    with pytest.raises(Malformed, match="value range"):
        draw(similarities(2), value_range)
