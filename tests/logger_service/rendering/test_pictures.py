from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering.pictures import grid, plain, thumbnail
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX, IMAGES_MAX

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_plain_picture_is_what_came(decode: Decode) -> None:
    image = noise(9, 5, 3)
    np.testing.assert_array_equal(decode(plain(image)), image)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_grid_holds_every_picture_in_reading_order(channels: int, decode: Decode) -> None:
    images = noise(5, 4, 6, channels)
    whole = decode(grid(images)).reshape(10, 22, channels)
    for place, image in enumerate(images):
        row, column = divmod(place, 3)
        np.testing.assert_array_equal(whole[row * 6 : row * 6 + 4, column * 8 : column * 8 + 6], image)
    assert (whole[6:, 16:] == 255).all(), "an empty place is white"


@pytest.mark.parametrize("shape", [(4, 5000, 3, 1), (5, 3, 8192, 3), (256, 600, 5, 4), (2, 4096, 4095, 1)])
def test_a_grid_never_outgrows_the_limit(shape: tuple[int, ...]) -> None:
    picture = grid(np.zeros(shape, np.uint8))
    assert max(picture.width, picture.height) <= IMAGE_SIDE_MAX


def test_a_shrunk_grid_averages_pixels(decode: Decode) -> None:
    images = np.zeros((2, 4, 8192, 1), np.uint8)
    images[0, :, ::2] = 200
    whole = decode(grid(images))
    assert set(np.unique(whole[0, : whole.shape[1] // 2 - 4])) <= {67, 100, 133}
    assert (whole[0, whole.shape[1] // 2 + 4 :] == 0).all()


def test_small_pictures_get_whole_pixels() -> None:
    image = noise(3, 5, 3)
    shown = thumbnail(image, 32)
    assert shown.shape == (18, 30, 3)
    np.testing.assert_array_equal(shown[::6, ::6], image)


@pytest.mark.parametrize("size", [(100, 400), (400, 100), (1, 8192), (33, 33)])
def test_large_pictures_keep_their_proportions(size: tuple[int, int]) -> None:
    shown = thumbnail(noise(*size, 3), 32)
    assert max(shown.shape) == 32
    assert shown.shape[0] == max(1, round(size[0] * 32 / max(size)))


def test_grey_becomes_grey_and_transparent_becomes_white() -> None:
    assert thumbnail(np.full((1, 1, 1), 90, np.uint8), 1).tolist() == [[[90, 90, 90]]]
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)
    assert thumbnail(pixels, 3).tolist() == [[[255] * 3, [10, 20, 30], [127] * 3]]


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), Malformed),
        (np.zeros((4, 4, 3), np.uint8), Malformed),
        (np.zeros((1, 4, 4, 2), np.uint8), Malformed),
        (np.zeros((1, 4, 4, 3), np.float32), Malformed),
        (np.zeros((IMAGES_MAX + 1, 1, 1, 1), np.uint8), TooLarge),
        (np.zeros((1, 1, IMAGE_SIDE_MAX + 1, 1), np.uint8), TooLarge),
    ],
)
def test_what_are_no_pictures_is_refused(images: Pixels, error: type[Exception]) -> None:
    with pytest.raises(error, match="picture"):
        grid(images)
