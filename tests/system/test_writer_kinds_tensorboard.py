"""The kinds that a SummaryWriter makes, as TensorBoard's HTTP interface shows them, with both loaders."""

import io
import json
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from support.records.recordings import Said, make_stream, write_recording
from support.running.tensorboard import Loader, TensorBoard, running_tensorboard
from tensorboardX.proto.event_pb2 import Event as EventProto
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Boxes,
    Event,
    Histogram,
    HParams,
    Mesh,
    Overlay,
    Point,
    PrCurve,
    PrCurveRaw,
    RunStart,
    Scalars,
    Tensor,
    Video,
)

pytestmark = pytest.mark.system

LOADERS: tuple[Loader, ...] = ("fast", "slow")
GRAPH = GraphDef(node=[NodeDef(name="encoder/linear", op="Linear"), NodeDef(name="head", op="Linear")])
SUMMARY = Summary(value=[Summary.Value(tag="foreign/a", simple_value=1.5), Summary.Value(tag="b", simple_value=2.5)])
VERTICES = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
RAW_ROWS = np.array([[3, 1], [2, 0], [1, 3], [0, 2], [0.6, 1], [1, 0.5]], np.float32)


def said() -> list[Said]:
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 2, 100).astype(np.uint8), random.uniform(size=100).astype(np.float32)
    pictures = random.integers(0, 256, (2, 3, 8, 10, 3), np.uint8)
    edges = pack_array(np.array([0.0, 1.0, 2.0]))
    corners = pack_array(np.array([[1, 1, 6, 6]], np.float32))
    clip = pack_array(np.arange(50, dtype=np.int16)[:, None])
    return [
        Said(0, RunStart(file_suffix=".mine")),
        *(Said(step, Scalars({"plain": float(step)})) for step in (-1, 0, 1)),
        *(Said(step, Point("float", step / 10, "float")) for step in (-1, 0, 1)),
        *(Said(step, Point("double", step / 10, "double", "A title", "some **bold** text")) for step in (1, 2)),
        *(Said(step, Point("described", 0.5, "float", "Another title", "a **bold** word")) for step in (1, 2)),
        *(Said(step, Overlay("loss", {"loss_train": float(step), "loss_val": -float(step)})) for step in (1, 2, 3)),
        *(Said(step, PrCurve("pr", pack_array(labels), pack_array(predictions), 5)) for step in (1, 2)),
        Said(1, PrCurveRaw("raw", pack_array(RAW_ROWS))),
        Said(1, Mesh("cloud", pack_array(VERTICES), pack_array(np.full((1, 4, 3), 7, np.uint8)))),
        Said(2, Video("video", pack_array(pictures), 5.0)),
        Said(2, Boxes("boxes", pack_array(pictures[0, 0]), corners, ["cat"], 2.0)),
        Said(2, Histogram("finished", -1.0, 2.0, 6.0, 3.0, 5.0, edges, pack_array(np.array([1.0, 2.0, 3.0])))),
        Said(2, Tensor("tensor", pack_array(np.arange(6).reshape(2, 3)))),
        Said(2, Audio("say", [clip], 8_000, single=True)),
        Said(3, Event(EventProto(summary=SUMMARY).SerializeToString())),
        Said(3, Event(EventProto(summary=SUMMARY).SerializeToString(), "elsewhere")),
        Said(3, Event(EventProto(graph_def=GRAPH.SerializeToString()).SerializeToString())),
        Said(4, HParams({"lr": 0.1, "name": "a"}, {"accuracy": 0.5}, "trial_1", {"lr": [0.1, 0.2]})),
        Said(4, HParams({"lr": 0.2, "name": "b"}, {"accuracy": 0.6}, "trial_2", {"lr": [0.1, 0.2]})),
    ]


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run with all kinds of a writer, and a second attempt that continues the first."""
    root = tmp_path_factory.mktemp("writer")
    write_recording(root / "recordings", said())
    more = [Said(0, RunStart(continues=True)), Said(0, Scalars({"other": 1.0})), Said(2, Scalars({"plain": 2.0}))]
    write_recording(root / "recordings", more, make_stream(attempt=1, stream_id=b"\1" * 16))
    (first, second) = replay([root / "recordings"], root / "log")
    assert first.counts.drawing_failures == first.counts.malformed == second.counts.malformed == 0
    assert not verify(root / "log").lossy
    return root / "log"


@pytest.fixture(scope="module", params=LOADERS)
def board(request: pytest.FixtureRequest, logdir: Path) -> Iterator[TensorBoard]:
    with running_tensorboard(logdir, logdir.parent / f"{request.param}.log", request.param) as board:
        board.wait_for("the last scalar", lambda board: len(scalars(board, "demo", "plain")) == 4)
        board.wait_for("the last folder", lambda board: "demo/trial_2" in board.get("plugin/scalars/tags"))
        yield board


def scalars(board: TensorBoard, run: str, tag: str) -> list[tuple[int, float]]:
    return [(step, value) for _, step, value in board.get("plugin/scalars/scalars", run=run, tag=tag)]


def test_negative_steps_and_both_attempts_are_one_curve(board: TensorBoard) -> None:
    assert scalars(board, "demo", "plain") == [(-1, -1.0), (0, 0.0), (1, 1.0), (2, 2.0)]


def test_points_of_every_form_are_curves(board: TensorBoard) -> None:
    shown = {tag: scalars(board, "demo", tag) for tag in ("float", "double", "described")}
    assert [step for step, _ in shown["float"]] == [-1, 0, 1]
    assert [value for _, value in shown["float"]] == pytest.approx([-0.1, 0.0, 0.1])
    # TensorBoard's fast loader shows scalars of 64 bits neither from this program nor from torch's writer.
    assert [value for _, value in shown["double"]] == pytest.approx([0.1, 0.2] if board.loader == "slow" else [])
    assert shown["described"] == [(1, 0.5), (2, 0.5)]
    tags = board.get("plugin/scalars/tags")["demo"]
    assert tags["described"]["displayName"] == "Another title"
    assert "<strong>bold</strong>" in tags["described"]["description"]
    assert [tag["displayName"] for name, tag in tags.items() if name == "double"] in ([], ["A title"])


def test_an_overlay_is_one_tag_in_several_runs(board: TensorBoard) -> None:
    assert scalars(board, "demo/loss_train", "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert scalars(board, "demo/loss_val", "loss") == [(1, -1.0), (2, -2.0), (3, -3.0)]
    assert "loss" not in board.get("plugin/scalars/tags")["demo"]


def test_precision_recall_curves_are_shown(board: TensorBoard) -> None:
    assert set(board.get("plugin/pr_curves/tags")["demo"]) == {"pr", "raw"}
    curves = board.get("plugin/pr_curves/pr_curves", tag="pr", run="demo")["demo"]
    assert [curve["step"] for curve in curves] == [1, 2]
    assert len(curves[0]["precision"]) == 4, "at the last threshold there is no positive, and TensorBoard leaves it out"
    (raw,) = board.get("plugin/pr_curves/pr_curves", tag="raw", run="demo")["demo"]
    assert raw["true_positives"] == [3, 1]
    assert raw["precision"] == pytest.approx([0.6, 1.0])


def test_a_mesh_is_shown_with_its_colours(board: TensorBoard) -> None:
    tags = board.wait_for("the mesh", lambda board: board.get("plugin/mesh/tags").get("demo"))
    assert set(tags) == {"cloud"}
    parts = {part["content_type"]: part for part in board.get("plugin/mesh/meshes", tag="cloud", run="demo", sample=0)}
    assert len(parts) == 2
    data = board.get_bytes("data/plugin/mesh/data", tag="cloud", run="demo", content_type="VERTEX", sample=0, step=1)
    assert struct.unpack("<12f", data) == tuple(range(12))
    data = board.get_bytes("data/plugin/mesh/data", tag="cloud", run="demo", content_type="COLOR", sample=0, step=1)
    assert set(data) == {7}


@pytest.mark.parametrize(
    ("tag", "form", "size", "frames"), [("video", "GIF", (20, 8), 3), ("boxes", "PNG", (20, 16), 1)]
)
def test_videos_and_boxes_are_images(
    board: TensorBoard, tag: str, form: str, size: tuple[int, int], frames: int
) -> None:
    (shown,) = board.get("plugin/images/images", run="demo", tag=tag, sample=0)
    data = board.get_bytes("data/plugin/images/individualImage?" + shown["query"] + "&")
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, getattr(image, "n_frames", 1)) == (form, size, frames)


def test_a_finished_histogram_keeps_its_counts(board: TensorBoard) -> None:
    ((_, step, buckets),) = board.get("plugin/histograms/histograms", run="demo", tag="finished")
    assert step == 2
    assert sum(count for _, _, count in buckets) == pytest.approx(6.0)
    assert board.get("plugin/distributions/distributions", run="demo", tag="finished")


def test_a_single_sound_plays(board: TensorBoard) -> None:
    (shown,) = board.get("plugin/audio/audio", run="demo", tag="say", sample=0)
    data = board.get_bytes("data/plugin/audio/individualAudio?" + shown["query"] + "&")
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8_000, 50)


def test_events_of_other_programs_are_shown_at_the_steps_of_their_records(board: TensorBoard) -> None:
    for run in ("demo", "demo/elsewhere"):
        assert scalars(board, run, "foreign/a") == [(3, 1.5)]
        assert scalars(board, run, "b") == [(3, 2.5)]
    assert 'name: "encoder/linear"' in board.get_bytes("data/plugin/graphs/graph", run="demo").decode()


def test_rows_with_folders_have_their_domains_and_their_metrics_there_alone(board: TensorBoard) -> None:
    assert scalars(board, "demo/trial_1", "accuracy") == [(4, 0.5)]
    assert "accuracy" not in board.get("plugin/scalars/tags")["demo"]
    columns = ask_hparams(board, "experiment")["hparamInfos"]
    assert {column["name"]: column.get("domainDiscrete") for column in columns} == {"lr": [0.1, 0.2], "name": None}
    question = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": [], "startIndex": 0, "sliceSize": 99}
    groups = ask_hparams(board, "session_groups", **question)["sessionGroups"]
    assert [(group["name"], group["hparams"]) for group in groups] == [
        ("demo/trial_1", {"lr": 0.1, "name": "a"}),
        ("demo/trial_2", {"lr": 0.2, "name": "b"}),
    ]


def ask_hparams(board: TensorBoard, route: str, **question: Any) -> Any:
    request = Request(
        f"{board.address}/data/plugin/hparams/{route}",
        json.dumps({"experimentName": "", **question}).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())
