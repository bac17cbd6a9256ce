from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering.canvas import HEADER_HEIGHT, MARGIN, Picture, encode_png
from tensorboard_sidecar.logger_service.rendering.pictures import contact_sheet, grid, thumbnail
from tensorboard_sidecar.logger_service.rendering.text import coverage
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX, IMAGES_MAX

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]
CAPTIONS = [
    "a small red circle left of a big blue square on a grey background, and more words than three lines can hold",
    "Красный круг слева от синего квадрата",
    "דיסק אדום קטן",
    "دائرة حمراء صغيرة",
    "一个红色的小圆圈",
    "हिन्दी में",
    "🎉 👩‍👧",
    "$5 and $\\frac{1}{2",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "",
    "tab\tline\nzero\x00 lone \ud800",
    "x" * 4096,
]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_plain_picture_is_what_came(decode: Decode) -> None:
    image = noise(9, 5, 3)
    np.testing.assert_array_equal(decode(encode_png(image)), image)


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


def flat(number: int, side: int = 48) -> Pixels:
    """Return pictures of a single colour each."""
    shades = np.arange(number, dtype=np.uint8) + 100
    return np.broadcast_to(shades[:, None, None, None], (number, side, side, 3)).copy()


def draw(images: Pixels, captions: list[str], step: int = 5) -> Picture:
    return contact_sheet(images, captions, title="samples/images", step=step)


def test_pictures_stand_in_reading_order(decode: Decode) -> None:
    pixels = decode(draw(flat(9), ["caption"] * 9))
    shades = [int(value) for value in pixels[HEADER_HEIGHT:, MARGIN + 150, 0] if value in range(100, 109)]
    assert list(dict.fromkeys(shades)) == [100, 103, 106]
    across = [int(value) for value in pixels[HEADER_HEIGHT + 5, :, 0] if value in range(100, 109)]
    assert list(dict.fromkeys(across)) == [100, 101, 102]
    assert across.count(101) == 192, "48 pixels are shown four times as large"


def test_captions_in_any_language_are_drawn_without_a_warning(decode: Decode) -> None:
    pixels = decode(draw(flat(len(CAPTIONS)), CAPTIONS))
    assert pixels.shape[1] == 4 * 192 + 3 * 20 + 2 * MARGIN


def test_each_caption_is_below_its_picture(decode: Decode) -> None:
    pixels = decode(draw(flat(4), ["", "words", "", ""]))
    below = slice(HEADER_HEIGHT + 384, HEADER_HEIGHT + 384 + 20)
    darkest = pixels[below].min(axis=(0, 2))
    beside_number, pitch = MARGIN + 16, 384 + 20
    assert (darkest[beside_number : MARGIN + 384] == 255).all()
    assert (darkest[beside_number + pitch :] < 128).any()


@pytest.mark.parametrize("number", [1, 2, 5, 17, IMAGES_MAX])
def test_any_number_of_pictures_fits_the_limit(number: int) -> None:
    picture = draw(flat(number, 8), [CAPTIONS[0]] * number)
    assert max(picture.width, picture.height) <= IMAGE_SIDE_MAX


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 300, 500, 4), (3, 2, 3000, 3), (1, 3000, 2, 3)])
def test_any_size_of_picture_is_drawn(shape: tuple[int, ...]) -> None:
    assert draw(np.full(shape, 50, np.uint8), []).png


def test_what_was_drawn_before_does_not_change_a_picture() -> None:
    images = flat(len(CAPTIONS))
    first = draw(images, CAPTIONS)
    assert draw(images, CAPTIONS) == first
    coverage.cache_clear()
    assert draw(images, CAPTIONS) == first
    assert draw(images, CAPTIONS, step=6) != first


@pytest.mark.parametrize("captions", [["one"], ["one"] * 3])
def test_a_wrong_number_of_captions_is_refused(captions: list[str]) -> None:
    with pytest.raises(Malformed, match="2 pictures"):
        draw(flat(2), captions)
