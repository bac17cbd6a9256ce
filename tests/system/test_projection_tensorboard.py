"""A projection's event files as TensorBoard's HTTP interface shows them, with both loaders."""

import io
import json
import math
import struct
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from PIL import Image
from support.records.recordings import (
    START_NS,
    Said,
    append_records,
    every_kind,
    make_embedding,
    make_records,
    make_stream,
    write_recording,
)
from support.running.tensorboard import Loader, TensorBoard, running_tensorboard

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.logger_service.events.hparams_rows import name_of
from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap, HParams, RunStart, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record

pytestmark = pytest.mark.system

STEPS = (1, 2, 3, 4, 5)
LOADERS: tuple[Loader, ...] = ("fast", "slow")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run with every kind of message, including a gap, and a second attempt."""
    root = tmp_path_factory.mktemp("projection")
    records = make_records(every_kind(STEPS)[:-1])
    gap = Record(Kind.GAP, len(records) + 1, 5, START_NS + 10**12, encode_body(Gap("outbox full", {"matrix": 4})), 4)
    append_records(root / "recordings" / "first", make_stream(), [*records, gap])
    resumed = [Said(5, RunStart(5)), *(Said(step, Scalars({"loss/total": 0.0})) for step in (6, 7))]
    write_recording(root / "recordings", resumed, make_stream(attempt=1, stream_id=b"\1" * 16))
    replay([root / "recordings"], root / "log")
    return root / "log"


@pytest.fixture(scope="module", params=LOADERS)
def board(request: pytest.FixtureRequest, logdir: Path) -> Iterator[TensorBoard]:
    with running_tensorboard(logdir, logdir.parent / f"{request.param}.log", request.param) as board:
        board.wait_for("the last scalar", lambda board: len(scalars(board, "loss/total")) == 7)
        yield board


def scalars(board: TensorBoard, tag: str) -> list[Any]:
    return list(board.get("plugin/scalars/scalars", run="demo", tag=tag))


def steps(points: list[Any]) -> list[int]:
    return [point["step"] if isinstance(point, dict) else point[1] for point in points]


def test_every_tag_is_shown_as_it_was_sent(board: TensorBoard) -> None:
    tags = {
        plugin: set(board.get(f"plugin/{plugin}/tags")["demo"]) for plugin in ("scalars", "images", "audio", "text")
    }
    # The fast loader shows no scalar of 64 bits.
    doubles = {"pt"} if board.loader == "slow" else set()
    assert tags == {
        "scalars": {
            *("loss/total", "loss/text", "loss/image", "hparam/best", "telemetry/gap_records", "findings/open"),
            *doubles,
        },
        "images": {"similarity/text_vs_image", "samples/images", "samples/plain", "histograms/weights", "vid", "box"},
        "audio": {"samples/audio"},
        "text": {"samples/captions", "samples/audio/captions", "run/config", "telemetry/gaps", "findings"},
    }
    histograms = {*(f"weights/layer{number}.weight" for number in range(3)), "his"}
    assert (
        set(board.get("plugin/histograms/tags")["demo"])
        == set(board.get("plugin/distributions/tags")["demo"])
        == histograms
    )


def test_findings_are_a_card_and_a_curve_that_grow_together(board: TensorBoard) -> None:
    """The gap is found, and every run that ends says what was not checked."""
    shown = board.get("plugin/text/text", run="demo", tag="findings")
    assert steps(shown) == steps(scalars(board, "findings/open"))
    assert len(shown) == len(set(steps(shown)))
    assert any("telemetry-gaps" in card["text"] and "Not checked:" in card["text"] for card in shown)


def test_scalars_of_both_attempts_are_one_curve(board: TensorBoard) -> None:
    points = scalars(board, "loss/total")
    assert steps(points) == [1, 2, 3, 4, 5, 6, 7]
    assert [round(value, 4) for _, _, value in points] == [1.0, 0.5, 0.3333, 0.25, 0.2, 0.0, 0.0]


@pytest.mark.parametrize("tag", ["similarity/text_vs_image", "samples/images", "samples/plain", "histograms/weights"])
def test_pictures_are_there_at_every_step_and_decode(board: TensorBoard, tag: str) -> None:
    shown = board.get("plugin/images/images", run="demo", tag=tag, sample=0)
    assert steps(shown) == list(STEPS)
    data = board.get_bytes("data/plugin/images/individualImage?" + shown[-1]["query"] + "&")
    assert Image.open(io.BytesIO(data)).size > (10, 10)


@pytest.mark.parametrize("sample", [0, 1])
def test_clips_are_samples_of_one_tag_and_play(board: TensorBoard, sample: int) -> None:
    shown = board.get("plugin/audio/audio", run="demo", tag="samples/audio", sample=sample)
    assert steps(shown) == list(STEPS)
    data = board.get_bytes("data/plugin/audio/individualAudio?" + shown[-1]["query"] + "&")
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (16_000, (800, 400)[sample])


def test_texts_are_rendered(board: TensorBoard) -> None:
    captions = board.get("plugin/text/text", run="demo", tag="samples/captions")
    assert steps(captions) == list(STEPS)
    assert "<td>a red circle</td>" in captions[0]["text"]
    (config,) = board.get("plugin/text/text", run="demo", tag="run/config")
    assert "<td>a|b</td>" in config["text"]
    (gap,) = board.get("plugin/text/text", run="demo", tag="telemetry/gaps")
    assert "4 records missing" in gap["text"]


def test_histograms_and_distributions_are_there_at_every_step(board: TensorBoard) -> None:
    for plugin in ("histograms", "distributions"):
        shown = board.get(f"plugin/{plugin}/{plugin}", run="demo", tag="weights/layer0.weight")
        assert steps(shown) == list(STEPS)
    buckets = board.get("plugin/histograms/histograms", run="demo", tag="weights/layer0.weight")[0][2]
    assert sum(count for _, _, count in buckets) == 64


def test_the_graph_is_hierarchical(board: TensorBoard) -> None:
    assert board.get("plugin/graphs/info")["demo"]["run_graph"] is True
    graph = board.get_bytes("data/plugin/graphs/graph", run="demo").decode()
    assert 'name: "model/text/linear"' in graph
    assert 'input: "model/text/linear"' in graph


def test_the_layout_is_taken(board: TensorBoard) -> None:
    titles = [category["title"] for category in board.get("plugin/custom_scalars/layout")["category"]]
    assert titles == ["Training Progress", "Embeddings"]


def ask_hparams(board: TensorBoard, route: str, **question: Any) -> Any:
    request = Request(
        f"{board.address}/data/plugin/hparams/{route}",
        json.dumps({"experimentName": "", **question}).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def hparams_rows(board: TensorBoard) -> list[tuple[str, dict[str, Any], dict[str, float]]]:
    """Return the rows of the HParams tab: run, hyperparameters, metrics."""
    question = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": [], "startIndex": 0, "sliceSize": 99}
    groups = ask_hparams(board, "session_groups", **question).get("sessionGroups", [])
    return [
        (
            group["name"],
            group["hparams"],
            {metric["name"]["tag"]: round(metric["value"], 6) for metric in group.get("metricValues", [])},
        )
        for group in groups
    ]


def test_hyperparameters_and_metrics_are_those_of_the_run(board: TensorBoard) -> None:
    """The columns are the metrics that were given, and not all curves of the run."""
    parameters = {"lr": 0.001, "precision": "bf16", "compile": True}
    assert hparams_rows(board) == [(f"demo/{name_of(parameters)}", parameters, {"hparam/best": 0.25})]


@pytest.mark.parametrize("loader", LOADERS)
def test_every_trial_is_a_row_with_its_own_metrics_and_all_columns_are_there(tmp_path: Path, loader: Loader) -> None:
    """Trials of one run and of several, with other parameters and other metrics; and curves with a metric's name."""
    trials: list[tuple[dict[str, Any], dict[str, float]]] = [
        ({"lr": 0.1, "bsize": 8}, {}),
        ({"lr": 0.2, "bsize": 8}, {"accuracy": 0.2}),
        ({"lr": 0.3, "optimizer": "adam"}, {"accuracy": 0.3, "loss": 3.0}),
        ({"lr": math.inf, "seed": 2**60 + 1, "compile": False}, {"accuracy": 0.4}),
        ({"lr": 0.1, "bsize": 8}, {"accuracy": 0.1}),
    ]
    said = [Said(0, RunStart())]
    for trial, (parameters, metrics) in enumerate(trials):
        said += [Said(10 * trial + step, Scalars({"loss": float(trial), "accuracy": 0.9})) for step in range(10)]
        said.append(Said(10 * trial + 9, HParams(parameters, metrics)))
    write_recording(tmp_path / "recordings", said)
    other = [Said(0, RunStart()), Said(0, HParams({"depth": 3}, {"recall": 0.5}))]
    write_recording(tmp_path / "recordings", other, make_stream("other", stream_id=b"\2" * 16))
    replay([tmp_path / "recordings"], tmp_path / "log")
    with running_tensorboard(tmp_path / "log", tmp_path / "tensorboard.log", loader) as board:
        board.wait_for("the rows", lambda board: len(hparams_rows(board)) == 5)
        rows = {run: (parameters, metrics) for run, parameters, metrics in hparams_rows(board)}
        assert rows == {
            f"demo/{name_of(trials[0][0])}": ({"lr": 0.1, "bsize": 8.0}, {"accuracy": 0.1}),
            f"demo/{name_of(trials[1][0])}": ({"lr": 0.2, "bsize": 8.0}, {"accuracy": 0.2}),
            f"demo/{name_of(trials[2][0])}": ({"lr": 0.3, "optimizer": "adam"}, {"accuracy": 0.3, "loss": 3.0}),
            f"demo/{name_of(trials[3][0])}": (
                {"lr": "inf", "seed": "1152921504606846977", "compile": False},
                {"accuracy": 0.4},
            ),
            f"other/{name_of({'depth': 3})}": ({"depth": 3.0}, {"recall": 0.5}),
        }
        columns = ask_hparams(board, "experiment")
        assert {column["name"] for column in columns["hparamInfos"]} == {
            *("lr", "bsize", "optimizer", "seed", "compile", "depth")
        }
        assert sorted((column["name"]["tag"], column["name"]["group"]) for column in columns["metricInfos"]) == [
            ("accuracy", ""),
            ("loss", ""),
            ("recall", ""),
        ]
        assert len({step for _, step, _ in scalars(board, "loss")}) == 50


def test_the_projector_has_points_metadata_and_sprite(board: TensorBoard) -> None:
    assert board.get("plugin/projector/runs") == ["demo"]
    embeddings = board.get("plugin/projector/info", run="demo")["embeddings"]
    assert [embedding["tensorName"] for embedding in embeddings][:2] == [
        "joint \N{MIDDLE DOT} latest (step 5)",
        "text \N{MIDDLE DOT} latest (step 5)",
    ]
    assert len(embeddings) == 6
    for embedding in embeddings:
        name = embedding["tensorName"]
        points = board.get_bytes("data/plugin/projector/tensor", run="demo", name=name)
        assert len(struct.unpack("<60f", points)) == 60
        metadata = board.get_bytes("data/plugin/projector/metadata", run="demo", name=name).decode().splitlines()
        assert (len(metadata), metadata[0], metadata[1]) == (13, "caption\tmodality", "caption 0\ttext")
        sprite = board.get_bytes("data/plugin/projector/sprite_image", run="demo", name=name)
        assert Image.open(io.BytesIO(sprite)).size == (4 * 8, 4 * 6)


@pytest.mark.parametrize("loader", LOADERS)
def test_no_gap_hides_another(tmp_path: Path, loader: Loader) -> None:
    """Also gaps without a known step."""
    records = make_records([Said(step, Scalars({"a": 1.0})) for step in (1, 2, 3, 0, 0, 4, 0)])
    for place, span in ((3, 1), (4, 1), (6, 3)):
        records[place] = Record(Kind.GAP, place + 1, 0, 0, encode_body(Gap("lost")), span)
    replay([append_records(tmp_path / "recordings", make_stream(), records)], tmp_path / "log")
    with running_tensorboard(tmp_path / "log", tmp_path / "tensorboard.log", loader) as board:
        board.wait_for("the last scalar", lambda board: steps(scalars(board, "a")) == [1, 2, 3, 4])
        shown = [point[1:] for point in scalars(board, "telemetry/gap_records")]
    assert shown == [[3, 1.0], [4, 1.0], [5, 3.0]]


def newest(board: TensorBoard) -> set[str]:
    """Return the entries of the projector's tab, requested like a reload of the page."""
    if "demo" not in board.get("plugin/projector/runs"):
        return set()
    return {embedding["tensorName"] for embedding in board.get("plugin/projector/info", run="demo")["embeddings"]}


@pytest.mark.parametrize("loader", LOADERS)
def test_embeddings_that_a_resumed_attempt_takes_back_are_not_asked_for_any_more(
    tmp_path: Path, loader: Loader
) -> None:
    """Their files are deleted: an old config would point to missing files."""
    said = [Said(0, RunStart()), *(Said(step, make_embedding("joint", seed=step)) for step in (10, 20, 30))]
    write_recording(tmp_path / "recordings", said)
    replay([tmp_path / "recordings"], tmp_path / "log")
    with running_tensorboard(tmp_path / "log", tmp_path / "tensorboard.log", loader) as board:
        board.wait_for("three steps", lambda board: len(newest(board)) == 3)
        resumed = [Said(20, RunStart(20)), Said(21, Scalars({"a": 1.0}))]
        write_recording(tmp_path / "recordings", resumed, make_stream(attempt=1, stream_id=b"\1" * 16))
        replay([tmp_path / "recordings"], tmp_path / "log")
        board.wait_for("two steps", lambda board: len(newest(board)) == 2, 30)
        for name in newest(board):
            assert board.get_bytes("data/plugin/projector/tensor", run="demo", name=name)


@pytest.mark.parametrize(("loader", "reload_seconds"), [("fast", 1.0), ("slow", 0.2)])
def test_embeddings_that_come_later_appear_without_a_restart(
    tmp_path: Path, loader: Loader, reload_seconds: float
) -> None:
    """The plugin reads its config again only when the set of runs changes."""
    folder = tmp_path / "recordings" / "demo"
    said = [Said(0, RunStart()), Said(1, Scalars({"a": 1.0}))]
    said += [Said(step, make_embedding(tag, seed=step)) for step in (10, 20, 30, 40) for tag in ("text", "joint")]
    records = make_records(said)
    with ExitStack() as stack:
        projection = Follower(tmp_path / "recordings", tmp_path / "log")
        stack.callback(projection.close)
        append_records(folder, make_stream(), records[:2])
        while projection.turn(0.0, thorough=True):
            pass
        board = stack.enter_context(
            running_tensorboard(tmp_path / "log", tmp_path / f"{loader}.log", loader, reload_seconds=reload_seconds)
        )
        board.wait_for("the run", lambda board: board.get("runs") == ["demo"])
        assert newest(board) == set()
        for place in range(2, len(records)):
            append_records(folder, make_stream(), [records[place]])
            while projection.turn(0.0, thorough=True):
                pass
            latest = f"{said[place].message.tag} \N{MIDDLE DOT} latest (step {said[place].step})"  # type: ignore[union-attr]
            board.wait_for(latest, lambda board, name=latest: name in newest(board), 30)
        assert len(newest(board)) == 6
        board.wait_for("one marker alone", lambda board: len(board.get("runs")) == 2)
        listing = board.wait_for("the tab", lambda board: board.get("plugins_listing")["projector"]["enabled"])
        assert listing


# Points, dimensions, and whether the points have labels and thumbnails.
LARGE = {"words": (30_522, 768, False), "rows": (120_000, 4, True), "zeros": (30_522, 768, False)}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TensorBoard]:
    """Log embeddings that one record cannot hold, and show them."""
    root = tmp_path_factory.mktemp("large")
    with Telemetry("demo", endpoint=None, record=root / "recordings") as telemetry:
        for step, (tag, (rows, dimensions, labelled)) in enumerate(LARGE.items()):
            vectors = torch.zeros(rows, dimensions) if tag == "zeros" else points_of(rows, dimensions)
            labels = [f"label {row}" for row in range(rows)]
            labels[0] = "x" * 10_000
            columns = {f"c{number}": labels for number in range(40)} if labelled else None
            images = torch.arange(rows).remainder(200)[:, None, None, None].expand(-1, 3, 8, 8) if labelled else None
            telemetry.embedding(step, tag, vectors, metadata=columns, images=images)
        assert telemetry.faults.total == 1  # the metadata of rows
    replay([root / "recordings"], root / "log")
    with running_tensorboard(root / "log", root / "tensorboard.log") as board:
        board.wait_for("the embeddings", lambda board: board.get("plugin/projector/runs") == ["demo"])
        yield board


def points_of(rows: int, dimensions: int) -> Any:
    return torch.arange(rows * dimensions).remainder(1_000_003).float().reshape(rows, dimensions)


@pytest.mark.parametrize("tag", LARGE)
def test_an_embedding_larger_than_a_record_is_shown_whole(large: TensorBoard, tag: str) -> None:
    rows, dimensions, labelled = LARGE[tag]
    embeddings = large.get("plugin/projector/info", run="demo")["embeddings"]
    [embedding] = [embedding for embedding in embeddings if embedding["tensorName"].startswith(tag)]
    assert embedding["tensorShape"] == [rows, dimensions]
    wanted = np.zeros((rows, dimensions)) if tag == "zeros" else points_of(rows, dimensions).numpy()
    for shown in (rows, min(rows, 100_000)):  # the second is what the page asks for
        question = {} if shown == rows else {"num_rows": shown}
        data = large.get_bytes("data/plugin/projector/tensor", run="demo", name=embedding["tensorName"], **question)
        assert np.array_equal(np.frombuffer(data, "<f4").reshape(shown, dimensions), wanted[:shown])
    assert ("metadataPath" in embedding) == ("sprite" in embedding) == labelled
    if labelled:
        metadata = large.get_bytes("data/plugin/projector/metadata", run="demo", name=embedding["tensorName"]).decode()
        head, first, *others = metadata.split("\n")
        assert head.split("\t") == [f"c{number}" for number in range(32)]
        assert first.split("\t") == ["x" * 4_095 + "\N{HORIZONTAL ELLIPSIS}"] * 32
        assert [line.split("\t")[31] for line in others[:-1]] == [f"label {row}" for row in range(1, rows)]
        sheet = large.get_bytes("data/plugin/projector/sprite_image", run="demo", name=embedding["tensorName"])
        assert Image.open(io.BytesIO(sheet)).size == (347 * 8, 347 * 8)
