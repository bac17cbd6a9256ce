"""Decode the two kinds of file a pair is made of: a picture and a recording.

The files are anybody's. Whatever is wrong with one becomes an `UnreadableError` that names it; sizes are checked
before anything is allocated for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import numpy as np
import soundfile
import torch
from PIL import ExifTags, Image
from torch import Tensor

from tensorboard_sidecar.trainer.data.limits import (
    AUDIO_CHANNELS_MAX,
    AUDIO_RATE_MAX_HZ,
    AUDIO_RATE_MIN_HZ,
    IMAGE_MAX_PIXELS,
)
from tensorboard_sidecar.trainer.data.resample import resample

RATE_HZ: Final = 16_000
"""The sample rate of every waveform handed out."""

CROP_SHARE_MIN: Final = 0.9
"""A training crop keeps at least this much of the shorter side; pictures are never mirrored, for captions say
what is left of what."""

_FORMATS: Final = ("JPEG", "PNG")

# By the number that Exif 2.32, table 4, gives to where row and column 0 of the stored picture belong.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableError(ValueError):
    """A file cannot be decoded; the message names the file and the reason."""


def read_picture(path: Path, side_px: int, crop_seed: int | None) -> Tensor:
    """Return a square part of the picture, uint8 [3, side_px, side_px] in RGB.

    The whole middle square if `crop_seed` is None, else a slightly smaller one at a place drawn from that seed; turned
    as the camera says that it was held. Raises UnreadableError.
    """
    with _naming(path), Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > IMAGE_MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels; at most {IMAGE_MAX_PIXELS} are decoded")
        image.draft("RGB", (2 * side_px, 2 * side_px))  # JPEG decodes at a half, a quarter ... for little work
        box = _square(image.width, image.height, crop_seed)
        size = (side_px, side_px)
        turn = _turn(image)
        square = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        if turn is not None:
            square = square.transpose(turn)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what brings the picture upright, None for nothing: most cameras store it as it fell on the sensor."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - decoders raise nearly anything; a picture with broken notes is a picture
        return None


def _square(width: int, height: int, crop_seed: int | None) -> tuple[float, float, float, float]:
    """Return left, upper, right and lower edge of the square to keep, in pixels."""
    side = float(min(width, height))
    x_share = y_share = 0.5
    if crop_seed is not None:
        random = Random(crop_seed)
        side *= random.uniform(CROP_SHARE_MIN, 1.0)
        x_share, y_share = random.random(), random.random()
    left, upper = (width - side) * x_share, (height - side) * y_share
    return left, upper, left + side, upper + side


class Recording(NamedTuple):
    """Sound: float32 [samples] in -1..1 at 16 kHz, channels averaged; `cut` tells whether the file goes on."""

    waveform: Tensor
    cut: bool


def read_recording(path: Path, max_seconds: float) -> Recording:
    """Return the recording's first `max_seconds`.

    Raises UnreadableError, also for a recording that is empty, not finite, or of an absurd rate.
    """
    with _naming(path), soundfile.SoundFile(path) as file:
        rate_hz, channels = int(file.samplerate), int(file.channels)
        if not AUDIO_RATE_MIN_HZ <= rate_hz <= AUDIO_RATE_MAX_HZ or channels > AUDIO_CHANNELS_MAX:
            raise ValueError(f"{channels} channels at {rate_hz} Hz is no recording of speech")
        wanted = round(max_seconds * rate_hz)
        cut = file.frames > wanted
        samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        if samples.size == 0 or not np.isfinite(samples).all():
            raise ValueError("no samples, or some that are not finite")
    if rate_hz != RATE_HZ:
        samples = resample(samples.astype(np.float64), rate_hz, RATE_HZ).astype(np.float32)
    return Recording(torch.from_numpy(samples[: round(max_seconds * RATE_HZ)]), cut)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever decoding raises into an UnreadableError with the file's name."""
    try:
        yield
    except Exception as error:  # on broken files decoders raise nearly anything, IndexError and SyntaxError included
        raise UnreadableError(f"{path.name}: {str(error) or type(error).__name__}") from error
