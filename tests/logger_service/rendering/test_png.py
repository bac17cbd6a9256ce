from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering.png import Picture, encode_png
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]


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
