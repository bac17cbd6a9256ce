"""The main job with real processes: data, trainer, logger, TensorBoard; two epochs, shared by all tests."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.records import expected
from support.records.events import folder_bytes, load_folder
from support.running.job import EPOCHS, LOG_INTERVAL, RUN, TRAINER, Job
from support.running.programs import run_command
from support.running.tensorboard import TensorBoard
from tensorboardX.proto.graph_pb2 import GraphDef

from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader

pytestmark = [pytest.mark.system]

# TensorBoard's fast loader answers a request for a histogram after 40 ms, in which both processes wait.
REQUESTS_AT_ONCE = 8


def steps_of(job: Job) -> int:
    """Return the training steps of the run: the largest step of its records."""
    folder = next((job.logger.recordings / RUN).iterdir())
    reader, last = RecordingReader(folder), 0
    while records := reader.read():
        last = max(last, *(record.step for record in records))
    return last


def points(tensorboard: TensorBoard, plugin: str, tag: str) -> list:
    """Return the data that the plugin's page draws for a tag."""
    if plugin in ("images", "audio"):
        return tensorboard.get(f"plugin/{plugin}/{plugin}", run=RUN, tag=tag, sample=0)
    return tensorboard.get(f"plugin/{plugin}/{plugin}", run=RUN, tag=tag)


def test_every_scalar_has_its_number_of_points(tensorboard: TensorBoard, job: Job) -> None:
    steps = steps_of(job)
    for tag in expected.EACH_LOG_INTERVAL:
        assert len(points(tensorboard, "scalars", tag)) == len(range(LOG_INTERVAL, steps + 1, LOG_INTERVAL)), tag
    for tag in expected.EACH_EPOCH:
        assert [point[1] for point in points(tensorboard, "scalars", tag)] == [steps // 2, steps], tag


def test_nothing_but_the_named_scalars_the_findings_and_the_hyperparameters_metrics_is_shown(
    tensorboard: TensorBoard,
) -> None:
    tags = set(tensorboard.get("plugin/scalars/tags")[RUN])
    others = tags - {*expected.EACH_LOG_INTERVAL, *expected.EACH_EPOCH, "findings/open"}
    assert {tag for tag in others if not tag.startswith("hparam/")} == set()


def test_pictures_are_shown_each_epoch(tensorboard: TensorBoard) -> None:
    tags = tensorboard.get("plugin/images/tags")[RUN]
    assert set(tags) == {*expected.IMAGES_EACH_EPOCH, *expected.OVERVIEWS}
    for tag in tags:
        shown = points(tensorboard, "images", tag)
        assert len(shown) == EPOCHS, tag
        png = tensorboard.get_bytes("data/plugin/images/individualImage?" + shown[-1]["query"])
        assert png.startswith(b"\x89PNG"), tag


def test_texts_are_shown(tensorboard: TensorBoard) -> None:
    assert "samples/captions" in tensorboard.get("plugin/text/tags")[RUN]
    shown = points(tensorboard, "text", "samples/captions")
    assert len(shown) == EPOCHS
    assert "<table>" in shown[-1]["text"]


def test_sound_is_playable(tensorboard: TensorBoard) -> None:
    assert "samples/audio" in tensorboard.get("plugin/audio/tags")[RUN]
    shown = points(tensorboard, "audio", "samples/audio")
    assert len(shown) == EPOCHS
    assert tensorboard.get("plugin/audio/tags")[RUN]["samples/audio"]["samples"] == 6  # the validation split
    wav = tensorboard.get_bytes("data/plugin/audio/individualAudio?" + shown[-1]["query"])
    assert wav[:4] == b"RIFF"
    assert wav[8:12] == b"WAVE"


@pytest.mark.parametrize("plugin", ["histograms", "distributions"])
def test_every_parameter_has_weights_and_gradients(tensorboard: TensorBoard, plugin: str) -> None:
    tags = set(tensorboard.get(f"plugin/{plugin}/tags")[RUN])
    weights = {tag.removeprefix("weights") for tag in tags if tag.startswith("weights/")}
    gradients = {tag.removeprefix("gradients") for tag in tags if tag.startswith("gradients/")}
    assert weights == gradients
    assert len(weights) > 50
    assert "." not in "".join(tags)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        shown = requests.map(lambda tag: points(tensorboard, plugin, tag), tags)
        for tag, found in zip(tags, shown, strict=True):
            assert len(found) == EPOCHS, tag


def test_projector_has_every_embedding_of_each_epoch(tensorboard: TensorBoard) -> None:
    assert RUN in tensorboard.get("plugin/projector/runs")
    info = tensorboard.get("plugin/projector/info", run=RUN)
    names = [embedding["tensorName"] for embedding in info["embeddings"]]
    for name in expected.PROJECTOR:
        assert len([found for found in names if re.match(rf"{name}\b", found)]) == EPOCHS, (name, names)
    for embedding in info["embeddings"]:
        rows, columns = embedding["tensorShape"]
        tensor = tensorboard.get_bytes("data/plugin/projector/tensor", run=RUN, name=embedding["tensorName"])
        assert len(tensor) == rows * columns * 4
        metadata = tensorboard.get_bytes("data/plugin/projector/metadata", run=RUN, name=embedding["tensorName"])
        lines = metadata.decode().splitlines()
        assert lines[0].split("\t") == ["caption", "modality", "image"]
        assert len(lines) == rows + 1
        sprite = tensorboard.get_bytes("data/plugin/projector/sprite_image", run=RUN, name=embedding["tensorName"])
        assert sprite.startswith(b"\x89PNG")


def test_graph_shows_the_modules(tensorboard: TensorBoard) -> None:
    assert RUN in tensorboard.get("plugin/graphs/info")
    graph = tensorboard.get_bytes("data/plugin/graphs/graph", run=RUN).decode()
    names = re.findall(r'name: "([^"]+)"', graph)
    assert {"text_encoder", "image_encoder", "audio_encoder"} <= {name.split("/")[0] for name in names}


def test_hyperparameters_are_shown_with_their_metrics(tensorboard: TensorBoard) -> None:
    from urllib.request import Request, urlopen  # noqa: PLC0415 - used by this test alone

    body = json.dumps(
        {
            "experimentName": "",
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 10,
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        }
    ).encode()
    request = Request(
        f"{tensorboard.address}/data/plugin/hparams/session_groups", body, {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=30) as answer:
        groups = json.load(answer)["sessionGroups"]
    assert groups[0]["hparams"]["batch_size"] == 8
    assert {value["name"]["tag"] for value in groups[0]["metricValues"]} >= {"hparam/best_val_loss"}


def test_custom_layouts_are_shown(tensorboard: TensorBoard) -> None:
    layout = tensorboard.get("plugin/custom_scalars/layout")
    categories = {category["title"]: category for category in layout["category"]}
    assert set(categories) == set(expected.LAYOUT)
    charts = [chart for category in categories.values() for chart in category["chart"]]
    for pattern in (pattern for chart in charts for pattern in chart.get("multiline", {}).get("tag", [])):
        found = tensorboard.get("plugin/custom_scalars/scalars", run=RUN, tag=pattern)
        assert found["tag_to_events"], pattern


@pytest.mark.parametrize("source", ["journal", "local recording"])
def test_event_files_of_serve_equal_those_of_replay_byte_for_byte(job: Job, tmp_path: Path, source: str) -> None:
    recordings = job.logger.recordings if source == "journal" else job.local_recordings
    replayed = run_command("replay", recordings, "--logdir", tmp_path / "replayed")
    assert replayed.returncode == 0, replayed.stderr
    live, again = folder_bytes(job.logger.logdir), folder_bytes(tmp_path / "replayed")
    assert any("tfevents" in name for name in live)
    assert live.keys() == again.keys()
    assert [name for name in live if live[name] != again[name]] == []


def test_run_and_recording_verify_clean(job: Job) -> None:
    for folder in (job.logger.recordings, job.local_recordings, job.logger.logdir):
        verified = run_command("verify", folder)
        assert verified.returncode == 0, verified.stdout + verified.stderr


def test_trainer_says_where_things_are_and_what_telemetry_cost(job: Job) -> None:
    for said in ("best validation loss", "Recall@1", "telemetry", RUN):
        assert said.lower() in job.output.lower()


# Values that depend on the time, or on where the run's records went.
ITS_OWN = ("telemetry/", "_hparams_/", "run/config", "findings")


def shown_values(folder: Path) -> dict[tuple[str, int], list[bytes]]:
    """Return the values in event files by tag and step, without record ids and values specific to a run."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for event in load_folder(folder):
        if event.HasField("graph_def"):
            graph = GraphDef.FromString(event.graph_def)
            del graph.node[0].attr["_telemetry_id"]
            found["graph", event.step] = [graph.SerializeToString(deterministic=True)]
        for value in event.summary.value:
            if not value.tag.startswith(ITS_OWN):
                value.ClearField("node_name")
                found.setdefault((value.tag, event.step), []).append(value.SerializeToString(deterministic=True))
    return found


def shown_files(folder: Path) -> dict[str, bytes]:
    """Return the files beside event files: the projector's points, captions and pictures."""
    return {name: data for name, data in folder_bytes(folder).items() if "tfevents" not in name}


def test_a_run_with_no_logger_at_all_replays_to_the_same_files(job: Job, data: Path, tmp_path: Path) -> None:
    options = ("--root_dir", data, "--run", RUN, "--endpoint", "none", "--record", tmp_path / "recordings")
    trained = run_command("train", *options, "--savedir", tmp_path / "checkpoints", *map(str, TRAINER))
    assert trained.returncode == 0, trained.stderr
    replayed = run_command("replay", tmp_path / "recordings", "--logdir", tmp_path / "runs")
    assert replayed.returncode == 0, replayed.stderr
    for shown in (shown_values, shown_files):
        with_logger, without = shown(job.run_directory), shown(tmp_path / "runs" / RUN)
        assert with_logger.keys() == without.keys()
        assert [name for name in with_logger if with_logger[name] != without[name]] == []
    tags = {tag for tag, _ in shown_values(tmp_path / "runs" / RUN)}
    named = {*expected.EACH_LOG_INTERVAL, *expected.EACH_EPOCH, *expected.IMAGES_EACH_EPOCH, *expected.OVERVIEWS}
    assert {tag for tag in named if not tag.startswith("telemetry/")} <= tags
