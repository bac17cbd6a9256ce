"""Arrays of users to arrays of messages: tensors, matrices, pictures and clips of many dtypes to the dtype sent.

Every number has a known scale. A conversion scales the number, or clips the number and notes that, or refuses the
array; docs/CONVERSIONS.md lists the conversions. Notes are about values in host memory, because reading a value on a
device would wait for the device. A scale that depends on values on a device is computed on the device.

Shape suffixes: N pictures, C channels, H height, W width, F frames.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tensorboard_sidecar.protocol.limits import AUDIO_CHANNELS_MAX

ArrayLike: TypeAlias = Tensor | np.ndarray[Any, Any]
Note: TypeAlias = Callable[[Exception], None]
"""Receives an error about values that are kept, but not as given."""

THUMBNAIL_SIDE_MAX: Final = 64
# Colour ranges that float16 resolves: smaller ones come near its smallest step, 6e-8, larger ones near its largest
# number, 65,504.
_HALF_RANGE_MIN: Final = 2**-8
_HALF_RANGE_MAX: Final = 1024.0
_LAYOUTS: Final = {4: "NCHW", 3: "CHW", 2: "HW"}
_CHANNELS_MAX: Final = 4
# Floats may exceed their range by this much without a note: bicubic resizing and resampling overshoot by a tenth.
_OVERSHOOT: Final = 0.125
# Integers below this are nearly black among 0..255.
_DARK: Final = 32
_UINT16_MAX: Final = 65_535
_INT32_MAX: Final = 2**31 - 1
# torch 2.4 has no float8_e8m0fnu.
_FLOAT8: Final = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
_DTYPES: Final = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(getattr(torch, name) for name in _FLOAT8 if hasattr(torch, name)),
}
_NUMPY_DTYPES: Final = {
    np.dtype(name) for name in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
}
_SOUND_DTYPES: Final = (torch.uint8, torch.int8, torch.int16, torch.int32)
# The modes of Pillow whose samples are grey, grey with alpha, RGB or RGBA; images of other modes are converted.
_PLAIN_MODES: Final = {"1", "L", "LA", "I", "F", "RGB", "RGBA", "I;16", "I;16L", "I;16B", "I;16N"}
_TRANSPARENT_MODES: Final = {"La", "PA", "RGBa"}


class PillowImage(Protocol):
    """An image of Pillow."""

    mode: str

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Pictures: TypeAlias = ArrayLike | PillowImage | Sequence[ArrayLike | PillowImage]


class OutOfScale(ValueError):
    """Values that are kept, but clipped or hardly visible, because their scale is not the expected scale."""


def _ignore(_error: Exception) -> None:
    """Note nothing."""


def as_tensor(values: ArrayLike) -> Tensor:
    """Return a tensor without gradient history, which shares the memory of ``values`` where torch can use that memory.

    Raises TypeError for a value that is no dense tensor or array of real numbers.
    """
    if not isinstance(values, Tensor):
        values = _from_numpy(values)
    if values.layout is not torch.strided or values.is_nested or values.is_quantized:
        raise TypeError(f"a tensor of {values.dtype}, sparse, nested or quantized; expected a dense tensor")
    if values.dtype not in _DTYPES:
        if "complex" in str(values.dtype):
            raise TypeError(f"a tensor of {values.dtype}; expected real numbers (give its abs(), real or imag)")
        raise TypeError(f"a tensor of {values.dtype}; expected bools, or integers or floats of 8 bits or more")
    return values.detach().resolve_neg()


def matrix_to_floats(values: ArrayLike, value_range: tuple[float, float] | None) -> Tensor:
    """Return a matrix as float16 where float16 distinguishes all colours of ``value_range``, otherwise as float32.

    float16 divides a range that starts at 0 into at least 2,048 steps, a range far from 0 into fewer, and has no step
    below 6e-8. A float64 matrix becomes float32. A finite number too large for the result's dtype becomes the dtype's
    largest number.
    """
    matrix = as_tensor(values)
    half = value_range is not None and matrix.dtype != torch.float64 and _is_fine_in_float16(*value_range)
    if not half:
        return to_float32(matrix)
    if matrix.dtype == torch.float16:
        return matrix
    return _keep_finite(matrix.to(torch.float32), torch.float16).to(torch.float16)


def to_float32(values: Tensor) -> Tensor:
    """Return numbers of any dtype as float32; a finite number too large for float32 becomes its largest number."""
    return (_keep_finite(values, torch.float32) if values.dtype == torch.float64 else values).to(torch.float32)


def pictures_to_uint8(images: Pictures, layout: str = "", note: Note = _ignore) -> Tensor:
    """Return pictures as uint8 ``[N, H, W, C]`` with C of 1, 3 or 4.

    ``images`` is a tensor, an array or an image of Pillow, or a list of pictures with one shape and dtype. ``layout``
    names the dimensions in any order: H and W, with N and C where they are. The default is NCHW, CHW or HW, by the
    number of dimensions, for each picture of a list. Images of Pillow need no layout. Two channels are grey and alpha,
    and become RGBA.

    Floats are in 0..1, uint16 in 0..65535, other integers in 0..255. A mask, bools or integers (except uint8) of 0 and
    1 only, becomes black and white. Values beyond are clipped, NaN becomes 0, and ``note`` gets an OutOfScale. Raises
    ValueError for a shape that does not fit the layout, TypeError for a dtype without a scale.
    """
    pictures, letters = _name_dimensions(images, layout.upper())
    shape = tuple(pictures.shape)
    if len(letters) != len(shape) or len({*letters}) != len(letters) or not {*"HW"} <= {*letters} <= {*"NCHW"}:
        raise ValueError(
            f"pictures of shape {shape}, layout {layout!r}; expected one letter a dimension, of H, W and perhaps N, C"
            " (default: NCHW, CHW or HW)"
        )
    channels = shape[letters.index("C")] if "C" in letters else 1
    if not pictures.numel() or channels > _CHANNELS_MAX:
        raise ValueError(
            f"pictures of shape {shape}, layout {letters}; expected pixels with 1 to 4 channels (last: NHWC or HWC)"
        )
    pictures = _byte_scale(pictures, note).permute([letters.index(letter) for letter in "NHWC" if letter in letters])
    pictures = pictures if "N" in letters else pictures.unsqueeze(0)
    pictures = pictures if "C" in letters else pictures.unsqueeze(-1)
    made = torch.empty(pictures.shape, dtype=torch.uint8, device=pictures.device)
    if pictures.is_contiguous():
        made.copy_(pictures)
    else:
        # Plane by plane: a single copy that converts and transposes takes torch twice as long.
        for made_plane, plane in zip(made.unbind(-1), pictures.unbind(-1), strict=True):
            made_plane.copy_(plane)
    if channels == 2:
        made = torch.cat((made[..., :1].expand(-1, -1, -1, 3), made[..., 1:]), dim=-1)
    return made


def thumbnails_to_uint8(images: Pictures, note: Note = _ignore) -> Tensor:
    """Return thumbnails, uint8 ``[N, H, W, 3]`` with at most 64 pixels a side, of pictures ``[N, C, H, W]``.

    Transparent pixels lie on white.
    """
    pictures = pictures_to_uint8(images, note=note)
    if pictures.shape[-1] == _CHANNELS_MAX:
        opacity = pictures[..., 3:].int()
        blended = (pictures[..., :3] * opacity).add_(255 * (255 - opacity)).add_(127)
        pictures = blended.div_(255, rounding_mode="floor").to(torch.uint8)
    pictures = pictures.permute(0, 3, 1, 2)
    largest = max(pictures.shape[2:])
    if largest > THUMBNAIL_SIDE_MAX:
        scale = THUMBNAIL_SIDE_MAX / largest
        size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
        pictures = interpolate(pictures.float(), size, mode="area").round().to(torch.uint8)
    return pictures.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()


def clip_to_int16(clip: ArrayLike, note: Note = _ignore) -> Tensor:
    """Return a clip as int16 ``[F, C]``; ``clip`` is ``[F]`` or ``[C, F]`` with at most 8 channels.

    A clip of more than 8 rows and at most 8 columns is ``[F, C]``. Floats are in -1..1 and clipped, NaN becomes 0, and
    ``note`` gets an OutOfScale. int8, int16 and int32 have full scale; uint8 has full scale around 128. Raises
    ValueError for another shape or dtype.
    """
    sound = as_tensor(clip)
    shape = tuple(sound.shape)
    if sound.ndim == 1 or (sound.ndim > 2 and sound.numel() == max(shape) > 1):  # torch's writer drops sides of 1 too
        sound = sound.reshape(1, -1)
    if sound.ndim == 2 and len(sound) > AUDIO_CHANNELS_MAX >= sound.shape[1]:
        sound = sound.T
    if sound.ndim != 2 or len(sound) > AUDIO_CHANNELS_MAX:
        raise ValueError(f"a clip of shape {shape}; expected [F] or [C, F], with C up to {AUDIO_CHANNELS_MAX}")
    if not sound.is_floating_point() and sound.dtype not in _SOUND_DTYPES:
        raise ValueError(f"a clip of {sound.dtype}, which has no scale; expected float or int16, int32, int8 or uint8")
    return _sound_scale(sound, note).T.contiguous()


def _from_numpy(values: Any) -> Tensor:
    """Return an array, or a list that numpy makes an array of, as a tensor.

    Numpy rejects a list of device tensors; torch would fetch each tensor and wait for the device. Torch takes arrays in
    writeable memory, in the machine's byte order, with strides of whole elements from 0 up; other arrays are copied.
    """
    if type(values) is np.ndarray and values.flags.carray and values.dtype in _NUMPY_DTYPES:
        return torch.from_numpy(values)
    if values is None:
        raise TypeError("None; expected a tensor or an array")
    if np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        raise TypeError("a masked array, whose hidden values have no meaning; give its filled() or compressed()")
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise TypeError(f"an array of {array.dtype}; expected real numbers (give its abs(), real or imag)")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of numpy.{array.dtype.type.__name__}; expected bools, integers or floats")
    native = array.dtype.newbyteorder("=")
    if native.itemsize > np.dtype(np.float64).itemsize:
        native = np.dtype(np.float64)
    usual = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    if native != array.dtype or not usual or not array.flags.writeable or not array.flags.aligned:
        with np.errstate(over="ignore"):  # long doubles beyond float64 become infinite
            array = np.array(array, native, order="C")
    return torch.as_tensor(array, device="cpu")


def _name_dimensions(images: Any, layout: str) -> tuple[Tensor, str]:
    """Return pictures as one tensor, with a letter for each dimension; wrong letters as given."""
    if isinstance(images, list | tuple) and images and all(map(_is_picture, images)):
        return _stack(images, layout)
    if _is_pillow(images):
        pixels = as_tensor(_plain_pillow(images))
        return pixels, "HWC"[: pixels.ndim]
    pictures = as_tensor(images)
    return pictures, layout or _LAYOUTS.get(pictures.ndim, "")


def _stack(images: Sequence[Any], layout: str) -> tuple[Tensor, str]:
    """Return a list of pictures as one tensor, with a letter for each dimension.

    ``layout`` names the dimensions of a picture, or, when it has a letter more, the dimensions of the stack.
    """
    named = [_name_dimensions(image, "") for image in images]
    kinds = {(str(picture.dtype), tuple(picture.shape), letters) for picture, letters in named}
    if len(kinds) > 1:
        found = ", ".join(f"{dtype} {shape}" for dtype, shape, _ in sorted(kinds))
        raise ValueError(f"a list of unequal pictures, {found:.200}; expected one dtype and one shape")
    stack, letters = torch.stack([picture for picture, _ in named]), named[0][1]
    if layout and not _is_pillow(images[0]):
        letters = layout if len(layout) == stack.ndim else f"N{layout}"
    return stack, letters if len(letters) == stack.ndim else f"N{letters}"


def _is_picture(value: Any) -> bool:
    return (isinstance(value, Tensor | np.ndarray) and value.ndim > 1) or _is_pillow(value)


def _is_pillow(value: Any) -> bool:
    """Tell whether a value is an image of Pillow, which this package does not need."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _plain_pillow(image: Any) -> Any:
    """Return an image of Pillow as grey or RGB, with alpha where it has transparency: no palette, CMYK or YCbCr."""
    if "transparency" in image.info or image.mode in _TRANSPARENT_MODES:
        return image.convert("RGBA")
    return image if image.mode in _PLAIN_MODES else image.convert("RGB")


def _keep_finite(floats: Tensor, dtype: torch.dtype) -> Tensor:
    """Return floats without finite numbers that become infinite in ``dtype``."""
    limit = torch.finfo(dtype).max
    return floats.where(floats.isinf(), floats.clamp(-limit, limit))


def _byte_scale(pictures: Tensor, note: Note) -> Tensor:
    """Return pictures of any dtype with values that truncate to uint8."""
    if pictures.dtype == torch.bool:
        return pictures.to(torch.uint8).mul_(255)
    if pictures.dtype == torch.uint8:
        if _on_host(pictures) and _is_mask(pictures):
            note(OutOfScale("uint8 pictures: only 0 and 1 of 255, which is black; give a mask as bool"))
        return pictures
    if pictures.is_floating_point():
        return _floats_byte_scale(pictures.float(), note)
    if _on_host(pictures):
        return _integers_byte_scale(pictures, note)
    floats = pictures.float()
    low, high = floats.aminmax()
    usual = 255 / _UINT16_MAX if pictures.dtype == torch.uint16 else 1.0
    scale = torch.where((low >= 0) & (high <= 1), 255.0, usual)
    return floats.mul_(scale).add_(0.5).clamp_(0, 255)


def _floats_byte_scale(floats: Tensor, note: Note) -> Tensor:
    """Return floats in 0..1 as floats in 0..255, half a step higher, so that truncating rounds."""
    half = torch.tensor(0.5, device="cpu")
    made = torch.add(half, floats, alpha=255)  # one new tensor: allocating memory is most of the cost
    if not _on_host(floats):
        return made.nan_to_num_(0.0, 255.0, 0.0).clamp_(0, 255)
    low, high = _extent(floats)
    if 0 <= low <= high <= 1:
        return made
    if math.isnan(low):
        made.nan_to_num_(0.0, 255.0, 0.0)
    _note_range("pictures", floats, (0, 1), note)
    return made.clamp_(0, 255)


def _integers_byte_scale(pictures: Tensor, note: Note) -> Tensor:
    """Return integers in host memory with values that truncate to uint8."""
    name = str(pictures.dtype).removeprefix("torch.")
    low, high = _extent(pictures)
    if low >= 0 and high <= 1:
        return pictures.to(torch.uint8).mul_(255)
    full = _UINT16_MAX if pictures.dtype == torch.uint16 else 255
    if low >= 0 and high < _DARK * full // 255:
        note(OutOfScale(f"{name} pictures: values up to {high:.0f} of {full}, which is nearly black"))
    if full == _UINT16_MAX:
        return pictures.float().mul_(255 / full).add_(0.5)
    if low >= 0 and high <= full:
        return pictures
    note(OutOfScale(f"{name} pictures: values from {low:.0f} to {high:.0f}; expected 0..255; clipped"))
    return pictures.float().clamp_(0, full)  # torch's clamp supports no unsigned dtype but uint8


def _sound_scale(sound: Tensor, note: Note) -> Tensor:
    """Return sound of a dtype with a scale as int16."""
    if sound.is_floating_point():
        floats = sound.float()
        _note_range("sound", floats, (-1, 1), note)
        return floats.nan_to_num(0.0).clamp(-1, 1).mul(32767).round_().to(torch.int16)
    if sound.dtype == torch.int32:
        low, high = _extent(sound) if _on_host(sound) else (0, _INT32_MAX)
        if 0 < max(-low, high) <= _UINT16_MAX:
            note(OutOfScale(f"int32 sound: a peak of {max(-low, high):.0f} of {_INT32_MAX}, which nobody hears"))
        return sound.bitwise_right_shift(16).to(torch.int16)
    if sound.dtype == torch.int16:
        return sound
    return (sound.to(torch.int16) - (128 if sound.dtype == torch.uint8 else 0)) * 256


def _note_range(name: str, floats: Tensor, ends: tuple[int, int], note: Note) -> None:
    """Note floats in host memory beyond a range, and NaN."""
    if not _on_host(floats):
        return
    low, high = _extent(floats)
    if math.isnan(low):
        nans = floats.isnan()
        note(OutOfScale(f"{name} of floats: NaN ({int(nans.sum()):,} of {nans.numel():,} values), kept as 0"))
        low, high = _extent(floats[~nans])
    if low < ends[0] - _OVERSHOOT or high > ends[1] + _OVERSHOOT:
        expected = "..".join(map(str, ends))
        note(OutOfScale(f"{name} of floats: values from {low:.4g} to {high:.4g}; expected {expected}; clipped"))


def _extent(values: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value in host memory, NaN when any is NaN; (0, 0) without values."""
    if not values.numel():
        return 0, 0
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch finds no extremes of these
        array = values.numpy()
        return int(array.min()), int(array.max())
    low, high = values.aminmax()
    return low.item(), high.item()


def _on_host(values: Tensor) -> bool:
    """Tell whether values can be read without waiting for a device."""
    return values.is_cpu


def _is_mask(pictures: Tensor) -> bool:
    """Tell whether the largest value of uint8 pictures in host memory is 1; a line of pixels decides nearly always."""
    array = pictures.numpy()
    return bool(array[(0,) * (array.ndim - 1)].max() <= 1 and array.max() == 1)


def _is_fine_in_float16(low: float, high: float) -> bool:
    """Tell whether the steps between float16 numbers are smaller than a 500th of the range."""
    largest = max(abs(low), abs(high))
    return high - low >= max(_HALF_RANGE_MIN, largest / 2) and largest <= _HALF_RANGE_MAX
