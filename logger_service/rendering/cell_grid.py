"""The pixel grid of a matrix: all cells of a matrix have the same whole number of pixels."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.logger_service.rendering.theme import Pixels

Values: TypeAlias = npt.NDArray[np.floating[Any]]

_SIDE_USUAL: Final = 480  # target for the longer side; with more than 160 cells the side has 320 to 640 pixels
_CELLS_MAX: Final = 640
_SIDE_MIN: Final = 48  # a smaller side would draw single rows and columns as hairlines


@dataclass(frozen=True, slots=True)
class CellGrid:
    """A grid of ``rows`` by ``columns`` cells; a cell shows a block of values as a rectangle of pixels."""

    rows: int
    columns: int
    row_block: int
    column_block: int
    cell_height: int
    cell_width: int

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return self.rows * self.cell_height

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return self.columns * self.cell_width

    def enlarge(self, colours: Pixels) -> Pixels:
        """Enlarge cells to pixels: uint8 ``[rows, columns, 3]`` to ``[height, width, 3]``."""
        return colours.repeat(self.cell_width, axis=1).repeat(self.cell_height, axis=0)


def lay_cells(rows: int, columns: int) -> CellGrid:
    """Return the grid of a matrix: square cells, except that cells of a very short side are stretched."""
    block = -(-max(rows, columns) // _CELLS_MAX)
    # A short side keeps its detail: it is averaged to no less than _SIDE_MIN cells.
    row_block, column_block = (min(block, max(1, side // _SIDE_MIN)) for side in (rows, columns))
    cell_rows, cell_columns = -(-rows // row_block), -(-columns // column_block)
    cell = max(1, round(_SIDE_USUAL / max(cell_rows, cell_columns)))
    cell_height, cell_width = (max(cell, -(-_SIDE_MIN // side)) for side in (cell_rows, cell_columns))
    return CellGrid(cell_rows, cell_columns, row_block, column_block, cell_height, cell_width)


def shrink(values: Values, cells: CellGrid) -> Values:
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
