"""Pictures without decoration: a single picture, a grid of pictures, thumbnails."""

import math
from typing import Final

import numpy as np
from PIL import Image

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.png import Picture, check_pixels, encode_png
from tensorboard_sidecar.logger_service.rendering.theme import Pixels
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX, IMAGES_MAX

_GAP: Final = 2


def plain(image: Pixels) -> Picture:
    """Encode a picture unchanged: uint8 ``[H, W, C]`` with C of 1, 3 or 4."""
    return encode_png(image)


def grid(images: Pixels) -> Picture:
    """Encode pictures, uint8 ``[N, H, W, C]``, as a nearly square grid.

    If a side of the grid would exceed ``IMAGE_SIDE_MAX``, the pictures are reduced by averaging blocks of pixels.
    Raises Malformed or TooLarge for invalid pictures.
    """
    check_images(images)
    number, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(number))
    rows = -(-number // columns)
    # In addition to its own pixels, each picture may need a gap and, from rounding up, a pixel more.
    room = IMAGE_SIDE_MAX - (_GAP + 1) * columns
    factor = -(-columns * max(height, width) // room)
    tile_height, tile_width = -(-height // factor), -(-width // factor)
    shape = (rows * (tile_height + _GAP) - _GAP, columns * (tile_width + _GAP) - _GAP, channels)
    whole = np.full(shape, 255, np.uint8)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        y, x = row * (tile_height + _GAP), column * (tile_width + _GAP)
        whole[y : y + tile_height, x : x + tile_width] = _reduce(image, factor)
    return encode_png(whole)


def thumbnail(image: Pixels, side: int) -> Pixels:
    """Return RGB ``[H, W, 3]`` with no side longer than ``side``; transparent pixels lie on white.

    Large pictures are resampled. Small pictures are enlarged by a whole factor, so that single pixels stay sharp.
    """
    height, width, _ = image.shape
    longest = max(height, width)
    if longest <= side:
        factor = side // longest
        return _on_white(image).repeat(factor, axis=0).repeat(factor, axis=1)
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    return np.asarray(Image.fromarray(_on_white(image)).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def check_images(images: Pixels) -> None:
    """Raise Malformed or TooLarge unless ``images`` are valid pictures, uint8 ``[N, H, W, C]``."""
    if images.ndim != 4 or not images.size:
        raise Malformed(f"pictures of shape {images.shape}; expected uint8 [N, H, W, C] with N of 1 or more")
    if images.shape[0] > IMAGES_MAX:
        raise TooLarge("pictures", images.shape[0], IMAGES_MAX)
    check_pixels(images[0])


def _on_white(image: Pixels) -> Pixels:
    """Return a grey, RGB or RGBA picture as RGB, transparent pixels blended with white."""
    channels = image.shape[2]
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    if channels == 3:
        return np.ascontiguousarray(image)
    opacity = image[:, :, 3:].astype(np.uint16)
    blended = image[:, :, :3] * opacity + np.array(theme.PAPER, np.uint16) * (255 - opacity)
    return ((blended + 127) // 255).astype(np.uint8)


def _reduce(image: Pixels, factor: int) -> Pixels:
    """Average blocks of ``factor`` by ``factor`` pixels; sizes are rounded up."""
    if factor == 1:
        return image
    bands = image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image)
    reduced = np.asarray(Image.fromarray(bands).reduce(factor))
    return reduced.reshape(*reduced.shape[:2], image.shape[2])
