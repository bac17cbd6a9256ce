"""Sets of hyperparameters as rows: a folder each, once each, whatever fails."""

import errno
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.records.events import event_files, folder_bytes, load_events, load_folder
from support.records.recordings import START_NS, make_stream
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from tensorboard_sidecar.logger_service.events import hparams_rows
from tensorboard_sidecar.logger_service.events.event_file import EventFile
from tensorboard_sidecar.logger_service.events.hparams_rows import name_of, write_row
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import HParams
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.stream import Stream

TRIAL = HParams({"lr": 0.1, "layers": 3}, {"accuracy": 0.5})
OTHER = HParams({"lr": 0.2, "layers": 3}, {"accuracy": 0.75})
S = 10**9


def record_of(message: HParams, sequence: int, step: int = 0) -> Record:
    return Record(Kind.HPARAMS, sequence, step, START_NS + sequence * S, encode_body(message))


def write(
    logdir: Path, *said: tuple[int, HParams], stream: Stream | None = None, start_ns: int = START_NS
) -> list[bool]:
    """Write by a writer of its own, as after a restart; ``said`` is pairs of sequence number and message."""
    file = EventFile(logdir, stream or make_stream())
    return [write_row(file, message, record_of(message, sequence), start_ns) for sequence, message in said]


def rows(logdir: Path, run: str = "demo") -> dict[str, tuple[dict[str, Any], list[tuple[str, float]]]]:
    """Return, by folder below the run's, the parameters that TensorBoard keeps (the first), and all metrics."""
    found = {}
    for folder in sorted({path.parent for path in (logdir / run).rglob("hparams-*/**/events.out.*")}):
        values = [value for event in load_folder(folder) for value in event.summary.value]
        starts = [value for value in values if value.tag == "_hparams_/session_start_info"]
        start = HParamsPluginData.FromString(starts[0].metadata.plugin_data.content).session_start_info
        parameters = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
        metrics = [(value.tag, value.simple_value) for value in values if not value.tag.startswith("_hparams_/")]
        found[str(folder.relative_to(logdir / run))] = parameters, metrics
    return found


def test_each_set_is_a_row_with_its_own_metrics(tmp_path: Path) -> None:
    assert write(tmp_path, (2, TRIAL), (3, OTHER)) == [True, True]
    assert rows(tmp_path) == {
        name_of(TRIAL.parameters): ({"lr": 0.1, "layers": 3.0}, [("accuracy", 0.5)]),
        name_of(OTHER.parameters): ({"lr": 0.2, "layers": 3.0}, [("accuracy", 0.75)]),
    }


def test_metrics_that_come_later_join_the_row_of_their_parameters(tmp_path: Path) -> None:
    """At the end of the run, after a restart of the logger, and in a later attempt: the last value is shown."""
    later = make_stream(attempt=1, stream_id=b"\1" * 16)
    write(tmp_path, (2, HParams(TRIAL.parameters, {})), (5, OTHER), (9, TRIAL))
    write(tmp_path, (12, HParams(TRIAL.parameters, {"accuracy": 0.625, "loss": 1.0})))
    write(tmp_path, (2, HParams(TRIAL.parameters, {"accuracy": 0.25})), stream=later, start_ns=START_NS + 100 * S)
    metrics = [("accuracy", 0.5), ("accuracy", 0.625), ("loss", 1.0), ("accuracy", 0.25)]
    assert rows(tmp_path)[name_of(TRIAL.parameters)] == ({"lr": 0.1, "layers": 3.0}, metrics)
    assert len(event_files(tmp_path / "demo" / name_of(TRIAL.parameters))) == 3


def test_a_record_is_written_once_also_after_restarts(tmp_path: Path) -> None:
    write(tmp_path, (2, TRIAL), (3, OTHER))
    before = folder_bytes(tmp_path)
    assert write(tmp_path, (2, TRIAL), (3, OTHER)) == [True, True]
    assert write(tmp_path, (3, OTHER)) == [True]
    assert folder_bytes(tmp_path) == before


def test_after_a_kill_at_any_byte_the_row_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "whole", (2, TRIAL))
    name = name_of(TRIAL.parameters)
    (path,) = event_files(tmp_path / "whole" / "demo" / name)
    data = path.read_bytes()
    for size in range(len(data)):
        torn = tmp_path / "cut" / "demo" / name / path.name
        torn.parent.mkdir(parents=True)
        torn.write_bytes(data[:size])
        write(tmp_path / "cut", (2, TRIAL))
        assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
        shutil.rmtree(tmp_path / "cut")


def test_late_records_of_an_earlier_attempt_are_a_row_of_their_own(tmp_path: Path) -> None:
    """Their steps would hide the newer ones."""
    later = make_stream(attempt=1, stream_id=b"\1" * 16)
    write(tmp_path, (9, OTHER), stream=later, start_ns=START_NS + 100 * S)
    write(tmp_path, (9, OTHER))
    name = name_of(OTHER.parameters)
    assert list(rows(tmp_path)) == [name, f"{name}/attempt-0"]


def test_ranks_have_rows_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, (2, TRIAL), stream=make_stream(rank=1))
    assert list(rows(tmp_path)) == [f"rank-1/{name_of(TRIAL.parameters)}"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": math.nan}, {"a": math.nan}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 2**60}, {"a": 2**60 + 1}, False),
        ({"a": 0.1}, {"a": 0.1 + 2**-55}, False),
        ({"a": 1}, {"a": 1, "late": 3}, False),
        ({"a": "b', 'c"}, {"a": "b", "c": ""}, False),
        ({"\N{SNOWMAN}": 1}, {"\N{COMET}": 1}, False),
        ({}, {"": 1}, False),
    ],
)
def test_rows_are_the_same_when_their_parameters_are(one: dict[str, Any], other: dict[str, Any], equal: bool) -> None:
    assert (name_of(one) == name_of(other)) is equal


def test_a_run_has_a_bounded_number_of_rows_and_those_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hparams_rows, "ROWS_MAX", 2)
    trials = [HParams({"trial": trial}, {"accuracy": float(trial)}) for trial in range(4)]
    assert write(tmp_path, *enumerate(trials, 2)) == [True, True, False, False]
    assert write(tmp_path, (9, trials[1]), (10, trials[2])) == [True, False]
    assert sorted(parameters["trial"] for parameters, _ in rows(tmp_path).values()) == [0.0, 1.0]
    assert write(tmp_path, (2, trials[3]), stream=make_stream("demo-2")) == [True]


def test_many_sets_that_take_turns_keep_few_writers_and_lose_nothing(tmp_path: Path) -> None:
    trials = [HParams({"trial": trial}, {"accuracy": float(trial)}) for trial in range(20)]
    assert all(write(tmp_path, *enumerate(trials * 2, 2)))
    assert [len(metrics) for _, metrics in rows(tmp_path).values()] == [2] * 20


def test_rows_stay_inside_of_the_log_directory(tmp_path: Path) -> None:
    outside, logdir = tmp_path / "outside", tmp_path / "log"
    outside.mkdir()
    (logdir / "demo").mkdir(parents=True)
    (logdir / "demo" / name_of(TRIAL.parameters)).symlink_to(outside)
    with pytest.raises(PermissionError, match="outside"):
        write(logdir, (2, TRIAL))
    assert not list(outside.iterdir())


def test_a_row_is_durable_before_it_counts_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of the run say afterwards that the record is done: it would not be written again."""

    def sick(_: int) -> None:
        raise OSError(errno.EIO, "sick disk")

    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.event_file.os.fsync", sick)
        with pytest.raises(OSError, match="sick disk"):
            write(tmp_path, (2, TRIAL))
    assert write(tmp_path, (2, TRIAL)) == [True]
    assert [metrics for _, metrics in rows(tmp_path).values()] == [[("accuracy", 0.5)]]


def test_names_and_times_come_from_the_records(tmp_path: Path) -> None:
    write(tmp_path, (2, TRIAL))
    (path,) = event_files(tmp_path / "demo" / name_of(TRIAL.parameters))
    assert path.name == f"events.out.tfevents.{START_NS // S}.0000.00010203.0000"
    assert [event.wall_time for event in load_events(path)] == [START_NS / S, START_NS / S + 2]
