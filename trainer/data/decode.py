"""Decode the two files of a pair: a picture and a recording.

The files come from untrusted sources. Any error becomes an ``UnreadableError`` with the file's name; sizes are checked
before memory is allocated. Numbers of every depth come out at one scale, or the file is unreadable; docs/CONVERSIONS.md
lists the conversions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import numpy as np
import soundfile
import torch
from PIL import ExifTags, Image, ImageFile
from torch import Tensor

from tensorboard_sidecar.trainer.data import limits
from tensorboard_sidecar.trainer.data.resampling import RATE_HZ, resample

CROP_SHARE_MIN: Final = 0.9
"""A training crop keeps at least this share of the shorter side. Pictures are never mirrored: captions tell left from
right."""

BACKGROUND_RGB: Final = (255, 255, 255)
"""The colour behind transparent pixels."""

PEAK_MAX: Final = 2.0
"""Float samples up to this peak are a loud recording, and are clipped to -1..1. A larger peak is another scale, and
nothing in the file names that scale."""

_FORMATS: Final = ("JPEG", "PNG")
_TRANSPARENT_MODES: Final = ("LA", "PA", "RGBA")
_UINT16_MAX: Final = 65_535
# From a transparent colour, which Pillow leaves at the depth of the file, to the depth of Pillow's pixels, by raw mode.
_TO_PIXEL_DEPTH: Final = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}

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

    Samples of 16 bits become 8 bits, transparent pixels lie on white, and colour profiles are ignored. The crop is the
    largest centred square if ``crop_seed`` is None, otherwise a slightly smaller square at a random place drawn from
    that seed. Raises UnreadableError.
    """
    with _naming(path), Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > limits.IMAGE_MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels; at most {limits.IMAGE_MAX_PIXELS} are decoded")
        _scale_transparent_colour(image)
        image.draft("RGB", (2 * side_px, 2 * side_px))  # a JPEG decodes fast at 1/2, 1/4 or 1/8 of its size
        box = _square(image.width, image.height, crop_seed)
        square = _rgb(image).resize((side_px, side_px), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        turn = _turn(image)
        if turn is not None:
            square = square.transpose(turn)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    """Bring the transparent colour of a PNG file, which Pillow leaves at the file's depth, to the depth of the pixels.

    The file is not yet decoded: decoding forgets the raw mode.
    """
    raw_mode = image.tile[0][3] if image.tile else None
    scale = _TO_PIXEL_DEPTH.get(raw_mode) if isinstance(raw_mode, str) else None
    match image.info.get("transparency"):
        case int(grey) if scale:
            image.info["transparency"] = int(grey * scale)
        case (red, green, blue) if scale:
            image.info["transparency"] = tuple(int(part * scale) for part in (red, green, blue))


def _rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode of a JPEG or PNG file as RGB.

    Pillow takes every CMYK file as inverted, as Adobe's programs write them and browsers read them.
    """
    if image.mode.startswith("I"):
        image = _grey_of_8_bits(image)
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND_RGB, 255)), image)
    return image.convert("RGB")


def _grey_of_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits (mode I;16, or I in older versions of Pillow) with 8 bits, on white.

    Pillow's own conversion clips at 255, which leaves a picture nearly white.
    """
    grey = np.asarray(image).astype(np.uint32)
    scaled = (grey * 255 + _UINT16_MAX // 2) // _UINT16_MAX
    if isinstance(image.info.get("transparency"), int):
        scaled[grey == image.info["transparency"]] = BACKGROUND_RGB[0]
    return Image.fromarray(scaled.astype(np.uint8))


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
    """Return the first seconds, samples up to PEAK_MAX clipped to -1..1.

    Raises UnreadableError, also without samples, with NaN, with a larger peak, or at an extreme rate.
    """
    with _naming(path), soundfile.SoundFile(path) as file:
        rate_hz, channels = int(file.samplerate), int(file.channels)
        speech = limits.AUDIO_RATE_MIN_HZ <= rate_hz <= limits.AUDIO_RATE_MAX_HZ
        if not speech or channels > limits.AUDIO_CHANNELS_MAX:
            raise ValueError(f"{channels} channels at {rate_hz} Hz is no recording of speech")
        wanted = round(max_seconds * rate_hz)
        cut = file.frames > wanted
        channels_FC = file.read(wanted, dtype="float32", always_2d=True)
        if channels_FC.size == 0 or not np.isfinite(channels_FC).all():
            raise ValueError("no samples, or some that are not finite")
        peak = float(np.abs(channels_FC).max())
        if peak > PEAK_MAX:
            raise ValueError(
                f"{file.subtype} samples with a peak of {peak:,.1f}; expected -1..1 (other scales are unknown)"
            )
    samples = channels_FC.mean(axis=1)
    if rate_hz != RATE_HZ:
        samples = resample(samples.astype(np.float64), rate_hz, RATE_HZ).astype(np.float32)
    return Recording(torch.from_numpy(samples[: round(max_seconds * RATE_HZ)]).clamp_(-1, 1), cut)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any error of decoding into an UnreadableError with the file's name."""
    try:
        yield
    except Exception as error:  # on broken files decoders raise any type, IndexError and SyntaxError included
        raise UnreadableError(f"{path.name}: {str(error) or type(error).__name__}") from error
