"""Every method of both peers called by position, in the order of each peer, keeps what a call by name keeps."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from support.running.spoken import read_recording
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboardX import GlobalSummaryWriter as XGlobal
from tensorboardX import SummaryWriter as XWriter
from tensorboardX.writer import FileWriter as XFileWriter
from torch.utils.tensorboard import SummaryWriter as TorchWriter
from torch.utils.tensorboard.writer import FileWriter as TorchFileWriter

from tensorboard_sidecar import GlobalSummaryWriter, SummaryWriter, Telemetry
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.telemetry.writer.event_writer import EventWriter
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

XML: Final = '<net><layers><layer id="0" name="relu" type="ReLU"/></layers></net>'
WRITERS: Final = (WriterMethods, TorchWriter, XWriter)
FILE_WRITERS: Final = (EventWriter, TorchFileWriter, XFileWriter)
GLOBAL_WRITERS: Final = (GlobalSummaryWriter, XGlobal)


def figure() -> Figure:
    made = Figure(figsize=(2, 1), dpi=50)
    made.add_subplot().plot([1, 3, 2])
    return made


AT: Final = {"tag": "t", "global_step": 7, "walltime": 1_700_000_000.0}
COUNTS: Final = {
    name: np.array([2.0, 1.0])
    for name in ("true_positive_counts", "false_positive_counts", "true_negative_counts", "false_negative_counts")
}
CHARTS: Final = {"tags": ["a", "b", "c"], "category": "losses", "title": "both"}
VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "add_audio": {**AT, "snd_tensor": np.ones(9), "sample_rate": 8_000},
    "add_custom_scalars": {"layout": {"A": {"x": ["Multiline", ["a"]]}}},
    "add_custom_scalars_marginchart": CHARTS,
    "add_custom_scalars_multilinechart": CHARTS,
    "add_embedding": {
        **AT,
        "mat": torch.eye(2),
        "metadata": [["cat", "4"], ["bird", "2"]],
        "label_img": torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
        "metadata_header": ["name", "legs"],
    },
    "add_figure": {**AT, "figure": figure, "close": False},
    "add_graph": {
        "model": torch.nn.Identity(),
        "input_to_model": torch.ones(1, 2),
        "verbose": True,
        "use_strict_trace": False,
    },
    "add_histogram": {**AT, "values": np.arange(9.0), "bins": "auto", "max_bins": 2},
    "add_histogram_raw": {
        **AT,
        "min": 0.0,
        "max": 3.0,
        "num": 4,
        "sum": 6.0,
        "sum_squares": 14.0,
        "bucket_limits": [1.5, 3.0],
        "bucket_counts": [2, 2],
    },
    "add_hparams": {
        "hparam_dict": {"lr": 0.1},
        "metric_dict": {"best": 0.5},
        "hparam_domain_discrete": {"lr": [0.1]},
        "run_name": "trial",
        "global_step": 7,
        "name": "other",
    },
    "add_image": {**AT, "img_tensor": np.ones((4, 5, 3)), "dataformats": "HWC"},
    "add_image_with_boxes": {
        **AT,
        "img_tensor": np.ones((4, 5, 3)),
        "box_tensor": np.array([[1, 1, 3, 2]]),
        "rescale": 2,
        "dataformats": "HWC",
        "labels": ["a dog"],
    },
    "add_images": {**AT, "img_tensor": np.ones((2, 4, 5, 3)), "dataformats": "NHWC"},
    "add_mesh": {
        **AT,
        "vertices": torch.ones(1, 3, 3),
        "colors": torch.zeros(1, 3, 3, dtype=torch.int32),
        "faces": torch.tensor([[[0, 1, 2]]]),
        "config_dict": {"material": {"size": 0.5}},
    },
    "add_openvino_graph": {"xmlname": "model.xml"},
    "add_pr_curve": {
        **AT,
        "labels": np.array([0, 1]),
        "predictions": np.array([0.25, 0.5]),
        "num_thresholds": 5,
        "weights": 2.0,
    },
    "add_pr_curve_raw": {
        **AT,
        **COUNTS,
        "precision": np.ones(2),
        "recall": np.array([1.0, 0.5]),
        "num_thresholds": 2,
        "weights": 2.0,
    },
    "add_scalar": {
        **AT,
        "scalar_value": 0.5,
        "new_style": True,
        "double_precision": True,
        "display_name": "shown",
        "summary_description": "*described*",
    },
    "add_scalars": {"main_tag": "t", "tag_scalar_dict": {"a": 0.5}, "global_step": 7, "walltime": 1_700_000_000.0},
    "add_tensor": {**AT, "tensor": torch.ones(2)},
    "add_text": {**AT, "text_string": "second"},
    "add_video": {**AT, "vid_tensor": torch.ones(1, 2, 4, 5, 3), "fps": 8, "dataformats": "NTHWC"},
}
"""A value for each parameter of each method, other than its default."""

FILE_VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "add_event": {"event": b"*\x00", "step": 7, "walltime": 1_700_000_000.0},
    "add_graph": {"graph_profile": GraphDef(), "walltime": 1_700_000_000.0},
    "add_onnx_graph": {"graph": GraphDef(), "walltime": 1_700_000_000.0},
    "add_openvino_graph": {"graph": GraphDef(), "walltime": 1_700_000_000.0},
    "add_summary": {
        "summary": Summary(value=[Summary.Value(tag="t", simple_value=0.5)]),
        "global_step": 7,
        "walltime": 1_700_000_000.0,
    },
}
GLOBAL_VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "add_image": {"tag": "t", "img_tensor": np.ones((4, 5, 3)), "walltime": 1_700_000_000.0, "dataformats": "HWC"},
    "add_scalar": {"tag": "t", "scalar_value": 0.5, "walltime": 1_700_000_000.0},
    "add_text": {"tag": "t", "text_string": "second", "walltime": 1_700_000_000.0},
}
KEEP_NOTHING: Final = {"close", "export_scalars_to_json", "flush", "get_logdir", "getSummaryWriter", "reopen"}
# The parameters of all methods are positional, but for these.
BY_NAME: Final = {"use_metadata"}
# Needs the package onnx: see test_graph_methods. The only parameter is the path.
FROM_ONNX: Final = {"add_onnx_graph"}


def methods(writer: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(writer, callable) if not name.startswith("_")}


def parameters(writer: type, method: str) -> list[str]:
    """Return the names of a method's positional parameters, in its order, without ``self``."""
    found = inspect.signature(getattr(writer, method)).parameters.values()
    return [each.name for each in found if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][1:]


def cases(values: Mapping[str, Mapping[str, Any]], *peers: type) -> list[tuple[type, str]]:
    return [(peer, method) for peer in peers for method in sorted(values) if hasattr(peer, method)]


def test_every_method_of_both_peers_is_in_the_tables() -> None:
    for tables, (_, *peers) in (
        (VALUES, WRITERS),
        (FILE_VALUES, FILE_WRITERS),
        (GLOBAL_VALUES, GLOBAL_WRITERS),
    ):
        known = tables.keys() | KEEP_NOTHING | BY_NAME | FROM_ONNX
        assert set[str]().union(*map(methods, peers)) - known == set()
    values = {name for method in VALUES.values() for name in method}
    theirs = {name for peer, method in cases(VALUES, TorchWriter, XWriter) for name in parameters(peer, method)}
    assert theirs - values == set()


def kept(folder: Path, call: Callable[[WriterMethods], object]) -> list[Record]:
    """Return the records of a call through a strict writer, without start and end; 0 in the place of the present."""
    with Telemetry("run", endpoint=None, record=folder, strict=True) as telemetry:
        call(telemetry.writer)
    records = read_recording(folder)[1:-1]
    return [each if each.wall_time_ns == 1_700_000_000 * 10**9 else each._replace(wall_time_ns=0) for each in records]


def made(values: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: values[name]() if callable(values[name]) and name == "figure" else values[name] for name in names}


@pytest.mark.parametrize(("peer", "method"), cases(VALUES, TorchWriter, XWriter))
def test_a_call_by_position_keeps_what_a_call_by_name_keeps(
    peer: type, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.xml").write_text(XML)
    names = parameters(peer, method)
    values = VALUES[method]
    by_name = kept(tmp_path / "names", lambda writer: getattr(writer, method)(**made(values, names)))
    by_place = kept(tmp_path / "places", lambda writer: getattr(writer, method)(*made(values, names).values()))
    assert by_place == by_name != []


@pytest.mark.parametrize(("peer", "method"), cases(FILE_VALUES, TorchFileWriter, XFileWriter))
def test_a_call_of_the_writer_below_by_position_keeps_what_a_call_by_name_keeps(
    peer: type, method: str, tmp_path: Path
) -> None:
    values = made(FILE_VALUES[method], parameters(peer, method))
    by_name = kept(tmp_path / "names", lambda writer: getattr(writer.file_writer, method)(**values))
    by_place = kept(tmp_path / "places", lambda writer: getattr(writer.file_writer, method)(*values.values()))
    assert by_place == by_name != []


@pytest.mark.parametrize(("peer", "method"), cases(GLOBAL_VALUES, XGlobal))
def test_a_method_of_the_global_writer_has_the_parameters_of_tensorboardxs(peer: type, method: str) -> None:
    assert parameters(GlobalSummaryWriter, method) == parameters(peer, method)


def test_the_constructor_has_the_order_of_both_peers() -> None:
    ours, torchs, theirs = (parameters(writer, "__init__") for writer in (SummaryWriter, TorchWriter, XWriter))
    assert ours[: len(theirs)] == theirs
    assert ours[1 : len(torchs)] == torchs[1:]
    assert (ours[0], torchs[0]) == ("logdir", "log_dir")  # one folder, with two names


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (("HWC", ["a dog"]), {"rescale": 2}),
        (("HWC",), {"labels": ["a dog"], "rescale": 2}),
        ((2, "HWC", ["a dog"]), {}),
        ((2,), {"dataformats": "HWC", "labels": ["a dog"]}),
        ((), {"rescale": 2, "dataformats": "HWC", "labels": ["a dog"]}),
    ],
)
def test_a_picture_with_boxes_takes_the_rest_by_name_in_either_order(
    tmp_path: Path, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    values = VALUES["add_image_with_boxes"]
    first = [values[name] for name in ("tag", "img_tensor", "box_tensor", "global_step", "walltime")]
    by_name = kept(tmp_path / "names", lambda writer: writer.add_image_with_boxes(**values))
    assert by_name == kept(
        tmp_path / "places", lambda writer: writer.add_image_with_boxes(*first, *arguments, **keywords)
    )
