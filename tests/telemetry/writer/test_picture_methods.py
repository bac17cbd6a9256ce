"""Pictures, figures, videos, sound, text."""

import io
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from support.records.recordings import Said
from support.running.writing import kept_with_faults, one, written
from torch.utils.tensorboard.summary import image as torch_image

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Audio, Boxes, Images, Text, Video
from tensorboard_sidecar.telemetry.values.arrays import pictures_to_uint8
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

plt: Any = import_module("matplotlib.pyplot")  # as a user's program has it; this project makes figures without pyplot


@pytest.mark.parametrize(
    ("shape", "dataformats"), [((3, 4, 5), "CHW"), ((4, 5, 3), "HWC"), ((4, 5), "HW"), ((4, 5, 1), "HWC")]
)
def test_a_picture_is_one_of_its_format(tmp_path: Path, shape: tuple[int, ...], dataformats: str) -> None:
    message = one(tmp_path, lambda writer: writer.add_image("i", np.ones(shape), 7, dataformats=dataformats))
    assert isinstance(message, Images)
    assert message.images.shape == (1, 4, 5, shape[dataformats.index("C")] if "C" in dataformats else 1)
    assert set(message.images.data) == {255}


@pytest.mark.parametrize(
    ("dataformats", "channels"),
    [
        *((letters, 1) for letters in permutations("HW")),
        *((letters, channels) for letters in permutations("CHW") for channels in (1, 2, 3, 4)),
        *((letters, channels) for letters in permutations("NCHW") for channels in (1, 3)),
    ],
)
def test_a_picture_looks_as_that_of_torchs_writer(dataformats: tuple[str, ...], channels: int) -> None:
    """Torch's writer truncates to bytes; ours rounds."""
    letters, sides = "".join(dataformats), {"N": 1, "C": channels, "H": 4, "W": 6}
    pictures = torch.rand([sides[letter] for letter in letters])
    [value] = torch_image("i", pictures.numpy(), dataformats=letters).value
    theirs = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)).convert("RGBA"))
    ours = Image.fromarray(pictures_to_uint8(pictures, letters)[0].numpy().squeeze()).convert("RGBA")
    np.testing.assert_allclose(np.asarray(ours).astype(int), theirs.astype(int), atol=1)


@pytest.mark.parametrize(("shape", "dataformats"), [((2, 3, 4, 5), "NCHW"), ((2, 4, 5, 3), "NHWC")])
def test_pictures_are_of_their_format(tmp_path: Path, shape: tuple[int, ...], dataformats: str) -> None:
    message = one(tmp_path, lambda writer: writer.add_images("i", torch.ones(shape), 7, dataformats=dataformats))
    assert isinstance(message, Images)
    assert message.images.shape == (2, 4, 5, 3)


@pytest.mark.parametrize(
    ("pictures", "dataformats"),
    [
        ([torch.ones(3, 4, 5)] * 2, "CHW"),
        ([np.ones((4, 5, 3))] * 2, "HWC"),
        ([torch.ones(3, 4, 5)] * 2, "NCHW"),
        (torch.ones(2, 4, 5, dtype=torch.float64), "NHW"),
        (np.ones((5, 4, 2), ">f4"), "WHN"),
        (np.ones((2, 2, 4, 5), ">i2"), "NCHW"),
    ],
    ids=["tensors", "arrays", "whole letters", "grey", "other bytes first", "grey with alpha"],
)
def test_pictures_come_in_many_forms(tmp_path: Path, pictures: Any, dataformats: str) -> None:
    message = one(tmp_path, lambda writer: writer.add_images("i", pictures, 7, dataformats=dataformats))
    assert isinstance(message, Images)
    assert message.images.shape[:3] == (2, 4, 5)
    assert set(message.images.data) == {255}


@pytest.mark.parametrize(
    ("arguments", "keywords", "labels", "scale"),
    [
        ((), {}, [], 1.0),
        ((None, 2, "HWC", ["a dog"]), {}, ["a dog"], 2.0),
        ((None, "HWC", ["a dog"]), {}, ["a dog"], 1.0),
        ((None, "HWC"), {"labels": "a dog"}, ["a dog"], 1.0),
        ((None, 2, "hwc", "a dog"), {}, ["a dog"], 2.0),
    ],
)
def test_a_picture_has_boxes_in_both_peers_orders_of_parameters(
    tmp_path: Path, arguments: tuple[Any, ...], keywords: dict[str, Any], labels: list[str], scale: float
) -> None:
    picture = torch.ones((4, 5, 3) if arguments else (3, 4, 5))
    box = torch.tensor([[1, 1, 3, 2]])
    message = one(tmp_path, lambda writer: writer.add_image_with_boxes("b", picture, box, 7, *arguments, **keywords))
    white = np.full((4, 5, 3), 255, np.uint8)
    corners = box.numpy().astype(np.float32)
    assert message == Boxes("b", pack_array(white), pack_array(corners), labels, scale)


def test_labels_of_another_number_are_a_fault_and_the_boxes_are_kept(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_image_with_boxes("b", torch.ones(3, 4, 5), torch.ones(2, 4), labels=["one"])

    [said] = kept_with_faults(tmp_path, write, 1)
    assert isinstance(said.message, Boxes)
    assert said.message.labels == []


def make_figure() -> Figure:
    figure = plt.figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 3, 2])
    return figure


def test_a_figure_is_a_picture_and_is_closed(tmp_path: Path) -> None:
    figure = make_figure()
    message = one(tmp_path, lambda writer: writer.add_figure("f", figure, 7))
    assert isinstance(message, Images)
    assert message.images.shape == (1, 50, 100, 3)
    assert len(set(message.images.data)) > 2
    assert not plt.fignum_exists(figure.number)


def test_a_figure_stays_open_when_asked_for(tmp_path: Path) -> None:
    figure = make_figure()
    canvas = figure.canvas
    one(tmp_path, lambda writer: writer.add_figure("f", figure, 7, close=False))
    assert plt.fignum_exists(figure.number)
    assert figure.canvas is canvas
    plt.close(figure)


def test_figures_are_pictures_of_one_record(tmp_path: Path) -> None:
    figures = [make_figure(), make_figure()]
    message = one(tmp_path, lambda writer: writer.add_figure("f", figures, 7))
    assert isinstance(message, Images)
    assert message.images.shape == (2, 50, 100, 3)
    assert plt.get_fignums() == []


def test_a_figure_that_cannot_be_drawn_is_a_fault_and_is_closed(tmp_path: Path) -> None:
    figure = make_figure()
    figure.gca().set_title("$\\no$")
    assert kept_with_faults(tmp_path, lambda writer: writer.add_figure("f", figure), 1) == []
    assert plt.get_fignums() == []


def test_a_video_is_its_frames(tmp_path: Path) -> None:
    frames = torch.ones(2, 3, 4, 5, 1, dtype=torch.float64)
    message = one(tmp_path, lambda writer: writer.add_video("v", frames, 7, 8, dataformats="NTHWC"))
    assert message == Video("v", pack_array(np.full((2, 3, 4, 5, 1), 255, np.uint8)), 8.0)


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((100,), (100, 1)), ((1, 1, 100), (100, 1)), ((100, 2), (100, 2)), ((2, 100), (100, 2))],
)
def test_sound_is_one_clip_of_any_shape_of_both_peers(
    tmp_path: Path, shape: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    message = one(tmp_path, lambda writer: writer.add_audio("s", torch.zeros(shape), 7, 8_000))
    assert message == Audio("s", [pack_array(np.zeros(kept, np.int16))], 8_000, single=True)


def test_text_is_text(tmp_path: Path) -> None:
    said = Said(7, Text("t/text_summary", "**bold**"))
    assert written(tmp_path, lambda writer: writer.add_text("t", "**bold**", 7)) == [said]
