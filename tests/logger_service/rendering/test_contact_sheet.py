from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering.canvas import HEADER_HEIGHT, MARGIN
from tensorboard_sidecar.logger_service.rendering.contact_sheet import contact_sheet
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.logger_service.rendering.text import coverage
from tensorboard_sidecar.protocol.errors import Malformed
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
