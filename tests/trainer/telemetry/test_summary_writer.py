"""The look-alike of torch's SummaryWriter: the same calls, kept as records."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.recordings import Said
from support.spoken import read_said
from torch import nn
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from protocol.messages import (
    Audio,
    Chart,
    Embedding,
    Graph,
    HParams,
    Images,
    Layout,
    Message,
    Scalars,
    TensorSummaries,
    Text,
)
from trainer.telemetry import Telemetry
from trainer.telemetry.summary_writer import SummaryWriter


def written(folder: Path, write: Callable[[SummaryWriter], object]) -> list[Said]:
    with Telemetry("run", endpoint=None, record=folder, strict=True) as telemetry:
        write(telemetry.writer)
    return read_said(folder)[1:-1]


def one(folder: Path, write: Callable[[SummaryWriter], object]) -> Message:
    [said] = written(folder, write)
    assert said.step == 7
    return said.message


def test_a_scalar_is_a_record(tmp_path: Path) -> None:
    def write(writer: SummaryWriter) -> None:
        writer.add_scalar("my_metric/name", 0.5, 7)
        writer.add_scalar("my_metric/name", torch.tensor(1.5), global_step=8)
        writer.add_scalar("my_metric/name", 2)
        writer.flush()

    assert written(tmp_path, write) == [
        Said(7, Scalars({"my_metric/name": 0.5})),
        Said(8, Scalars({"my_metric/name": 1.5})),
        Said(0, Scalars({"my_metric/name": 2.0})),
    ]


def test_scalars_are_one_record_under_their_main_tag(tmp_path: Path) -> None:
    values: dict[str, Any] = {"train": 0.5, "val": torch.tensor(0.25)}
    assert one(tmp_path, lambda writer: writer.add_scalars("loss", values, 7)) == Scalars(
        {"loss/train": 0.5, "loss/val": 0.25}
    )


def test_a_histogram_is_a_summary(tmp_path: Path) -> None:
    message = one(tmp_path, lambda writer: writer.add_histogram("weights/a", np.arange(5.0), 7))
    assert isinstance(message, TensorSummaries)
    assert message.summaries["weights/a"].count == 5


@pytest.mark.parametrize(
    ("shape", "dataformats"), [((3, 4, 5), "CHW"), ((4, 5, 3), "HWC"), ((4, 5), "HW"), ((4, 5, 1), "HWC")]
)
def test_a_picture_is_one_of_its_format(tmp_path: Path, shape: tuple[int, ...], dataformats: str) -> None:
    message = one(tmp_path, lambda writer: writer.add_image("i", np.ones(shape), 7, dataformats=dataformats))
    assert isinstance(message, Images)
    assert message.images.shape == (1, 4, 5, shape[dataformats.index("C")] if "C" in dataformats else 1)
    assert set(message.images.data) == {255}


@pytest.mark.parametrize(("shape", "dataformats"), [((2, 3, 4, 5), "NCHW"), ((2, 4, 5, 3), "NHWC")])
def test_pictures_are_of_their_format(tmp_path: Path, shape: tuple[int, ...], dataformats: str) -> None:
    message = one(tmp_path, lambda writer: writer.add_images("i", torch.ones(shape), 7, dataformats=dataformats))
    assert isinstance(message, Images)
    assert message.images.shape == (2, 4, 5, 3)


def test_text_and_audio_are_records(tmp_path: Path) -> None:
    def write(writer: SummaryWriter) -> None:
        writer.add_text("t", "**bold**", 7)
        writer.add_audio("a", torch.zeros(1, 100), 8, sample_rate=8000)

    text, audio = written(tmp_path, write)
    assert text == Said(7, Text("t", "**bold**"))
    assert isinstance(audio.message, Audio)
    assert (audio.step, audio.message.sample_rate_hz, audio.message.clips[0].shape) == (8, 8000, (100, 1))


@pytest.mark.parametrize(
    ("metadata", "header", "columns", "rows"),
    [
        (None, None, [], []),
        (["x", 5], None, ["label"], [["x"], ["5"]]),
        ([("x", 1), ("y", 2)], ["name", "number"], ["name", "number"], [["x", "1"], ["y", "2"]]),
    ],
)
def test_an_embedding_has_a_label_or_a_row_a_point(
    tmp_path: Path, metadata: Any, header: Any, columns: list[str], rows: list[list[str]]
) -> None:
    message = one(
        tmp_path,
        lambda writer: writer.add_embedding(
            torch.ones(2, 3), metadata, torch.ones(2, 3, 8, 8), 7, "points", metadata_header=header
        ),
    )
    assert isinstance(message, Embedding)
    assert (message.tag, message.columns, message.rows) == ("points", columns, rows)
    assert message.thumbnails is not None


@pytest.mark.parametrize("as_tuple", [True, False])
def test_a_graph_is_what_one_forward_pass_shows(tmp_path: Path, as_tuple: bool) -> None:
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.ones(2, 3)
    [said] = written(tmp_path, lambda writer: writer.add_graph(model, (inputs,) if as_tuple else inputs))
    assert isinstance(said.message, Graph)
    assert {"Linear", "ReLU"} <= {node.operation for node in said.message.nodes}


def test_hyperparameters_and_layouts_are_records(tmp_path: Path) -> None:
    def write(writer: SummaryWriter) -> None:
        writer.add_hparams({"lr": 0.1}, {"best": 0.5}, 7)
        writer.add_custom_scalars({"Losses": {"all": ["Multiline", ["loss/.*"]], "m": ["Margin", ["a", "b", "c"]]}})

    assert written(tmp_path, write) == [
        Said(7, HParams({"lr": 0.1}, {"best": 0.5})),
        Said(
            0,
            Layout({"Losses": {"all": Chart("multiline", ["loss/.*"]), "m": Chart("margin", ["a", "b", "c"])}}),
        ),
    ]


@pytest.mark.parametrize(
    "name", [name for name, _ in inspect.getmembers(SummaryWriter, inspect.isfunction) if not name.startswith("_")]
)
def test_arguments_come_in_the_order_that_people_know(name: str) -> None:
    """A call with positional arguments must mean the same; what torch's has more comes behind."""
    ours = list(inspect.signature(getattr(SummaryWriter, name)).parameters.values())
    theirs = list(inspect.signature(getattr(TorchWriter, name)).parameters)
    positional = [parameter.name for parameter in ours if parameter.kind is not parameter.KEYWORD_ONLY]
    keywords = {parameter.name for parameter in ours if parameter.kind is parameter.KEYWORD_ONLY}
    if name == "add_hparams":
        positional.remove("global_step")  # theirs stands behind two that we have not
    assert positional == theirs[: len(positional)]
    assert keywords <= set(theirs)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_scalar", ([], 1.0)),
        ("add_scalar", ("a", 1.0, np.array([1, 2]))),
        ("add_scalar", ()),
        ("add_scalars", ("a", None)),
        ("add_histogram", ({}, torch.ones(3))),
        ("add_embedding", (torch.ones(2, 3), [("x",), ("y", "z")], None, 0, "t", ["a", "b"])),
        ("add_graph", (nn.Linear(3, 4), torch.ones(2, 5))),
        ("add_custom_scalars", ({"a": {"b": ["Multiline"]}},)),
        ("add_custom_scalars", ({"a": {"b": [None, []]}},)),
    ],
)
def test_wrong_calls_are_faults(tmp_path: Path, name: str, arguments: tuple[Any, ...]) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        getattr(telemetry.writer, name)(*arguments)
        assert telemetry.faults.total == 1


def test_closing_the_writer_closes_the_telemetry(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    telemetry.writer.close()
    with pytest.raises(RuntimeError, match="closed"):
        telemetry.writer.add_scalar("a", 1.0, 1)
