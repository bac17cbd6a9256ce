"""Decode the two files of a pair: a picture and a recording.

The files come from untrusted sources. Any error becomes an ``UnreadableError`` with the file's name; sizes are checked
before memory is allocated.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from tensorboard_sidecar.trainer.data import limits

RATE_HZ: Final = 16_000
"""The sample rate of all returned waveforms."""

CROP_SHARE_MIN: Final = 0.9
"""A training crop keeps at least this share of the shorter side. Pictures are never mirrored: captions tell left from
right."""

_FORMATS: Final = ("JPEG", "PNG")

# The transposition for each value of the Exif orientation tag (Exif 2.32, table 4).
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
    """Return a square crop of the picture, uint8 [3, side_px, side_px] in RGB, upright by its Exif orientation.

    The crop is the largest centred square if ``crop_seed`` is None, otherwise a slightly smaller square at a random
    place drawn from that seed. Raises UnreadableError.
    """
    with _naming(path), Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > limits.IMAGE_MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels; at most {limits.IMAGE_MAX_PIXELS} are decoded")
        image.draft("RGB", (2 * side_px, 2 * side_px))  # a JPEG decodes fast at 1/2, 1/4 or 1/8 of its size
        box = _square(image.width, image.height, crop_seed)
        turn = _turn(image)
        square = image.convert("RGB").resize((side_px, side_px), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        if turn is not None:
            square = square.transpose(turn)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the picture upright, by its Exif orientation; None if there is none to do."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - decoders raise any type; a picture with broken Exif data is usable
        return None


def _square(width: int, height: int, crop_seed: int | None) -> tuple[float, float, float, float]:
    """Return the left, upper, right and lower edge of the crop in pixels."""
    side = float(min(width, height))
    x_share = y_share = 0.5
    if crop_seed is not None:
        random = Random(crop_seed)
        side *= random.uniform(CROP_SHARE_MIN, 1.0)
        x_share, y_share = random.random(), random.random()
    left, upper = (width - side) * x_share, (height - side) * y_share
    return left, upper, left + side, upper + side


class Recording(NamedTuple):
    """Sound: float32 [samples] in -1..1 at 16 kHz, channels averaged; ``cut`` tells whether the file is longer."""

    waveform: Tensor
    cut: bool


def read_recording(path: Path, max_seconds: float) -> Recording:
    """Return the first seconds. Raises UnreadableError, also without samples, with NaN, or at an extreme rate."""
    with _naming(path), soundfile.SoundFile(path) as file:
        rate_hz, channels = int(file.samplerate), int(file.channels)
        speech = limits.AUDIO_RATE_MIN_HZ <= rate_hz <= limits.AUDIO_RATE_MAX_HZ
        if not speech or channels > limits.AUDIO_CHANNELS_MAX:
            raise ValueError(f"{channels} channels at {rate_hz} Hz is no recording of speech")
        wanted = round(max_seconds * rate_hz)
        cut = file.frames > wanted
        samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        if samples.size == 0 or not np.isfinite(samples).all():
            raise ValueError("no samples, or some that are not finite")
    if rate_hz != RATE_HZ:
        samples = resample(samples.astype(np.float64), rate_hz, RATE_HZ).astype(np.float32)
    return Recording(torch.from_numpy(samples[: round(max_seconds * RATE_HZ)]), cut)


def resample(samples: NDArray[np.float64], from_hz: int, to_hz: int) -> NDArray[np.float64]:
    """Return the sound at ``to_hz``: its spectrum is cut, or extended with zeros, at the new Nyquist frequency.

    The sound is padded with silence to a length at which both rates have a whole number of samples. The result is
    therefore exact for any two rates, in O(n log n); a polyphase filter would grow with coprime rates.
    """
    common = math.gcd(from_hz, to_hz)
    block, new_block = from_hz // common, to_hz // common
    blocks = -(-len(samples) // block)
    if blocks == 0:
        return np.zeros(0)
    spectrum = np.fft.rfft(samples, blocks * block)[: blocks * min(block, new_block) // 2 + 1]
    resampled = np.fft.irfft(spectrum, blocks * new_block) * (new_block / block)
    return resampled[: -(-len(samples) * new_block // block)]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any error of decoding into an UnreadableError with the file's name."""
    try:
        yield
    except Exception as error:  # on broken files decoders raise any type, IndexError and SyntaxError included
        raise UnreadableError(f"{path.name}: {str(error) or type(error).__name__}") from error
