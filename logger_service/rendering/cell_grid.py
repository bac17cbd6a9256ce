"""Where the cells of a matrix lie in pixels: every cell of one matrix the same whole number of pixels."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.logger_service.rendering.theme import Pixels

Values: TypeAlias = npt.NDArray[np.floating[Any]]

_SIDE_USUAL: Final = 480  # what the longer side comes near to; it lies between 320 and 640 above 160 cells
_CELLS_MAX: Final = 640
_SIDE_MIN: Final = 48  # below, single rows and columns would be hairlines


@dataclass(frozen=True, slots=True)
class CellGrid:
    """A grid of ``rows`` by ``columns`` cells; each stands for a block of values and takes a rectangle of pixels."""

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
        """Give each cell its pixels: uint8 ``[rows, columns, 3]`` to ``[height, width, 3]``."""
        return colours.repeat(self.cell_width, axis=1).repeat(self.cell_height, axis=0)


def lay_cells(rows: int, columns: int) -> CellGrid:
    """Lay out a matrix: square cells, unless a side is so short that its cells must be stretched to be seen."""
    block = -(-max(rows, columns) // _CELLS_MAX)
    # A short side keeps its detail: it is averaged no further than to as many cells as it is wide at least.
    row_block, column_block = (min(block, max(1, side // _SIDE_MIN)) for side in (rows, columns))
    cell_rows, cell_columns = -(-rows // row_block), -(-columns // column_block)
    cell = max(1, round(_SIDE_USUAL / max(cell_rows, cell_columns)))
    cell_height, cell_width = (max(cell, -(-_SIDE_MIN // side)) for side in (cell_rows, cell_columns))
    return CellGrid(cell_rows, cell_columns, row_block, column_block, cell_height, cell_width)


def shrink(values: Values, cells: CellGrid) -> Values:
    """Average the blocks of ``values`` ``[rows, columns]``; the last ones may be smaller.

    A block that holds a value that is not finite is not finite itself, so that single ones stay visible.
    """
    if cells.row_block * cells.column_block == 1:
        return values
    rows, columns = values.shape
    with np.errstate(invalid="ignore"):  # infinities of both signs in one block make NaN, which is as grey
        sums = _sum_blocks(_sum_blocks(values, cells.row_block).T, cells.column_block).T
    means: Values = sums / np.outer(_block_sizes(rows, cells.row_block), _block_sizes(columns, cells.column_block))
    return means


def _sum_blocks(values: Values, block: int) -> Values:
    """Add up each ``block`` rows in float64, so that no sum of float32 overflows."""
    sums = np.zeros((-(-values.shape[0] // block), values.shape[1]))
    for offset in range(block):
        part = values[offset::block]
        sums[: part.shape[0]] += part
    return sums


def _block_sizes(length: int, block: int) -> npt.NDArray[np.intp]:
    return np.diff(np.arange(0, length, block), append=length)
