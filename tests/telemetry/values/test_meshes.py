"""Meshes and point clouds."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from tensorboard_sidecar.protocol.messages import Mesh
from tensorboard_sidecar.telemetry.values.meshes import mesh

CLOUD = torch.ones(2, 4, 3)


def no_note(error: Exception) -> None:
    raise error


def made(*arguments: Any) -> Mesh:
    draft = mesh("m", *arguments, no_note)
    message = draft.build([tensor.numpy() for tensor in draft.tensors])
    assert isinstance(message, Mesh)
    return message


def test_a_mesh_has_what_is_given() -> None:
    message = made(CLOUD.double(), CLOUD, torch.zeros(2, 5, 3, dtype=torch.int64), {"z": [1], "a": None})
    assert (message.vertices.dtype, message.vertices.shape) == ("float32", (2, 4, 3))
    assert message.colors is not None
    assert (message.colors.dtype, message.colors.shape) == ("uint8", (2, 4, 3))
    assert message.faces is not None
    assert (message.faces.dtype, message.faces.shape) == ("int32", (2, 5, 3))
    assert message.config == '{"a": null, "z": [1]}'


def test_a_cloud_without_a_batch_is_one_cloud() -> None:
    message = made(np.ones((4, 3)), None, None, None)
    assert (message.vertices.shape, message.colors, message.faces, message.config) == ((1, 4, 3), None, None, "")


@pytest.mark.parametrize(
    ("colors", "kept"),
    [
        (torch.tensor([0.0, 0.5, 1.0]), [0, 128, 255]),
        (torch.tensor([0.0, 127.6, 300.0]), [0, 128, 255]),
        (torch.tensor([-5, 7, 300]), [0, 7, 255]),
        (torch.tensor([0, 7, 255], dtype=torch.uint8), [0, 7, 255]),
        (torch.tensor([torch.nan, 0.0, 1.0]), [0, 0, 255]),
    ],
    ids=str,
)
def test_colours_have_the_scale_of_their_dtype(colors: torch.Tensor, kept: list[int]) -> None:
    message = made(torch.ones(1, 1, 3), colors.reshape(1, 1, 3), None, None)
    assert message.colors is not None
    assert message.colors.numpy().reshape(-1).tolist() == kept


@pytest.mark.parametrize(
    ("vertices", "colors", "faces"),
    [
        *((None, None, None), (torch.ones(4), None, None), (torch.ones(1, 4, 2), None, None)),
        *((torch.ones(1, 0, 3), None, None), (CLOUD, CLOUD[:1], None), (CLOUD, CLOUD[:, :3], None)),
        *((CLOUD, None, CLOUD[:1]), (CLOUD, None, object())),
    ],
)
def test_what_is_no_mesh_is_an_error(vertices: Any, colors: Any, faces: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        mesh("m", vertices, colors, faces, None, no_note)


@pytest.mark.parametrize(
    "config",
    ["scene", 5, {"a": object()}, {1: 2, "a": 3}, {"a": math.nan}, {"a": "x" * 5_000}],
    ids=lambda config: f"{config!r:.20}",
)
def test_settings_that_cannot_be_shown_are_left_out(config: Any) -> None:
    notes: list[Exception] = []
    message = mesh("m", CLOUD, None, None, config, notes.append).build([CLOUD.numpy()])
    assert isinstance(message, Mesh)
    assert message.config == ""
    assert len(notes) == 1
