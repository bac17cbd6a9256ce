"""The same embeddings, videos and graphs on torch's writer, on tensorboardX's and on this project's.

What differs is in ``HEAD_LINE`` and in the comparison of graphs; docs/DIFFERENCES.md has the reasons.
"""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
import tensorboardX.summary
import torch
import torch.utils.tensorboard.summary
from google.protobuf import text_format
from PIL import Image
from support.records.events import load_folder
from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import _read_tensor_binary_file, _read_tensor_tsv_file
from tensorboardX import SummaryWriter as XWriter
from tensorboardX.proto import summary_pb2 as x_summary_pb2
from torch import nn
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.logger_service.projection.replay import replay

Pixels = np.ndarray[Any, Any]
Write = Callable[[Any], object]
PEERS: Final = {"torch": TorchWriter, "tensorboardX": XWriter}


def ours(root: Path, write: Write) -> Path:
    """Return the folder with the event files of this project's writer."""
    with Telemetry("run", endpoint=None, record=root / "recording", strict=True) as telemetry:
        write(telemetry.writer)
    [replayed] = replay([root / "recording"], root / "ours")
    assert not replayed.failure
    return root / "ours" / "run"


def theirs(root: Path, peer: str, write: Write) -> Path:
    """Return the folder with the event files of a peer's writer."""
    with warnings.catch_warnings(), PEERS[peer](str(root / peer)) as writer:
        warnings.simplefilter("ignore")
        write(writer)
    return root / peer


class Projected(NamedTuple):
    """An embedding as the embedding projector reads it: the lines of its metadata, and a picture for each point."""

    points: Pixels
    metadata: list[str]
    thumbnails: list[Pixels]


def projected(folder: Path) -> dict[tuple[str, int], Projected]:
    """Return the embeddings that a folder's config names, by tag and step."""
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    found = {}
    for embedding in config.embeddings:
        tag, step = re.split(r":| \N{MIDDLE DOT} (?:latest \()?step ", embedding.tensor_name.removesuffix(")"))
        path = folder / embedding.tensor_path
        if path.suffix == ".bytes":
            points = _read_tensor_binary_file(str(path), list(embedding.tensor_shape))
        else:
            points = _read_tensor_tsv_file(str(path))
        metadata = (folder / embedding.metadata_path).read_text().splitlines() if embedding.metadata_path else []
        thumbnails = cut(folder / embedding.sprite.image_path, embedding.sprite, len(points))
        found[tag, int(step)] = Projected(np.asarray(points, np.float32), metadata, thumbnails)
    return found


def cut(path: Path, sprite: Any, number: int) -> list[Pixels]:
    """Return the pictures of a sprite, which lie in rows from the upper left."""
    if not sprite.image_path:
        return []
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    width, height = sprite.single_image_dim
    places = [divmod(place, sheet.shape[1] // width) for place in range(number)]
    return [sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] for row, column in places]


POINTS: Final = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
PICTURES: Final = np.random.default_rng(1).random((6, 3, 8, 8)).astype(np.float32)
NAMES: Final = ["cat", "dog", "käse 🧀", "a b", "7", "x" * 300]
ROWS: Final = [[name, str(number)] for number, name in enumerate(NAMES)]
EMBEDDINGS: Final[dict[str, dict[str, Any]]] = {
    "points alone": {"mat": POINTS},
    "a tensor": {"mat": torch.tensor(POINTS), "global_step": 3, "tag": "deep/tag"},
    "whole numbers": {"mat": np.arange(12).reshape(4, 3), "tag": "whole"},
    "zeros": {"mat": np.zeros((2, 3), np.float32), "tag": "zeros"},
    "labels": {"mat": POINTS, "metadata": NAMES, "global_step": 2, "tag": "labels"},
    "numbers as labels": {"mat": POINTS, "metadata": list(range(6)), "tag": "numbers"},
    "rows": {"mat": POINTS, "metadata": ROWS, "metadata_header": ["name", "number"], "tag": "rows"},
    "pictures": {"mat": POINTS, "metadata": NAMES, "label_img": torch.tensor(PICTURES), "tag": "pictures"},
    "one picture": {"mat": POINTS[:1], "label_img": torch.tensor(PICTURES[:1]), "tag": "one"},
    "grey pictures": {"mat": POINTS, "label_img": torch.tensor(PICTURES[:, :1]), "tag": "grey"},
    "a column with a head": {"mat": POINTS, "metadata": [[n] for n in NAMES], "metadata_header": ["n"], "tag": "head"},
}
HEAD_LINE: Final = ("head", 0)
"""The peers write a head line for a single column: TensorBoard takes that line as the label of the first point."""


@pytest.mark.parametrize("peer", PEERS)
def test_the_same_embeddings_are_projected(tmp_path: Path, peer: str) -> None:
    def write(writer: Any) -> None:
        for arguments in EMBEDDINGS.values():
            writer.add_embedding(**arguments)

    found, expected = projected(ours(tmp_path, write)), projected(theirs(tmp_path, peer, write))
    assert found.keys() == expected.keys()
    for key, shown in expected.items():
        np.testing.assert_allclose(found[key].points, shown.points, rtol=1e-6)
        assert found[key].metadata == (shown.metadata[1:] if key == HEAD_LINE else shown.metadata)
        assert len(found[key].thumbnails) == len(shown.thumbnails)
        for mine, other in zip(found[key].thumbnails, shown.thumbnails, strict=True):
            assert np.abs(mine - other).max() <= 1  # the peers truncate to bytes


@pytest.mark.parametrize("peer", PEERS)
def test_the_last_steps_of_an_embedding_are_projected_with_the_newest_first(tmp_path: Path, peer: str) -> None:
    def write(writer: Any) -> None:
        for step in range(5):
            writer.add_embedding(POINTS * step, global_step=step)

    found, expected = projected(ours(tmp_path, write)), projected(theirs(tmp_path, peer, write))
    assert list(expected) == [("default", step) for step in range(5)]
    assert list(found) == [("default", step) for step in (4, 3, 2)]
    for key, shown in found.items():
        np.testing.assert_allclose(shown.points, expected[key].points, rtol=1e-6)


def colours(*shape: int, dtype: str) -> Pixels:
    """Return random frames of few colours: a GIF has 256 in a picture."""
    values = np.random.default_rng(sum(shape)).integers(0, 4, shape) * 85
    return values.astype("uint8") if dtype == "uint8" else (values / 255).astype(dtype)


VIDEOS: Final[dict[str, tuple[Pixels, dict[str, Any]]]] = {
    "bytes": (colours(1, 5, 3, 8, 6, dtype="uint8"), {}),
    "floats": (colours(1, 5, 3, 8, 6, dtype="float32"), {"fps": 10}),
    "doubles": (colours(1, 5, 3, 8, 6, dtype="float64"), {"fps": 1}),
    "two clips": (colours(2, 3, 3, 8, 6, dtype="uint8"), {}),
    "three clips": (colours(3, 3, 3, 8, 6, dtype="uint8"), {}),
    "eight clips": (colours(8, 3, 3, 8, 6, dtype="uint8"), {}),
    "grey": (colours(2, 3, 1, 8, 6, dtype="uint8"), {"fps": 20}),
    "one frame": (colours(1, 1, 3, 8, 6, dtype="uint8"), {}),
}
TURNED: Final[dict[str, tuple[Pixels, dict[str, Any]]]] = {
    "NTHWC": (colours(2, 3, 8, 6, 3, dtype="uint8"), {"dataformats": "NTHWC"}),
    "THWCN": (colours(3, 8, 6, 3, 2, dtype="uint8"), {"dataformats": "THWCN"}),
}


class Film(NamedTuple):
    """A video: its frames in RGB, and how long each is shown."""

    step: int
    frames: Pixels
    milliseconds: int


def films(folder: Path, decode: Callable[[bytes], tuple[Pixels, int]]) -> dict[str, Film]:
    """Return the videos in a folder by tag."""
    return {
        value.tag: Film(event.step, *decode(value.image.encoded_image_string))
        for event in load_folder(folder)
        for value in event.summary.value
        if value.WhichOneof("value") == "image"
    }


def from_gif(data: bytes) -> tuple[Pixels, int]:
    gif = Image.open(io.BytesIO(data))
    frames = []
    for frame in range(gif.n_frames):
        gif.seek(frame)
        frames.append(np.asarray(gif.convert("RGB")).astype(int))
    return np.stack(frames), gif.info["duration"]


def from_frames(data: bytes) -> tuple[Pixels, int]:
    saved = np.load(io.BytesIO(data))
    return np.repeat(saved["frames"], 3 // saved["frames"].shape[3], axis=3).astype(int), round(1000 / saved["fps"])


@pytest.mark.parametrize("peer", PEERS)
def test_the_same_videos_are_shown(tmp_path: Path, peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without moviepy: the frames that the peers give to moviepy are compared with those in our GIF."""
    protos = summary_pb2 if peer == "torch" else x_summary_pb2

    def keep_frames(frames: Pixels, fps: float) -> Any:
        file = io.BytesIO()
        np.savez(file, frames=frames, fps=fps)
        return protos.Summary.Image(encoded_image_string=file.getvalue())

    module = torch.utils.tensorboard.summary if peer == "torch" else tensorboardX.summary
    monkeypatch.setattr(module, "make_video", keep_frames)
    calls = VIDEOS if peer == "torch" else VIDEOS | TURNED

    def write(writer: Any) -> None:
        for step, (tag, (frames, keywords)) in enumerate(calls.items()):
            writer.add_video(tag.replace(" ", "_"), torch.tensor(frames), step, **keywords)

    found = films(ours(tmp_path, write), from_gif)
    expected = films(theirs(tmp_path, peer, write), from_frames)
    assert found.keys() == expected.keys()
    for tag, film in expected.items():
        assert found[tag].step == film.step
        assert found[tag].frames.shape == film.frames.shape
        assert np.abs(found[tag].frames - film.frames).max() <= 1  # the peers truncate to bytes
        if len(film.frames) > 1:
            assert found[tag].milliseconds == film.milliseconds


class Net(nn.Module):
    """Modules in modules, and functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Sequential(nn.Linear(32, 4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shown: torch.Tensor = self.head(torch.flatten(torch.relu(self.conv(x)), 1))
        return shown


class Operation(NamedTuple):
    """A node of a graph: its place among the modules, the places that its values come from, and their shape."""

    place: str
    sources: list[str]
    shape: list[int]


MODULE: Final = re.compile(r"\[(\w+)\]")


def graph_in(folder: Path) -> tuple[int, list[Any]]:
    """Return the step of a folder's only graph, and its nodes."""
    [event] = [
        Event.FromString(written.SerializeToString())
        for written in load_folder(folder)
        if written.WhichOneof("what") == "graph_def"
    ]
    return event.step, list(GraphDef.FromString(event.graph_def).node)


def shape_of(node: Any) -> list[int]:
    if "_output_shapes" not in node.attr:
        return []
    [shape] = node.attr["_output_shapes"].list.shape
    return [side.size for side in shape.dim]


def place_in_trace(node: Any) -> str:
    """Return our name for a node of a traced graph; an empty text for parameters, constants and outputs."""
    if node.name.startswith("input/"):
        return str(node.name)
    if not node.op.startswith("aten::"):
        return ""
    return "/".join(MODULE.findall(node.name)) or f"Net/{node.op.removeprefix('aten::')}"


def operations(nodes: list[Any], place_of: Callable[[Any], str]) -> list[Operation]:
    places = {node.name: place_of(node) for node in nodes}
    return [
        Operation(places[node.name], list(filter(None, map(places.get, node.input))), shape_of(node))
        for node in nodes
        if places[node.name]
    ]


@pytest.mark.parametrize("peer", PEERS)
def test_the_same_modules_and_functions_are_drawn_with_the_same_links(tmp_path: Path, peer: str) -> None:
    def write(writer: Any) -> None:
        writer.add_graph(Net(), torch.rand(2, 1, 6, 6))

    step, nodes = graph_in(ours(tmp_path, write))
    expected_step, expected_nodes = graph_in(theirs(tmp_path, peer, write))
    found = operations(nodes, lambda node: str(node.name))
    expected = operations(expected_nodes, place_in_trace)
    assert step == expected_step
    assert [each.place for each in found] == ["input/x", "conv", "Net/relu", "Net/flatten", "head/0", "head/1"]
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape or not other.shape  # a trace knows no shape of a convolution
