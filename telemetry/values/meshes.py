"""Meshes and point clouds of users to messages.

Shape suffixes: B meshes, N vertices, F faces.
"""

import json
from typing import Any

import torch
from torch import Tensor

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.limits import LABEL_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import Mesh
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.values.arrays import Note, as_tensor, to_float32
from tensorboard_sidecar.telemetry.values.drafts import Arrays, Draft
from tensorboard_sidecar.telemetry.values.fit import Cut


def mesh(tag: str, vertices: Any, colors: Any, faces: Any, config: Any, note: Note) -> Draft:
    """Return the draft of meshes: ``vertices [B, N, 3]``, and ``colors [B, N, 3]`` and ``faces [B, F, 3]`` or None.

    An array of two dimensions is one mesh. Integer colours are in 0..255, floats in 0..1, or in 0..255 when any is
    above 1. ``config`` is None or a mapping for the scene; another value is left out and noted. Raises TypeError or
    ValueError for other shapes.
    """
    corners = to_float32(_triples("vertices", vertices))
    given = {"vertices": corners}
    if colors is not None:
        given["colors"] = _to_uint8(_triples("colors", colors))
        if given["colors"].shape != corners.shape:
            raise ValueError(
                f"{tag!r:.80}: colors of shape {tuple(given['colors'].shape)} for vertices of {tuple(corners.shape)}"
            )
    if faces is not None:
        given["faces"] = _triples("faces", faces).to(torch.int32)
        if len(given["faces"]) != len(corners):
            raise ValueError(f"{tag!r:.80}: faces of {len(given['faces'])} meshes, vertices of {len(corners)}")
    names, scene = list(given), _json(config, note)

    def build(arrays: Arrays) -> Mesh:
        packed = dict(zip(names, map(pack_array, arrays), strict=True))
        return Mesh(tag, packed["vertices"], packed.get("colors"), packed.get("faces"), scene)

    return Draft(Kind.MESH, list(given.values()), build)


def _triples(name: str, values: Any) -> Tensor:
    """Return an array ``[B, number, 3]``."""
    tensor = as_tensor(values)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or tensor.shape[2] != 3 or not tensor.numel():
        raise ValueError(f"{name} of shape {tuple(tensor.shape)}; expected [B, number, 3]")
    return tensor


def _to_uint8(colors: Tensor) -> Tensor:
    if colors.dtype == torch.uint8:
        return colors
    floats = colors.float().nan_to_num(0.0)
    if colors.is_floating_point():
        floats = floats * torch.where(floats.amax() <= 1, 255.0, 1.0)
    return floats.add(0.5).clamp(0, 255).to(torch.uint8)


def _json(config: Any, note: Note) -> str:
    if config is None:
        return ""
    try:
        text = json.dumps(dict(config), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        note(Cut("config_dict", f"is left out, no settings of a scene: {error!s:.200}"))
        return ""
    if len(text) > LABEL_MAX_CHARACTERS:
        note(Cut("config_dict", f"is left out: {len(text):,} characters of JSON, at most {LABEL_MAX_CHARACTERS:,}"))
        return ""
    return text
