import numpy as np
import pytest

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import Align, Canvas, figure_pixels, new_figure


def inked(canvas: Canvas) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the pixels that are not white."""
    rows, columns = np.nonzero((canvas.pixels != 255).any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(("align", "low", "high"), [("left", 99, 103), ("right", 58, 64), ("centre", 78, 84)])
def test_text_stands_beside_its_x(align: Align, low: int, high: int) -> None:
    canvas = Canvas(200, 60)
    canvas.write(100, 40, "HHHH", theme.LABEL, align)
    left, _, right, bottom = inked(canvas)
    assert low <= left <= high
    assert right - left in range(34, 44)
    assert bottom == 40


def test_text_beyond_the_edges_is_clipped() -> None:
    canvas = Canvas(30, 10)
    for x, y in ((-500, 5), (-10, 5), (25, 5), (500, 5), (5, -50), (5, 0), (5, 14), (5, 500)):
        canvas.write(x, y, "wide text", theme.TITLE)
    assert canvas.pixels.shape == (10, 30, 3)


def test_solid_ink_takes_the_colour_of_the_style() -> None:
    canvas = Canvas(40, 40)
    canvas.write(5, 30, "\N{FULL BLOCK}", theme.TITLE)
    assert (canvas.pixels == theme.INK).all(axis=2).any()


def test_a_canvas_does_not_write_into_its_background() -> None:
    background = np.full((5, 5, 3), 7, np.uint8)
    Canvas.over(background).fill(0, 0, 5, 5, theme.INK)
    assert (background == 7).all()


def test_a_mask_leaves_what_is_there() -> None:
    canvas = Canvas(2, 1)
    canvas.paste(0, 0, np.zeros((1, 2, 3), np.uint8), np.array([[True, False]]))
    assert canvas.pixels[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_a_frame_lies_outside_of_its_rectangle() -> None:
    canvas = Canvas(6, 6)
    canvas.frame(2, 2, 2, 2)
    drawn = (canvas.pixels == theme.LINE).all(axis=2)
    assert drawn.sum() == 12
    assert not drawn[2:4, 2:4].any()


def test_the_header_keeps_the_step_whatever_the_title_is() -> None:
    titles = ["", "t", "long " * 100]
    ends = []
    for title in titles:
        canvas = Canvas(300, 64)
        canvas.write_header(title, 12_340, "note " * 100)
        ends.append(inked(canvas)[2])
        step = (canvas.pixels == theme.STEP.colour).all(axis=2)[:32]
        assert step.any()
    assert max(ends) <= 300 - 16 + 1


@pytest.mark.parametrize("width", [29, 57, 113, 688, 1333])
def test_a_figure_has_exactly_the_pixels_asked_for(width: int) -> None:
    """Matplotlib truncates figsize * dpi: with 100 dpi, 29 pixels become 28."""
    assert figure_pixels(new_figure(width, 31)).shape == (31, width, 3)
