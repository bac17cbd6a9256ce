"""What the tests of torch's and tensorboardX's writers check of their behaviour, checked of ours.

The writer is strict: a call that is not kept as given would raise. Where a peer raises, ours raises when strict.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.ids import plain
from support.running.writing import one, written
from torch import nn

from tensorboard_sidecar import SummaryWriter, Telemetry
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Embedding,
    Graph,
    Histogram,
    HParams,
    Images,
    Layout,
    Mesh,
    Overlay,
    PrCurve,
    PrCurveRaw,
    Scalars,
    Tensor,
    TensorSummaries,
    Text,
    Video,
)
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

plt: Any = import_module("matplotlib.pyplot")  # as a user's program has it; this project makes figures without pyplot


def raises(tmp_path: Path, write: Callable[[WriterMethods], object]) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        write(telemetry.writer)
    telemetry.close()


# Scalars and numbers


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.5, True, np.float16(1), np.float32(1), np.float64(1), np.int8(1), np.int64(1), np.uint8(1)),
        *(np.array(1.0), np.array([1.0]), np.array([[1]]), torch.tensor(1), torch.rand(1), torch.rand(1, 1)),
        *(torch.tensor(1.0, requires_grad=True), torch.tensor(1.0).bfloat16(), torch.tensor(True)),
        nn.Parameter(torch.ones(1)),
    ],
    ids=plain,
)
def test_each_kind_of_number_is_a_scalar(tmp_path: Path, value: Any) -> None:
    message = one(tmp_path, lambda writer: writer.add_scalar("a", value, 7))
    assert message == Scalars({"a": float(value.item() if hasattr(value, "item") else value)})


@pytest.mark.parametrize("value", [torch.rand(2), np.zeros(3), "text", None, 1j, [], torch.zeros(0)], ids=plain)
def test_what_is_no_single_number_is_an_error(tmp_path: Path, value: Any) -> None:
    raises(tmp_path, lambda writer: writer.add_scalar("a", value, 7))


def test_a_group_of_scalars_is_kept_with_its_steps(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        for step in range(3):
            values = {"xsinx": step * np.sin(step), "xcosx": step * np.cos(step), "arctanx": np.arctan(step)}
            writer.add_scalars("data/scalar_group", values, step)

    said = written(tmp_path, write)
    assert [step for step, _ in said] == [0, 1, 2]
    folders = [set(message.values) for _, message in said if isinstance(message, Overlay)]
    assert folders == [{f"data_scalar_group_{name}" for name in ("xsinx", "xcosx", "arctanx")}] * 3


# Histograms


@pytest.mark.parametrize(
    "values",
    [
        *(torch.rand(50), torch.randint(0, 100, (50,)), torch.rand(50, 4, 3), torch.rand(50).to(torch.bfloat16)),
        *(np.random.default_rng(0).random(1024), np.arange(50), np.ones((3, 4), np.float16)),
    ],
    ids=lambda values: str(values.dtype),
)
@pytest.mark.parametrize("bins", ["tensorflow", "auto", "fd", "doane"])
def test_a_histogram_counts_all_values(tmp_path: Path, values: Any, bins: str) -> None:
    message = one(tmp_path, lambda writer: writer.add_histogram("h", values, 7, bins))
    if isinstance(message, Histogram):
        assert (message.count, message.counts.numpy().sum()) == (
            values.size if isinstance(values, np.ndarray) else values.numel(),
        ) * 2
    else:
        assert isinstance(message, TensorSummaries)
        assert message.summaries["h"].count == (values.size if isinstance(values, np.ndarray) else values.numel())


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_raw_histogram_has_the_numbers_that_are_given(tmp_path: Path, dtype: type) -> None:
    values = (np.random.default_rng(0).random(50) * 100).astype(dtype)
    counts, limits = np.histogram(values)
    message = one(
        tmp_path,
        lambda writer: writer.add_histogram_raw(
            tag="h",
            min=values.min().item(),
            max=values.max().item(),
            num=len(values),
            sum=values.sum().item(),
            sum_squares=values.dot(values).item(),
            bucket_limits=limits[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=7,
        ),
    )
    assert isinstance(message, Histogram)
    assert message.counts.numpy().tolist() == counts.tolist()
    assert message.limits.numpy().tolist() == limits[1:].tolist()


def test_a_raw_histogram_with_a_limit_more_than_counts_is_an_error(tmp_path: Path) -> None:
    raises(tmp_path, lambda writer: writer.add_histogram_raw("h", 0, 1, 2, 1, 1, [0.0, 0.5, 1.0], [1, 1]))


# Pictures, videos, figures


@pytest.mark.parametrize(
    ("shape", "dataformats", "kept"),
    [
        *(((3, 32, 16), "CHW", (1, 32, 16, 3)), ((16, 3, 32), "wch", (1, 32, 16, 3))),
        *(((32, 16), "HW", (1, 32, 16, 1)), ((16, 32), "wh", (1, 32, 16, 1))),
        *(((1, 8, 8), "CHW", (1, 8, 8, 1)), ((4, 8, 8), "CHW", (1, 8, 8, 4)), ((8, 8, 3), "HWC", (1, 8, 8, 3))),
        *(((2, 3, 32, 16), "NCHW", (2, 32, 16, 3)), ((2, 1, 8, 8), "NCHW", (2, 8, 8, 1))),
        *(((16, 3, 32, 16), "NCHW", (16, 32, 16, 3)), ((3, 32, 16, 2), "chwn", (2, 32, 16, 3))),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_of_each_layout_are_kept(
    tmp_path: Path, shape: tuple[int, ...], dataformats: str, kept: tuple[int, ...], dtype: type
) -> None:
    values = (np.random.default_rng(0).random(shape) * (255 if dtype is np.uint8 else 1)).astype(dtype)
    message = one(tmp_path, lambda writer: writer.add_image("i", values, 7, dataformats=dataformats))
    assert isinstance(message, Images)
    assert message.images.shape == kept


@pytest.mark.parametrize(
    ("shape", "dataformats"),
    [((3, 4, 5), "HW"), ((3, 4, 5), "CHH"), ((3, 4, 5), "NCHW"), ((3, 4, 5), "CHX"), ((5, 4, 4), "CHW")],
)
def test_a_layout_that_does_not_fit_is_an_error(tmp_path: Path, shape: tuple[int, ...], dataformats: str) -> None:
    raises(tmp_path, lambda writer: writer.add_image("i", np.ones(shape), 7, dataformats=dataformats))


def test_float_pictures_have_the_scale_of_bytes(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.2], [0.5, 1.0]], np.float32)
    message = one(tmp_path, lambda writer: writer.add_image("i", values, 7, dataformats="HW"))
    assert isinstance(message, Images)
    assert message.images.numpy().reshape(-1).tolist() == [0, 51, 128, 255]


def test_a_list_of_pictures_is_several(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_images("t", [torch.rand(3, 8, 8) for _ in range(5)], 7, dataformats="CHW")
        writer.add_images("n", [np.zeros((8, 8, 3), np.uint8) for _ in range(5)], 7, dataformats="HWC")

    shapes = [message.images.shape for _, message in written(tmp_path, write) if isinstance(message, Images)]
    assert shapes == [(5, 8, 8, 3)] * 2


@pytest.mark.parametrize(
    ("shape", "dataformats"),
    [
        ((4, 3, 1, 8, 8), "NTCHW"),
        ((16, 48, 1, 28, 28), "NTCHW"),
        ((20, 7, 1, 8, 8), "NTCHW"),
        ((4, 3, 8, 8, 1), "NTHWC"),
    ],
)
def test_videos_of_each_size_are_kept(tmp_path: Path, shape: tuple[int, ...], dataformats: str) -> None:
    frames = np.random.default_rng(0).random(shape)
    message = one(tmp_path, lambda writer: writer.add_video("v", frames, 7, dataformats=dataformats))
    assert isinstance(message, Video)
    assert message.frames.shape[:2] == shape[:2]


def test_a_video_of_four_dimensions_is_an_error(tmp_path: Path) -> None:
    raises(tmp_path, lambda writer: writer.add_video("v", np.random.default_rng(0).random((3, 1, 8, 8))))


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("number", [1, 5])
def test_figures_are_closed_or_left_open(tmp_path: Path, number: int, close: bool) -> None:
    figures = [plt.figure(figsize=(1, 1), dpi=20) for _ in range(number)]
    message = one(
        tmp_path, lambda writer: writer.add_figure("f", figures if number > 1 else figures[0], 7, close=close)
    )
    assert isinstance(message, Images)
    assert message.images.shape == (number, 20, 20, 3)
    assert [plt.fignum_exists(figure.number) for figure in figures] == [not close] * number
    plt.close("all")


# Sound, text


@pytest.mark.parametrize("shape", [(42,), (1, 42), (42, 1), (42, 2), (1, 1, 42)])
def test_sound_of_each_shape_is_kept(tmp_path: Path, shape: tuple[int, ...]) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, shape)
    message = one(tmp_path, lambda writer: writer.add_audio("s", sound, 7, sample_rate=44_100))
    assert isinstance(message, Audio)
    assert (message.single, message.sample_rate_hz, message.clips[0].shape[0]) == (True, 44_100, 42)


def test_a_text_with_markdown_is_kept_as_it_is(tmp_path: Path) -> None:
    table = "a | b\n-|-\n1 | 2"
    assert one(tmp_path, lambda writer: writer.add_text("Text", table, 7)) == Text("Text/text_summary", table)


# Curves, meshes, tensors


def test_a_precision_recall_curve_takes_samples(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        labels, predictions = np.random.default_rng(0).integers(0, 2, 100), np.random.default_rng(1).random(100)
        writer.add_pr_curve("xoxo", labels, predictions, 7)
        writer.add_pr_curve(
            "prcurve with raw data", torch.tensor(labels), torch.tensor(predictions), 7, num_thresholds=300
        )

    curves = [message for _, message in written(tmp_path, write) if isinstance(message, PrCurve)]
    assert [(curve.threshold_count, curve.labels.shape) for curve in curves] == [(127, (100,))] * 2


def test_a_raw_precision_recall_curve_takes_lists(tmp_path: Path) -> None:
    counts = ([75, 64, 21, 5, 0], [150, 105, 18, 0, 0], [0, 45, 132, 150, 150], [0, 11, 54, 70, 75])
    ratios = ([0.3, 0.37, 0.53, 1.0, 0.0], [1.0, 0.85, 0.28, 0.06, 0.0])
    message = one(
        tmp_path,
        lambda writer: writer.add_pr_curve_raw("p", *counts, *ratios, 7, num_thresholds=5),  # type: ignore[arg-type]
    )
    assert isinstance(message, PrCurveRaw)
    assert message.rows.shape == (6, 5)


def test_a_mesh_takes_vertices_colours_and_faces(tmp_path: Path) -> None:
    vertices = np.array([[[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]]], dtype=float)
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255]]], dtype=int)
    faces = np.array([[[0, 2, 3], [0, 3, 1], [0, 1, 2], [1, 3, 2]]], dtype=int)
    message = one(tmp_path, lambda writer: writer.add_mesh("m", vertices, colors=colors, faces=faces, global_step=7))
    assert isinstance(message, Mesh)
    assert message.colors is not None
    assert message.faces is not None
    assert message.colors.numpy().tolist() == colors.tolist()
    assert message.faces.numpy().tolist() == faces.tolist()


@pytest.mark.parametrize(
    "tensor",
    [
        *(torch.tensor([1, 2, 3], dtype=dtype) for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64)),
        *(torch.tensor([[1, 2], [3, 4]], dtype=dtype) for dtype in (torch.float16, torch.float32, torch.float64)),
        *(torch.tensor([]), torch.tensor(5.0), torch.tensor([True, False]), torch.tensor([1.5]).bfloat16()),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_a_tensor_of_each_dtype_is_kept(tmp_path: Path, tensor: torch.Tensor) -> None:
    message = one(tmp_path, lambda writer: writer.add_tensor("t", tensor, 7))
    assert isinstance(message, Tensor)
    assert message.values.shape == tuple(tensor.shape)
    assert message.values.numpy().tolist() == tensor.float().tolist()


@pytest.mark.parametrize("tensor", [torch.ones(2, dtype=torch.complex64), None, "text"], ids=plain)
def test_a_tensor_without_real_numbers_is_an_error(tmp_path: Path, tensor: Any) -> None:
    raises(tmp_path, lambda writer: writer.add_tensor("t", tensor, 7))


# Embeddings


class Label(NamedTuple):
    name: str


def test_embeddings_take_labels_pictures_and_headers(tmp_path: Path) -> None:
    points, pictures, labels = torch.rand(5, 7), torch.rand(5, 3, 10, 10), ["a", "b", "c", "d", "e"]

    def write(writer: WriterMethods) -> None:
        writer.add_embedding(points, metadata=labels, label_img=pictures, global_step=1)
        writer.add_embedding(points, label_img=pictures, global_step=2)
        writer.add_embedding(points, metadata=labels, global_step=3)
        writer.add_embedding(points, metadata=list(range(5)), tag="numbers", global_step=4)
        writer.add_embedding(points.numpy(), metadata=[["a", 1]] * 5, metadata_header=["letter", "number"])
        writer.add_embedding(points.double(), metadata=["a\tb\n"] * 5)

    said = written(tmp_path, write)
    assert [step for step, _ in said] == [1, 2, 3, 4, 0, 0]
    assert all(isinstance(message, Embedding) and message.vectors.shape == (5, 7) for _, message in said)


@pytest.mark.parametrize(
    ("metadata", "pictures"), [([1, 2], None), (None, torch.rand(2, 3, 4, 4)), ([1] * 6, torch.rand(6, 3, 4, 4))]
)
def test_embeddings_of_disagreeing_sizes_are_an_error(tmp_path: Path, metadata: Any, pictures: Any) -> None:
    raises(tmp_path, lambda writer: writer.add_embedding(torch.rand(5, 7), metadata, pictures))


# Hyperparameters, layouts


@pytest.mark.parametrize(
    ("parameters", "domains"),
    [
        ({"lr": 0.1}, None),
        ({"lr": 0.1, "layers": 5, "on": True, "name": "x"}, None),
        ({"lr": 0.1}, {"lr": [0.1, 0.01]}),
        ({"on": True}, {"on": [True, False]}),
        ({"name": "x"}, {"name": ["x", "y"]}),
        ({"lr": torch.tensor(0.5), "array": np.float32(0.5)}, {}),
        ({"none": None}, None),
    ],
    ids=plain,
)
def test_hyperparameters_of_each_kind_are_kept(tmp_path: Path, parameters: Any, domains: Any) -> None:
    message = one(tmp_path, lambda writer: writer.add_hparams(parameters, {"accuracy": 0.5}, domains, global_step=7))
    assert isinstance(message, HParams)
    assert (message.parameters.keys(), message.domains) == (parameters.keys(), domains or {})


@pytest.mark.parametrize("domains", [{"lr": "text"}, {"lr": [1, "a"]}, {"other": [1]}, 5], ids=plain)
def test_domains_of_other_types_are_an_error(tmp_path: Path, domains: Any) -> None:
    raises(tmp_path, lambda writer: writer.add_hparams({"lr": 0.1}, {"accuracy": 0.5}, domains))


@pytest.mark.parametrize(("parameters", "metrics"), [([], {}), ({}, []), (None, {}), ({}, "text")], ids=plain)
def test_hyperparameters_that_are_no_dict_are_an_error(tmp_path: Path, parameters: Any, metrics: Any) -> None:
    raises(tmp_path, lambda writer: writer.add_hparams(parameters, metrics))


def test_a_layout_of_charts_is_kept(tmp_path: Path) -> None:
    layout = {
        "Taiwan": {"twse": ["Multiline", ["twse/0050", "twse/2330"]]},
        "USA": {"dow": ["Margin", ["a", "b", "c"]], "nasdaq": ["Margin", ["d", "e", "f"]]},
    }
    message = one(tmp_path, lambda writer: writer.add_custom_scalars(layout), step=0)
    assert isinstance(message, Layout)
    assert {name: set(charts) for name, charts in message.categories.items()} == {
        "Taiwan": {"twse"},
        "USA": {"dow", "nasdaq"},
    }


def test_a_margin_chart_of_two_tags_is_an_error(tmp_path: Path) -> None:
    raises(tmp_path, lambda writer: writer.add_custom_scalars_marginchart(["a", "b"]))


# Graphs


class Named(nn.Module):
    """A model whose input is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)

    def forward(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"out": self.first(values["in"])}


@pytest.mark.parametrize("strict", [True, False])
def test_a_model_with_dicts_has_a_graph(tmp_path: Path, strict: bool) -> None:
    message = one(
        tmp_path,
        lambda writer: writer.add_graph(Named(), ({"in": torch.rand(1, 3)},), use_strict_trace=strict),
        step=0,
    )
    assert isinstance(message, Graph)
    assert [node.operation for node in message.nodes] == ["Input", "Linear"]


def test_an_input_of_another_size_is_an_error(tmp_path: Path) -> None:
    raises(tmp_path, lambda writer: writer.add_graph(nn.Linear(3, 5), torch.rand(1, 9)))


# The writer itself


def test_a_writer_is_closed_at_the_end_of_its_block(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("test", 1)
        assert writer.file_writer is not None
    assert writer.file_writer is None
    assert writer.all_writers is None


@pytest.mark.parametrize("name", ["log_dir", "logdir"])
def test_a_writer_takes_both_names_of_its_folder_and_a_path(tmp_path: Path, name: str) -> None:
    keyword: dict[str, Any] = {name: tmp_path / "runs"}
    with SummaryWriter(**keyword) as writer:
        writer.add_scalar("test", 1)
    assert (tmp_path / "runs").is_dir()


def test_closing_twice_and_flushing_after_the_close_do_nothing(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path, strict=True)
    writer.add_scalar("test", 1, 3)
    writer.close()
    writer.close()
    writer.flush()


def test_defaults_of_a_block_are_those_of_its_calls(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        with writer.use_metadata(global_step=10):
            writer.add_scalar("loss", 3.0)
            writer.add_text("t", "x", 11)
        writer.add_scalar("loss", 4.0)

    assert [said.step for said in written(tmp_path, write)] == [10, 11, 0]
