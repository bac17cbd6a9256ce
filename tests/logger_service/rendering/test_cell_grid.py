import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.rendering.cell_grid import lay_cells, shrink
from tensorboard_sidecar.protocol.limits import MATRIX_SIDE_MAX

sides = st.integers(1, MATRIX_SIDE_MAX)


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
