"""The records of each call of Telemetry, read from a recording as a logger reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.records.recordings import Said
from support.running.spoken import read_recording, read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Chart,
    Embedding,
    Graph,
    GraphNode,
    HParams,
    Images,
    Layout,
    Matrix,
    Message,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
    Text,
)
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, read_destination
from tensorboard_sidecar.telemetry.values.summaries import Summarizer

Say = Callable[[Telemetry], object]


def said_by(folder: Path, say: Say, **settings: Any) -> list[Said]:
    """Return the messages between the start and the end of a run."""
    with Telemetry("run", endpoint=None, record=folder, strict=True, **settings) as telemetry:
        say(telemetry)
    start, *said, end = read_said(folder)
    assert isinstance(start.message, RunStart)
    assert end.message == RunEnd("completed")
    return said


def one(folder: Path, say: Say) -> Message:
    """Return the only message, of step 7."""
    [said] = said_by(folder, say)
    assert said.step == 7
    return said.message


def test_a_run_is_started_with_its_config_and_ended_at_its_last_step(tmp_path: Path) -> None:
    config = {"lr": np.float64(0.1), "epochs": 3, "compile": False, "name": "x"}
    with Telemetry(
        "team/run",
        endpoint=None,
        record=tmp_path,
        strict=True,
        attempt=np.int64(2),  # type: ignore[arg-type]
        rank=np.int32(1),  # type: ignore[arg-type]
        first_step=torch.tensor(100),  # type: ignore[arg-type]
        config=config,
    ) as telemetry:
        telemetry.text(130, "note", "hello")
        assert telemetry.run == "team/run"
        assert "team/run" in repr(telemetry)
    assert read_said(tmp_path) == [
        Said(100, RunStart(100, {"lr": 0.1, "epochs": 3, "compile": False, "name": "x"})),
        Said(130, Text("note", "hello")),
        Said(130, RunEnd("completed")),
    ]
    [folder] = {segment.parent for segment in tmp_path.rglob("*.segment")}
    assert folder.parent == tmp_path / "team/run"
    assert folder.name.startswith("stream-0002-0001-")


def test_a_program_that_changes_its_working_folder_records_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra changes the working folder for each run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Telemetry(
        "run", endpoint=None, record="here", strict=True, outbox_dir="memory", spill_dir="disk"
    ) as telemetry:
        assert telemetry.writer.get_logdir() == str(tmp_path / "here/run")
        monkeypatch.chdir(tmp_path / "elsewhere")
        telemetry.scalars(1, {"a": 1.0})
    assert len(read_said(tmp_path / "here")) == 3
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"here", "elsewhere", "memory", "disk"}


def test_a_resumed_run_without_a_step_ends_where_it_began(tmp_path: Path) -> None:
    Telemetry("run", endpoint=None, record=tmp_path, strict=True, first_step=100).close()
    assert [said.step for said in read_said(tmp_path)] == [100, 100]


def test_records_carry_growing_numbers_and_wall_times(tmp_path: Path) -> None:
    said_by(tmp_path, lambda telemetry: [telemetry.scalars(step, {"a": step}) for step in range(50)])
    records = read_recording(tmp_path)
    times = [record.wall_time_ns for record in records]
    assert times == sorted(times)
    assert 1.6e18 < times[0] < 1e19
    assert [record.sequence for record in records] == list(range(1, 53))


def test_the_endpoint_none_means_to_record_only(outboxes: Path, tmp_path: Path) -> None:
    """As ``--endpoint none`` does; the text is what an outbox without a logger says of its destination."""
    with Telemetry("run", endpoint="none", record=tmp_path, strict=True) as telemetry:
        telemetry.text(1, "note", "hello")
        [outbox] = find_outboxes(outboxes)
        assert read_destination(outbox) == Destination(NO_LOGGER, tmp_path.resolve())
    assert [said.message for said in read_said(tmp_path)[1:-1]] == [Text("note", "hello")]
    assert find_outboxes(outboxes) == []


@pytest.mark.parametrize("endpoint", [None, "", "none"])
@pytest.mark.parametrize("record", [None, ""])
def test_a_telemetry_that_would_be_kept_nowhere_is_refused_at_the_start(
    endpoint: str | None, record: str | None, outboxes: Path
) -> None:
    with pytest.raises(ValueError, match="nowhere to send telemetry: give an endpoint, a record folder, or both"):
        Telemetry("run", endpoint=endpoint, record=record)
    assert find_outboxes(outboxes) == []


@pytest.mark.parametrize("one_half", [0.5, torch.tensor(0.5), np.float32(0.5), torch.tensor([0.5], requires_grad=True)])
def test_scalars_of_a_step_are_one_record(tmp_path: Path, one_half: Any) -> None:
    message = one(tmp_path, lambda telemetry: telemetry.scalars(7, {"loss/a": one_half, "b": 3, "c": torch.tensor(2)}))
    assert message == Scalars({"loss/a": 0.5, "b": 3.0, "c": 2.0})


@pytest.mark.parametrize(
    "values", [{"a": None, "b": 1.0}, {5.0: 0.5, "b": 1.0}, {None: 0.5, "b": 1.0}, {"a": [], "b": 1}]
)
def test_one_bad_scalar_costs_itself_alone(
    tmp_path: Path, values: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.scalars(7, values)
        assert telemetry.faults.total == 1
    assert read_said(tmp_path)[1:-1] == [Said(7, Scalars({"b": 1.0}))]
    assert f"{next(iter(values))!r} is not kept" in caplog.text


def test_a_gradient_that_is_none_or_sparse_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gradients: dict[str, Any] = {"frozen": None, "embedding": torch.eye(3).to_sparse(), "linear": torch.ones(3)}
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.summaries(7, gradients)
        telemetry.summaries(8, {"frozen": None})  # type: ignore[dict-item]
        assert telemetry.faults.total == 3
    [said] = read_said(tmp_path)[1:-1]
    assert isinstance(said.message, TensorSummaries)
    assert list(said.message.summaries) == ["linear"]
    assert "'frozen' is not kept: None; expected a tensor" in caplog.text


def test_one_bad_metric_costs_itself_alone(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.hparams(7, {"lr": 0.1}, {"best": None, "last": 0.5})  # type: ignore[dict-item]
        assert telemetry.faults.total == 1
    assert read_said(tmp_path)[1:-1] == [Said(7, HParams({"lr": 0.1}, {"last": 0.5}))]


def test_scalars_of_no_tag_are_a_record_all_the_same(tmp_path: Path) -> None:
    assert one(tmp_path, lambda telemetry: telemetry.scalars(7, {})) == Scalars({})


def test_host_values_are_kept_as_they_were_when_the_call_returned(tmp_path: Path) -> None:
    values: dict[str, Any] = {"tensor": torch.ones(3, 3), "array": np.ones((3, 3), np.float32)}

    def say(telemetry: Telemetry) -> None:
        for tag, value in values.items():
            telemetry.matrix(7, tag, value)
            telemetry.summaries(7, {tag: value})
            value[:] = 5

    for said in said_by(tmp_path, say):
        if isinstance(said.message, Matrix):
            assert (said.message.values.numpy() == 1).all()
        else:
            assert isinstance(said.message, TensorSummaries)
            assert {summary.maximum for summary in said.message.summaries.values()} == {1.0}


def test_summaries_of_a_step_are_one_record(tmp_path: Path) -> None:
    tensors = {f"weights/{n}": torch.randn(n, n) for n in range(4)}
    message = one(tmp_path, lambda telemetry: telemetry.summaries(7, {**tensors, "array": np.arange(5)}))
    expected = Summarizer().summarize_all({**tensors, "array": torch.arange(5)})
    assert message == TensorSummaries(expected)


@pytest.mark.parametrize(
    ("values", "value_range", "dtype"),
    [
        (torch.rand(3, 4), (-1.0, 1.0), "float16"),
        (torch.rand(3, 4).half(), (0.0, 1024.0), "float16"),
        (torch.rand(3, 4), (0.0, 2000.0), "float32"),
        (torch.rand(3, 4), None, "float32"),
        (torch.rand(3, 4).bfloat16(), None, "float32"),
        (torch.rand(3, 4).double(), (-1.0, 1.0), "float32"),
        (torch.arange(12).reshape(3, 4), None, "float32"),
        (np.eye(3, 4), None, "float32"),
        (torch.rand(4, 3).T, None, "float32"),
    ],
)
def test_a_matrix_travels_as_small_floats(
    tmp_path: Path, values: Any, value_range: tuple[float, float] | None, dtype: str
) -> None:
    labels = {"title": "t", "row_label": "r", "column_label": "c"}
    message = one(tmp_path, lambda telemetry: telemetry.matrix(7, "m", values, value_range=value_range, **labels))
    expected = torch.as_tensor(values).float().numpy().astype(dtype)
    assert message == Matrix("m", pack_array(expected), "t", "r", "c", value_range)


def test_a_range_of_numpys_numbers_is_one_of_floats(tmp_path: Path) -> None:
    ends: Any = (np.float32(0.0), np.float32(1.0))
    message = one(tmp_path, lambda telemetry: telemetry.matrix(7, "m", torch.rand(2, 2), value_range=ends))
    assert isinstance(message, Matrix)
    assert message.value_range == (0.0, 1.0)


def test_pictures_travel_as_bytes(tmp_path: Path) -> None:
    pictures = torch.rand(2, 3, 4, 5)
    message = one(tmp_path, lambda telemetry: telemetry.images(7, "i", pictures, ["first", "second"]))
    expected = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert message == Images("i", pack_array(expected), ["first", "second"])


def test_what_is_kept_but_not_as_given_is_said_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    normalised, loud = torch.tensor([[-2.0, 0.5, 2.5]]), torch.tensor([0.0, 9000.0])
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        for step in range(2):
            telemetry.images(step, "i", normalised)
            telemetry.writer.add_images("n", normalised[None, None], step)
            telemetry.audio(step, "a", [loud], sample_rate_hz=16_000)
            telemetry.embedding(step, "e", torch.ones(1, 2), images=normalised[None, None])
            telemetry.matrix(step, "m", torch.eye(2), value_range=(1.0, -1.0))
        assert telemetry.faults.total == 10
    kept = [said.message for said in read_said(tmp_path)[1:-1]]
    assert [type(message) for message in kept] == [Images, Images, Audio, Embedding, Matrix] * 2
    pictures, _, sound, embedding, matrix = kept[:5]
    assert isinstance(pictures, Images)
    assert list(pictures.images.data) == [0, 128, 255]
    assert isinstance(sound, Audio)
    assert sound.clips[0].numpy().flatten().tolist() == [0, 32767]
    assert isinstance(embedding, Embedding)
    assert embedding.thumbnails is not None
    assert isinstance(matrix, Matrix)
    assert matrix.value_range is None
    warnings = [record.getMessage() for record in caplog.records if "logged once" in record.getMessage()]
    assert [message.split(" (logged")[0] for message in warnings] == [
        "telemetry.images: OutOfScale: pictures of floats: values from -2 to 2.5; expected 0..1; clipped",
        "telemetry.audio: OutOfScale: sound of floats: values from 0 to 9000; expected -1..1; clipped",
        "telemetry.embedding: OutOfScale: pictures of floats: values from -2 to 2.5; expected 0..1; clipped",
        "telemetry.matrix: Cut: value_range: not used for 'm': value_range 1.0, -1.0; expected finite low < high",
    ]


def test_text_travels_as_it_is(tmp_path: Path) -> None:
    text = "# größe \U0001f600\n| a | b |\n"
    assert one(tmp_path, lambda telemetry: telemetry.text(7, "t", text)) == Text("t", text)


def test_audio_travels_as_16_bits(tmp_path: Path) -> None:
    clips: list[Any] = [torch.tensor([0.0, 1.0, -1.0]), np.array([[1, 2], [3, 4]], np.int16)]
    message = one(
        tmp_path, lambda telemetry: telemetry.audio(7, "a", clips, sample_rate_hz=16_000, captions=["x", "y"])
    )
    first, second = np.array([[0], [32767], [-32767]], np.int16), np.array([[1, 3], [2, 4]], np.int16)
    assert message == Audio("a", [pack_array(first), pack_array(second)], 16_000, ["x", "y"])


def test_an_embedding_travels_with_its_metadata_and_thumbnails(tmp_path: Path) -> None:
    vectors, images = torch.rand(3, 4).double(), torch.rand(3, 1, 100, 50)
    metadata = {"caption": ["a", "b", "c"], "number": [1, 2.5, None]}
    message = one(
        tmp_path,
        lambda telemetry: telemetry.embedding(7, "e", vectors, metadata=metadata, images=images),  # type: ignore[arg-type]
    )
    assert isinstance(message, Embedding)
    np.testing.assert_array_equal(message.vectors.numpy(), vectors.float().numpy())
    assert (message.columns, message.rows) == (["caption", "number"], [["a", "1"], ["b", "2.5"], ["c", "None"]])
    assert message.thumbnails is not None
    assert message.thumbnails.shape == (3, 64, 32, 3)


def test_an_embedding_of_many_points_travels_in_parts_of_one_step(tmp_path: Path) -> None:
    vectors = torch.arange(120_000.0).reshape(120_000, 1)
    said = said_by(tmp_path, lambda telemetry: telemetry.embedding(7, "e", vectors, metadata={"n": range(120_000)}))  # type: ignore[dict-item]
    parts = [part.message for part in said if isinstance(part.message, Embedding)]
    assert [part.step for part in said] == [7] * len(said) == [7] * len(parts)
    assert (parts[0].first_row, {part.row_count for part in parts}) == (0, {120_000})
    assert np.array_equal(np.concatenate([part.vectors.numpy() for part in parts]), vectors.numpy())
    assert [row for part in parts for row in part.rows] == [[str(number)] for number in range(120_000)]


def test_what_cannot_be_kept_of_an_embedding_is_counted_and_said_once_and_costs_no_point(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        for step in (1, 2):
            metadata = {f"c{number}": ["x" * 10_000] for number in range(40)}
            telemetry.embedding(step, "e", torch.ones(2, 3, 4), metadata=metadata, images=torch.ones(3, 3, 4, 4))
        assert telemetry.faults.total == 6
    for noted in ("vectors of shape [2, 3, 4]", "metadata: 1 cells for 2 points", "images are left out"):
        assert caplog.text.count(noted) == 1
    for said in read_said(tmp_path)[1:-1]:
        assert isinstance(said.message, Embedding)
        assert said.message.vectors == pack_array(np.ones((2, 12), np.float32))
        assert [len(cell) for cell in said.message.rows[0]] == [4_096] * 32
        assert said.message.rows[1] == ["-"] * 32


def test_an_embedding_needs_nothing_but_vectors(tmp_path: Path) -> None:
    message = one(tmp_path, lambda telemetry: telemetry.embedding(7, "e", np.ones((2, 3), np.float32)))
    assert message == Embedding("e", pack_array(np.ones((2, 3), np.float32)))


def test_hyperparameters_graph_and_layout_travel_as_they_are(tmp_path: Path) -> None:
    graph = Graph([GraphNode("input", "Input"), GraphNode("model/linear", "Linear", ["input"], [[2, 3]], {"a": "b"})])
    layout = {"Losses": {"all": Chart("multiline", ["^loss/.*$"])}, "Norms": {"n": Chart("margin", ["a", "b", "c"])}}

    def say(telemetry: Telemetry) -> None:
        telemetry.hparams(7, {"lr": np.float32(0.5), "name": "x"}, {"best": torch.tensor(0.25), "last": 1})
        telemetry.graph(8, graph)
        telemetry.layout(9, layout)

    assert said_by(tmp_path, say) == [
        Said(7, HParams({"lr": 0.5, "name": "x"}, {"best": 0.25, "last": 1.0})),
        Said(8, graph),
        Said(9, Layout(layout)),
    ]


def test_steps_are_whatever_is_an_integer(tmp_path: Path) -> None:
    steps = [3, np.int64(4), torch.tensor(5), True, 2**53]
    said = said_by(tmp_path, lambda telemetry: [telemetry.text(step, "t", "x") for step in steps])  # type: ignore[arg-type]
    assert [step for step, _ in said] == [3, 4, 5, 1, 2**53]


def test_health_tells_cost_lag_and_memory(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for step in range(20):
            telemetry.scalars(step, {"a": 1.0})
        health = telemetry.health()
        telemetry.scalars(20, health)
        assert telemetry.lag_seconds >= 0.0
    assert sorted(health) == [
        "telemetry/faults",
        "telemetry/lag_seconds",
        "telemetry/outbox_bytes",
        "telemetry/refused",
        "telemetry/spilled_bytes",
        "telemetry/step_cost_us_p50",
        "telemetry/step_cost_us_p99",
    ]
    assert 0 < health["telemetry/step_cost_us_p50"] <= health["telemetry/step_cost_us_p99"] < 1e6
    assert health["telemetry/outbox_bytes"] > 1000
    assert health["telemetry/refused"] == health["telemetry/faults"] == 0.0


def test_health_counts_what_was_not_kept(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.text(-(2**53) - 1, "t", "x")
        telemetry.writer.add_video("v", None)  # type: ignore[arg-type]
        assert telemetry.health()["telemetry/faults"] == 2.0


def test_health_after_the_end_is_still_told(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    telemetry.close()
    assert telemetry.health()["telemetry/refused"] == 0.0


def test_a_telemetry_that_is_not_enabled_keeps_nothing_and_takes_everything(
    tmp_path: Path, outboxes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for where in ({"record": tmp_path / "records"}, {"log_dir": tmp_path / "runs"}):
        with Telemetry("run", endpoint=None, enabled=False, strict=True, **where) as telemetry:
            telemetry.scalars(1, {"loss": 1.0})
            telemetry.scalars(-1, {"loss": object()})  # type: ignore[dict-item] - anything
            assert telemetry.show()
            assert telemetry.is_shown
            assert telemetry.faults.total == 0
            assert set(telemetry.health().values()) == {0.0}
    assert list(tmp_path.iterdir()) == []
    assert list(outboxes.iterdir()) == []
    assert caplog.records == []


def test_the_start_of_a_run_holds_what_continues_and_the_suffix_of_the_files(tmp_path: Path) -> None:
    settings = {"continues": True, "file_suffix": ".mine", "plain": True}
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True, **settings) as telemetry:
        assert telemetry.show(), "a logger makes the event files"
        assert telemetry.is_shown
    said = read_said(tmp_path)
    assert [one.message for one in said] == [
        RunStart(0, {}, continues=True, file_suffix=".mine"),
        RunEnd("completed", plain=True),
    ]
    [recording] = tmp_path.glob("run/*")
    assert recording.name == telemetry.recording_name


def test_a_log_dir_has_its_own_recording(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the recording of a log_dir lies in it"):
        Telemetry("run", log_dir=tmp_path, record=tmp_path / "records")
    assert list(tmp_path.iterdir()) == []
