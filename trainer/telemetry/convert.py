"""From what people hold to what messages hold: pictures, clips and scalars of many types into the one that is sent.

Shape suffixes: N pictures, C channels, H height, W width, F frames.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from protocol.messages import ParameterValue

Scalar: TypeAlias = float | int | bool | Tensor | np.generic
ArrayLike: TypeAlias = Tensor | np.ndarray[Any, Any]

THUMBNAIL_SIDE_MAX: Final = 64
_LAYOUTS: Final = ("NCHW", "NHWC", "CHW", "HWC", "HW")
_is_cpu = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_item: Callable[[Any], Any] = Tensor.item


def host_scalars(values: Mapping[str, Scalar]) -> dict[str, float] | None:
    """Return the values as floats, or None when one of them is on a device (nothing is fetched then).

    Raises TypeError or ValueError for what is no single real number.
    """
    if len(values) == 1:  # as ``add_scalar`` calls it: setting up what follows would cost more than it saves
        [(tag, number)] = values.items()
        if isinstance(number, Tensor):
            if not number.is_cpu:
                return None
            number = number.item()
        return {tag: float(number)}
    numbers = values.values()
    types = set(map(type, numbers))
    if types == {Tensor}:
        if not all(map(_is_cpu, numbers)):
            return None
        # By item(): float() alone is slower, and warns of a tensor that is part of a graph.
        return dict(zip(values, map(float, map(_item, numbers)), strict=True))
    if not any(issubclass(kind, Tensor) for kind in types):
        return dict(zip(values, map(float, numbers), strict=True))
    if any(isinstance(number, Tensor) and not number.is_cpu for number in numbers):
        return None
    return {tag: float(number.item() if isinstance(number, Tensor) else number) for tag, number in values.items()}


def stack_scalars(values: Mapping[str, Scalar]) -> Tensor:
    """Return the values as one vector on the first device found among them; nothing waits."""
    tensors = {tag: as_tensor(value) for tag, value in values.items() if isinstance(value, Tensor)}
    device = next(tensor.device for tensor in tensors.values() if not tensor.is_cpu)
    return torch.stack(
        [
            torch.as_tensor(tensors.get(tag, value)).to(device, torch.float32, non_blocking=True).reshape(())
            for tag, value in values.items()
        ]
    )


def plain_parameters(values: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """Return parameters as they are sent, numpy's scalars as Python's. Raises TypeError for other types, naming one."""
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
    for key, value in plain.items():
        if not isinstance(key, str) or not isinstance(value, bool | int | float | str):
            raise TypeError(f"parameter {key!r:.80} is {value!r:.80}; expected a bool, int, float or text")
    return plain


def as_tensor(values: ArrayLike) -> Tensor:
    """Return a tensor without history, over the same memory where torch can use it. Raises TypeError when complex."""
    if isinstance(values, np.ndarray) and (min(values.strides, default=0) < 0 or not values.flags.writeable):
        values = values.copy()
    tensor = torch.as_tensor(values).detach()
    if tensor.is_complex():
        raise TypeError(f"a tensor of {tensor.dtype}; expected real numbers (give its abs(), real or imag)")
    return tensor


def pictures_to_uint8(images: ArrayLike, layout: str = "") -> Tensor:
    """Return uint8 ``[N, H, W, C]`` from dimensions in the order of ``layout`` ("": NCHW, CHW or HW, by their number).

    Floats are in 0..1 and clipped, NaN is 0, bools are black or white; integers are in 0..255. Raises ValueError for
    other shapes.
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
        # One new tensor, changed in place: what this takes from the training thread is mostly fresh memory.
        pictures = pictures.float().mul(255).nan_to_num_(0.0, 255.0, 0.0).round_().clamp_(0, 255)
    elif pictures.dtype != torch.uint8:
        pictures = pictures.clamp(0, 255)
    # Converts and transposes in one pass; ``to`` and ``contiguous`` are two.
    return torch.empty(pictures.shape, dtype=torch.uint8, device=pictures.device).copy_(pictures)


def thumbnails_to_uint8(images: ArrayLike) -> Tensor:
    """Return uint8 ``[N, H, W, 3]`` with sides of at most 64 pixels from ``[N, C, H, W]``."""
    pictures = pictures_to_uint8(images).permute(0, 3, 1, 2)[:, :3]
    largest = max(pictures.shape[2:])
    if largest > THUMBNAIL_SIDE_MAX:
        scale = THUMBNAIL_SIDE_MAX / largest
        size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
        pictures = interpolate(pictures.float(), size, mode="area").round().to(torch.uint8)
    return pictures.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()


def clip_to_int16(clip: ArrayLike) -> Tensor:
    """Return int16 ``[F, C]`` from ``[F]`` or ``[C, F]``; floats are in -1..1 and clipped.

    Raises ValueError for other shapes or dtypes.
    """
    sound = as_tensor(clip)
    sound = sound.unsqueeze(0) if sound.ndim == 1 else sound
    if sound.ndim != 2 or not (sound.is_floating_point() or sound.dtype == torch.int16):
        raise ValueError(f"a clip of {sound.dtype} {tuple(sound.shape)}; expected float or int16, [F] or [C, F]")
    if sound.is_floating_point():
        sound = sound.float().nan_to_num(0.0).clamp(-1, 1).mul(32767).round_().to(torch.int16)
    return sound.T.contiguous()
