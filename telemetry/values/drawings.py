"""Videos, and pictures with boxes: the training thread packs pixels, the logger draws and encodes.

Pixels have the scales of :func:`~tensorboard_sidecar.telemetry.values.arrays.pictures_to_uint8`.

Shape suffixes: N clips or pictures, T frames, H height, W width, C channels, K boxes.
"""

import math
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor

from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Boxes, Video
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.values import fit
from tensorboard_sidecar.telemetry.values.arrays import Note, as_tensor, pictures_to_uint8, to_float32
from tensorboard_sidecar.telemetry.values.drafts import Draft
from tensorboard_sidecar.telemetry.values.fit import ITEMS_SIZE_MAX_BYTES, Cut
from tensorboard_sidecar.telemetry.values.python_values import on_host

_VIDEO_LETTERS: Final = "NTCHW"
# The least that a frame has to keep: a longer video loses frames at its end.
_FRAME_SIZE_MIN_BYTES: Final = 2**10
_GRID_COLUMNS: Final = 8
# 49 * (1 / 49) is less than 1.
_MORE: Final = 1 + 1e-9


def video(
    tag: str, frames: Any, fps: Any, dataformats: Any, note: Note, size_max_bytes: int = ITEMS_SIZE_MAX_BYTES
) -> Draft:
    """Return the draft of a video, ``frames [N, T, C, H, W]`` or the order of letters that ``dataformats`` says.

    A video that is too large for a record is reduced by blocks, as pictures are; a video that is too long loses frames
    at its end. Raises TypeError or ValueError for other shapes and for no frames a second.
    """
    rate = _positive("fps", fps)
    if rate > limits.VIDEO_RATE_MAX_HZ:
        note(Cut("fps", f"{tag!r:.80}: {rate:g} frames a second; {limits.VIDEO_RATE_MAX_HZ:,} are shown"))
    letters = str(dataformats).upper()
    given = as_tensor(frames)
    if sorted(letters) != sorted(_VIDEO_LETTERS) or given.ndim != len(letters) or not given.numel():
        raise ValueError(
            f"{tag!r:.80}: frames of shape {tuple(given.shape)}, dataformats {letters!r:.20}; expected the five"
            f" letters {_VIDEO_LETTERS} in any order"
        )
    given = given.permute([letters.index(letter) for letter in _VIDEO_LETTERS])
    given = _first(tag, "clips", given, 0, limits.VIDEO_CLIPS_MAX, note)
    frames_max = min(limits.VIDEO_FRAMES_MAX, size_max_bytes // _FRAME_SIZE_MIN_BYTES // len(given))
    given = _first(tag, "frames", given, 1, frames_max, note)
    clips, length = given.shape[:2]
    pixels = pictures_to_uint8(given.reshape(-1, *given.shape[2:]), "NCHW", note)
    pixels = fit.pictures(
        tag,
        pixels,
        note,
        side_max=limits.IMAGE_SIDE_MAX // math.ceil(math.sqrt(2 * clips)),
        size_max_bytes=size_max_bytes // (clips * length),
    )
    frames_NTHWC = pixels.reshape(clips, length, *pixels.shape[1:])
    return Draft(
        Kind.VIDEO,
        [frames_NTHWC],
        lambda arrays: Video(tag, pack_array(arrays[0]), min(rate, limits.VIDEO_RATE_MAX_HZ)),
    )


def boxes(tag: str, picture: Any, corners: Any, labels: Any, scale: Any, layout: str, note: Note) -> Draft:
    """Return the draft of a picture with boxes ``[K, 4]``: left, top, right and bottom in pixels.

    Several pictures become a grid of eight columns, and the boxes lie in the grid. ``labels`` is None or has a text for
    each box; other numbers of labels are left out. Raises TypeError or ValueError for other shapes and scales.
    """
    given = _positive("rescale", scale)
    pixels = pictures_to_uint8(picture, layout, note)
    pixels = _grid(pixels) if len(pixels) > 1 else pixels
    drawn = fit.pictures(tag, pixels, note)
    sides = drawn.shape[1:3]
    factor = min(max(given, _MORE / min(sides)), limits.IMAGE_SIDE_MAX / _MORE / max(sides))
    if factor != given:
        note(
            Cut(
                "rescale",
                f"{tag!r:.80}: {given:g} becomes {factor:g}; a side has 1 to {limits.IMAGE_SIDE_MAX:,} pixels",
            )
        )
    corners_K4 = to_float32(as_tensor(corners))
    if corners_K4.ndim == 1 and corners_K4.numel() in (0, 4):
        corners_K4 = corners_K4.reshape(-1, 4)
    if corners_K4.ndim != 2 or corners_K4.shape[1] != 4:
        raise ValueError(
            f"{tag!r:.80}: boxes of shape {tuple(corners_K4.shape)}; expected [number, 4]: left, top, right, bottom"
        )
    if drawn.shape != pixels.shape:
        across, down = drawn.shape[2] / pixels.shape[2], drawn.shape[1] / pixels.shape[1]
        left, top, right, bottom = corners_K4.unbind(1)  # a tensor of factors would wait for its copy to the device
        corners_K4 = torch.stack((left * across, top * down, right * across, bottom * down), dim=1)
    texts = _labels(labels, len(corners_K4), note)[: limits.BOXES_MAX]
    return Draft(
        Kind.BOXES,
        [drawn[0], _first(tag, "boxes", corners_K4, 0, limits.BOXES_MAX, note)],
        lambda arrays: Boxes(tag, pack_array(arrays[0]), pack_array(arrays[1]), texts, factor),
    )


def _first(tag: str, name: str, given: Tensor, dimension: int, number_max: int, note: Note) -> Tensor:
    """Return the first ``number_max`` of a dimension."""
    number = given.shape[dimension]
    if number <= number_max:
        return given
    note(Cut(name, f"{tag!r:.80}: the first {number_max:,} of {number:,} {name} are kept"))
    return given.narrow(dimension, 0, number_max)


def _labels(labels: Any, number: int, note: Note) -> list[str]:
    if labels is None:
        return []
    given = [labels] if isinstance(labels, str) else list(islice(labels, number + 1))
    if len(given) != number:
        note(Cut("labels", f"are left out: their number is not that of the {number:,} boxes"))
        return []
    return fit.captions(given, number, "boxes", note)


def _grid(pictures_NHWC: Tensor) -> Tensor:
    """Return pictures as one picture ``[1, H, W, C]`` of at most eight columns, with black behind the last."""
    number, height, width, channels = pictures_NHWC.shape
    columns = min(number, _GRID_COLUMNS)
    rows = -(-number // columns)
    cells = pictures_NHWC.new_zeros((rows * columns, height, width, channels))
    cells[:number] = pictures_NHWC
    lines = cells.reshape(rows, columns, height, width, channels).transpose(1, 2)
    return lines.reshape(1, rows * height, columns * width, channels)


def _positive(name: str, value: Any) -> float:
    number = float(on_host(name, value))
    if not 0 < number < math.inf:
        raise ValueError(f"{name} {value!s:.40}; expected a number above 0")
    return number
