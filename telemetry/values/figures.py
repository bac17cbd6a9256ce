"""Figures of matplotlib to pixels: the only file of the client that uses matplotlib, when a program gives a figure."""

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures: TypeAlias = "Figure | list[Figure]"


def rasterise(figure: "Figure", *, close: bool) -> npt.NDArray[Any]:
    """Draw a figure on the calling thread and return its pixels, uint8 ``[H, W, 3]``.

    ``close`` closes the figure in pyplot, also when drawing fails. A figure that stays open gets back its own canvas,
    the window for example.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - programs without figures may lack it

    own = figure.canvas
    try:
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[:, :, :3]
    finally:
        figure.set_canvas(own)
        pyplot = sys.modules.get("matplotlib.pyplot")  # pyplot holds no figure of a program that never imported it
        if close and pyplot is not None:
            pyplot.close(figure)
