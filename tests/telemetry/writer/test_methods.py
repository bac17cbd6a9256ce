"""The drop-in replacement of torch's SummaryWriter: the same calls, kept as records."""

import inspect
import io
import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from itertools import permutations
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from support.records.recordings import Said
from support.running.spoken import read_said
from torch import nn
from torch.utils.tensorboard import SummaryWriter as TorchWriter
from torch.utils.tensorboard.summary import image as torch_image

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Chart,
    Embedding,
    Graph,
    HParams,
    Images,
    Layout,
    Message,
    RunEnd,
    Scalars,
    TensorSummaries,
    Text,
)
from tensorboard_sidecar.telemetry.values.arrays import pictures_to_uint8
from tensorboard_sidecar.telemetry.writer.methods import INSTEAD, WriterMethods

THEIRS: Final = {
    name: inspect.signature(method)
    for name, method in inspect.getmembers(TorchWriter, inspect.isfunction)
    if name in ("__enter__", "__exit__") or not name.startswith("_")
}


def written(folder: Path, write: Callable[[WriterMethods], object]) -> list[Said]:
    with Telemetry("run", endpoint=None, record=folder, strict=True) as telemetry:
        write(telemetry.writer)
    return read_said(folder)[1:-1]


def one(folder: Path, write: Callable[[WriterMethods], object]) -> Message:
    [said] = written(folder, write)
    assert said.step == 7
    return said.message


def test_a_scalar_is_a_record(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
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


def test_text_and_audio_are_records(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
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


def test_rows_of_metadata_of_another_length_cost_no_point(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.writer.add_embedding(torch.ones(2, 3), [("x",), ("y", 5)], metadata_header=["name", "number"])
        assert telemetry.faults.total == 1
    [said] = read_said(tmp_path)[1:-1]
    assert isinstance(said.message, Embedding)
    assert (said.message.columns, said.message.rows) == (["name", "number"], [["x", "-"], ["y", "5"]])


@pytest.mark.parametrize("as_tuple", [True, False])
def test_a_graph_is_what_one_forward_pass_shows(tmp_path: Path, as_tuple: bool) -> None:
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.ones(2, 3)
    [said] = written(tmp_path, lambda writer: writer.add_graph(model, (inputs,) if as_tuple else inputs))
    assert isinstance(said.message, Graph)
    assert {"Linear", "ReLU"} <= {node.operation for node in said.message.nodes}


def test_hyperparameters_and_layouts_are_records(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_hparams({"lr": 0.1, "beta": torch.tensor(0.5), "seed": None}, {"best": 0.5}, {}, "here", 7)
        writer.add_custom_scalars({"Losses": {"all": ["Multiline", ["loss/.*"]], "m": ["Margin", ["a", "b", "c"]]}})

    assert written(tmp_path, write) == [
        Said(7, HParams({"lr": 0.1, "beta": 0.5, "seed": "None"}, {"best": 0.5})),
        Said(
            0,
            Layout({"Losses": {"all": Chart("multiline", ["loss/.*"]), "m": Chart("margin", ["a", "b", "c"])}}),
        ),
    ]


def test_hyperparameters_without_a_step_are_at_the_highest_step(tmp_path: Path) -> None:
    """At step 0, a metric that is also a curve would hide the curve from TensorBoard's default loader."""

    def write(writer: WriterMethods) -> None:
        writer.add_hparams({"lr": 0.1}, {})
        for step in (3, 9, 5):
            writer.add_scalar("accuracy", 0.5, step)
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.5})
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.5}, global_step=0)

    steps = [said.step for said in written(tmp_path, write) if isinstance(said.message, HParams)]
    assert steps == [0, 9, 0]


def test_a_layout_of_one_chart_is_a_layout(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_custom_scalars_multilinechart(["a", "b"], "Losses", "both")
        writer.add_custom_scalars_marginchart(["a", "b", "c"])

    assert written(tmp_path, write) == [
        Said(0, Layout({"Losses": {"both": Chart("multiline", ["a", "b"])}})),
        Said(0, Layout({"default": {"untitled": Chart("margin", ["a", "b", "c"])}})),
    ]


@pytest.mark.parametrize("name", sorted(THEIRS.keys() - INSTEAD))
def test_a_method_has_the_parameters_that_people_know(name: str) -> None:
    """By name, by place and by default."""
    ours = inspect.signature(getattr(WriterMethods, name))
    found, expected = (
        [(parameter.name, parameter.kind, parameter.default) for parameter in signature.parameters.values()]
        for signature in (ours, THEIRS[name])
    )
    assert found == expected


def test_what_is_ignored_and_what_is_rounded_is_as_torch_takes_it(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_scalar("a", 1.0, 5, 1722222222.0)
        writer.add_scalar("a", 1.0, 6, walltime=0.0, new_style=True, double_precision=True)
        writer.add_scalar("a", np.array([1.0]), 7.9)  # type: ignore[arg-type]
        writer.add_scalar("a", torch.ones(1, 1), np.float32(8))  # type: ignore[arg-type]
        writer.add_scalar("a", 1.0, torch.tensor(9))  # type: ignore[arg-type]
        writer.add_histogram("h", np.ones(3), 10, "auto", None, 5)
        writer.add_image("i", torch.zeros(4, 5, 3), 11, None, "hwc")
        writer.add_images("i", torch.zeros(2, 4, 5, 3), 12, dataformats="nhwc")
        writer.add_audio("s", torch.zeros(1, 100), 13, 16_000.0)  # type: ignore[arg-type]
        writer.add_text("t", "x", 14, 0.0)
        writer.add_graph(nn.Linear(2, 2), torch.zeros(1, 2), verbose=False, use_strict_trace=False)

    said = written(tmp_path, write)
    assert [step for step, _ in said] == [*range(5, 15), 0]
    assert {repr(message) for _, message in said[:5]} == {repr(Scalars({"a": 1.0}))}
    shapes = [message.images.shape for _, message in said if isinstance(message, Images)]
    assert shapes == [(1, 4, 5, 3), (2, 4, 5, 3)]


@pytest.mark.parametrize("name", [*INSTEAD, "add_something_new"])
def test_what_is_not_kept_is_a_fault_that_says_what_there_is_instead(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The training loop goes on: training matters more than a figure."""
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        for _ in range(2):
            getattr(telemetry.writer, name)("f", object(), 5, close=False)
        assert telemetry.faults.total == 2
        assert len(caplog.records) == 1
    assert f"writer.{name}: NotKept: not kept: {INSTEAD.get(name, 'there is no such method')}" in caplog.text


def test_what_is_not_kept_is_what_torch_has_more() -> None:
    assert INSTEAD.keys() <= THEIRS.keys()
    assert all(hasattr(WriterMethods, name) for text in INSTEAD.values() for name in re.findall(r"add_\w+", text))


def test_a_writer_has_no_other_attributes(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        assert not hasattr(telemetry.writer, "file_writer")


def test_who_asks_for_a_folder_gets_that_of_the_recording_or_the_runs_name(tmp_path: Path) -> None:
    with Telemetry("team/run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        assert telemetry.writer.log_dir == telemetry.writer.get_logdir() == str(tmp_path / "team/run")
        assert Path(telemetry.writer.log_dir).is_dir()
    other = Telemetry("team/run", endpoint="tcp://127.0.0.1:1", drain_seconds=0)
    assert other.writer.get_logdir() == "team/run"
    other.close()


@pytest.mark.parametrize(("error", "status"), [(None, "completed"), (ValueError, "failed")])
def test_a_with_block_of_the_writer_closes_the_telemetry(
    tmp_path: Path, error: type[Exception] | None, status: Literal["completed", "failed"]
) -> None:
    def train() -> None:
        with Telemetry("run", endpoint=None, record=tmp_path, strict=True).writer as writer:
            writer.add_scalar("a", 1.0, 3)
            if error is not None:
                raise error

    with pytest.raises(error) if error else nullcontext():
        train()
    assert read_said(tmp_path)[1:] == [Said(3, Scalars({"a": 1.0})), Said(3, RunEnd(status))]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_scalar", ([], 1.0)),
        ("add_scalar", ("a", 1.0, np.array([1, 2]))),
        ("add_scalar", ()),
        ("add_scalar", ("a", 1.0, math.nan)),
        ("add_scalar", ("a", 1.0, torch.zeros((), device="meta"))),
        ("add_hparams", ({"a": object()}, {})),
        ("add_hparams", ([], {})),
        ("add_embedding", (torch.ones(2, 3), torch.ones(2, device="meta"))),
        ("add_custom_scalars_multilinechart", (None,)),
        ("add_custom_scalars_multilinechart", ()),
        ("add_custom_scalars_multilinechart", (["a"], {})),
        ("add_custom_scalars_marginchart", (["a"],)),
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
