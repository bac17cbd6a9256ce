from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import (
    Align,
    Canvas,
    Picture,
    encode_png,
    figure_pixels,
    new_figure,
)
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]


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


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 20)])
def test_another_decoder_reads_the_same_pixels(size: tuple[int, int], channels: int, decode: Decode) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    np.testing.assert_array_equal(decode(encode_png(pixels)).reshape(pixels.shape), pixels)


def test_pixels_that_are_not_contiguous_are_read_in_their_order(decode: Decode) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 6), np.uint8).transpose(1, 2, 0)[::-1, ::2]
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


def test_a_png_holds_nothing_but_its_pixels() -> None:
    """No time, no software name: chunks are the head, the data and the end."""
    png = encode_png(np.zeros((4, 4, 3), np.uint8)).png
    assert png[12:16] == b"IHDR"
    assert png[37:41] == b"IDAT"
    assert png[-8:-4] == b"IEND"
    assert sum(png.count(kind) for kind in (b"tEXt", b"tIME", b"iTXt", b"zTXt", b"pHYs")) == 0


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(pixels: Pixels) -> None:
    with pytest.raises(Malformed, match=r"a picture of .*; expected uint8"):
        encode_png(pixels)


def test_a_side_above_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="side of a picture"):
        encode_png(np.zeros((1, IMAGE_SIDE_MAX + 1, 1), np.uint8))
