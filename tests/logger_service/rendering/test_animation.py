"""Clips as animated GIF files, read back with Pillow."""

import io
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageSequence

from tensorboard_sidecar.logger_service.rendering.animation import Animation, animation
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX

Pixels = npt.NDArray[np.uint8]


def decode(shown: Animation) -> list[Pixels]:
    """Return the pictures of a GIF, RGB; check the declared size."""
    with Image.open(io.BytesIO(shown.gif)) as image:
        assert image.format == "GIF"
        assert image.size == (shown.width, shown.height)
        return [np.asarray(picture.convert("RGB")) for picture in ImageSequence.Iterator(image)]


def plain(*colours: tuple[int, ...], height: int = 4, width: int = 6) -> Pixels:
    """Return one clip of pictures of one colour each, ``[T, H, W, C]``."""
    return np.array([np.full((height, width, len(colour)), colour, np.uint8) for colour in colours])


def test_a_clip_comes_back_picture_by_picture() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (17, 99, 201)]
    shown = animation(plain(*colours)[None], 4.0)
    assert (shown.width, shown.height, shown.channels) == (6, 4, 3)
    assert [tuple(picture[0, 0]) for picture in decode(shown)] == colours


def test_grey_is_exact_and_transparent_pixels_lie_on_white() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1).repeat(2, axis=1)
    ramp[0, 1] = 255 - ramp[0, 1]
    first, second = decode(animation(ramp, 1.0))
    np.testing.assert_array_equal(first, ramp[0, 0].repeat(3, axis=2))
    np.testing.assert_array_equal(second, ramp[0, 1].repeat(3, axis=2))
    (picture,) = decode(animation(plain((255, 0, 0, 0))[None], 1.0))
    assert (picture == 255).all()


@pytest.mark.parametrize(
    ("clips", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 1, 4), (4, 2, 2), (5, 2, 4), (16, 4, 4)]
)
def test_clips_lie_in_the_grid_of_torchs_writer(clips: int, rows: int, columns: int) -> None:
    """torch.utils.tensorboard._utils._prepare_video: powers of two, and black where there is no clip."""
    many = np.stack([plain((10 + 10 * place,)) for place in range(clips)])
    shown = animation(many, 4.0)
    assert (shown.width, shown.height) == (6 * columns, 4 * rows)
    (picture,) = decode(shown)
    assert picture[::4, ::6, 0].ravel().tolist() == [10 + 10 * n if n < clips else 0 for n in range(rows * columns)]


@pytest.mark.parametrize(
    ("rate", "duration_ms"), [(4.0, 250), (30.0, 30), (1_000.0, 20), (0.5, 2_000), (1e-300, 655_350)]
)
def test_pictures_stay_as_long_as_a_gif_can_say(rate: float, duration_ms: int) -> None:
    with Image.open(io.BytesIO(animation(plain((0,), (99,))[None], rate).gif)) as image:
        assert (image.info["duration"], image.info["loop"]) == (duration_ms, 0)


@pytest.mark.parametrize(("rate", "length"), [(0.00390625, 3), (1.0, 700)])
def test_a_picture_that_stays_longer_than_a_gif_can_say_stays_as_long_as_it_can(rate: float, length: int) -> None:
    """Pillow joins equal neighbours to one picture, whose duration has 16 bits."""
    gif = animation(np.zeros((1, length, 1, 1, 1), np.uint8), rate).gif
    with Image.open(io.BytesIO(gif)) as shown:
        assert 0 < shown.info["duration"] <= 655_350


def test_the_same_clips_give_the_same_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 4, 9, 7, 3), np.uint8)
    one, other = (animation(noise.copy(), 4.0) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("shape", [(64, 1, 200, 2000, 1), (2, 1, 3, 8192, 3), (33, 2, 4000, 2, 1)])
def test_a_grid_never_outgrows_the_limit(shape: tuple[int, ...]) -> None:
    shown = animation(np.zeros(shape, np.uint8), 4.0)
    assert max(shown.width, shown.height) <= IMAGE_SIDE_MAX


@pytest.mark.parametrize(
    "clips", [np.zeros((1, 0, 2, 2, 3), np.uint8), np.zeros((2, 2, 2, 3), np.uint8), np.zeros((1, 1, 2, 2, 3))]
)
def test_what_is_no_clip_is_malformed(clips: Pixels) -> None:
    with pytest.raises(Malformed, match="expected uint8"):
        animation(clips, 4.0)


def test_a_picture_of_few_colours_keeps_them() -> None:
    """Masks and drawings."""
    palette = np.random.default_rng(2).integers(0, 256, (256, 3), np.uint8)
    drawing = palette[np.arange(256).reshape(16, 16)]
    (shown,) = decode(animation(drawing[None, None], 4.0))
    np.testing.assert_array_equal(shown, drawing)


def test_noise_keeps_its_look() -> None:
    """256 colours a picture, chosen for each picture."""
    noise = np.random.default_rng(1).integers(0, 256, (1, 3, 32, 32, 3), np.uint8)
    pictures = decode(animation(noise, 4.0))
    assert all(np.abs(shown.astype(int) - given).mean() < 24 for shown, given in zip(pictures, noise[0], strict=True))
    assert all((one != other).any() for one, other in pairwise(pictures))
