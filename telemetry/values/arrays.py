"""Arrays of users to arrays of messages: tensors, matrices, pictures and clips of many dtypes to the dtype sent.

Shape suffixes: N pictures, C channels, H height, W width, F frames.
"""

from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

ArrayLike: TypeAlias = Tensor | np.ndarray[Any, Any]

THUMBNAIL_SIDE_MAX: Final = 64
# Colour ranges that float16 resolves: smaller ones come near its smallest step, 6e-8, larger ones near its largest
# number, 65,504.
_HALF_RANGE_MIN: Final = 2**-8
_HALF_RANGE_MAX: Final = 1024.0
_LAYOUTS: Final = ("NCHW", "NHWC", "CHW", "HWC", "HW")


def as_tensor(values: ArrayLike) -> Tensor:
    """Return a tensor without gradient history, which shares the memory of ``values`` where torch can use that memory.

    Raises TypeError for a value that is no dense tensor or array of real numbers.
    """
    if not isinstance(values, Tensor):
        if values is None:
            raise TypeError("None; expected a tensor or an array")
        # Through numpy, which rejects a list of device tensors; torch would fetch each tensor and wait for the device.
        array = np.asarray(values)
        if min(array.strides, default=0) < 0 or not array.flags.writeable:
            array = array.copy()
        values = torch.as_tensor(array, device="cpu")
    if values.layout is not torch.strided or values.is_nested or values.is_quantized:
        raise TypeError(f"a tensor of {values.dtype}, sparse, nested or quantized; expected a dense tensor")
    if values.is_complex():
        raise TypeError(f"a tensor of {values.dtype}; expected real numbers (give its abs(), real or imag)")
    return values.detach().resolve_neg()


def matrix_to_floats(values: ArrayLike, value_range: tuple[float, float] | None) -> Tensor:
    """Return a matrix as float16 where float16 distinguishes all colours of ``value_range``, otherwise as float32.

    float16 divides a range that starts at 0 into at least 2,048 steps, a range far from 0 into fewer, and has no step
    below 6e-8. A float64 matrix becomes float32. A finite number too large for the result's dtype becomes the dtype's
    largest number.
    """
    matrix = as_tensor(values)
    half = value_range is not None and matrix.dtype != torch.float64 and _is_fine_in_float16(*value_range)
    dtype = torch.float16 if half else torch.float32
    if matrix.dtype not in (dtype, torch.float64):
        matrix = matrix.to(torch.float32)
    limit = torch.finfo(dtype).max
    if torch.finfo(matrix.dtype).max > limit:
        matrix = matrix.where(matrix.isinf(), matrix.clamp(-limit, limit))
    return matrix.to(dtype)


def pictures_to_uint8(images: ArrayLike, layout: str = "") -> Tensor:
    """Return pictures as uint8 ``[N, H, W, C]``; ``layout`` names the dimensions of ``images``.

    The default layout is NCHW, CHW or HW, by the number of dimensions. Floats are in 0..1 and clipped, NaN becomes 0,
    bools become 0 or 255, integers are clipped to 0..255. Raises ValueError for a shape that does not fit the layout.
    """
    pictures = as_tensor(images)
    layout = layout or {4: "NCHW", 3: "CHW", 2: "HW"}.get(pictures.ndim, "")
    if layout not in _LAYOUTS or len(layout) != pictures.ndim:
        raise ValueError(
            f"pictures of shape {tuple(pictures.shape)}, layout {layout!r}; expected {', '.join(_LAYOUTS)}"
        )
    pictures = pictures.permute([layout.index(dimension) for dimension in "NHWC" if dimension in layout])
    pictures = pictures if "N" in layout else pictures.unsqueeze(0)
    pictures = pictures if "C" in layout else pictures.unsqueeze(-1)
    if pictures.is_floating_point() or pictures.dtype == torch.bool:
        # One new tensor, changed in place: allocating memory is most of the cost. Adding 0.5 turns the truncating
        # conversion to uint8 into rounding.
        half = torch.tensor(0.5, device="cpu")
        pictures = torch.add(half, pictures.float(), alpha=255).nan_to_num_(0.0, 255.0, 0.0).clamp_(0, 255)
    elif pictures.dtype != torch.uint8:
        pictures = pictures.float().clamp_(0, 255)  # torch's clamp supports no unsigned dtype but uint8
    made = torch.empty(pictures.shape, dtype=torch.uint8, device=pictures.device)
    if pictures.is_contiguous():
        return made.copy_(pictures)
    # Plane by plane: a single copy that converts and transposes takes torch twice as long.
    for made_plane, plane in zip(made.unbind(-1), pictures.unbind(-1), strict=True):
        made_plane.copy_(plane)
    return made


def thumbnails_to_uint8(images: ArrayLike) -> Tensor:
    """Return thumbnails, uint8 ``[N, H, W, 3]`` with at most 64 pixels a side, of pictures ``[N, C, H, W]``."""
    pictures = pictures_to_uint8(images).permute(0, 3, 1, 2)[:, :3]
    largest = max(pictures.shape[2:])
    if largest > THUMBNAIL_SIDE_MAX:
        scale = THUMBNAIL_SIDE_MAX / largest
        size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
        pictures = interpolate(pictures.float(), size, mode="area").round().to(torch.uint8)
    return pictures.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()


def clip_to_int16(clip: ArrayLike) -> Tensor:
    """Return a clip as int16 ``[F, C]``; ``clip`` is ``[F]`` or ``[C, F]``, int16 or floats in -1..1 (clipped).

    Raises ValueError for another shape or dtype.
    """
    sound = as_tensor(clip)
    sound = sound.unsqueeze(0) if sound.ndim == 1 else sound
    if sound.ndim != 2 or not (sound.is_floating_point() or sound.dtype == torch.int16):
        raise ValueError(f"a clip of {sound.dtype} {tuple(sound.shape)}; expected float or int16, [F] or [C, F]")
    if sound.is_floating_point():
        sound = sound.float().nan_to_num(0.0).clamp(-1, 1).mul(32767).round_().to(torch.int16)
    return sound.T.contiguous()


def _is_fine_in_float16(low: float, high: float) -> bool:
    """Tell whether the steps between float16 numbers are smaller than a 500th of the range."""
    largest = max(abs(low), abs(high))
    return high - low >= max(_HALF_RANGE_MIN, largest / 2) and largest <= _HALF_RANGE_MAX
