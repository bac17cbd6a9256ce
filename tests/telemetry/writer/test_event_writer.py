"""Summaries and events that other programs make by themselves, kept as bytes."""

from pathlib import Path
from typing import Any

import pytest
import tensorboard.compat.proto.event_pb2 as tensorboard_events
import tensorboard.compat.proto.summary_pb2 as tensorboard_summaries
import tensorboardX.proto.event_pb2 as x_events
import tensorboardX.proto.summary_pb2 as x_summaries
from support.ids import plain
from support.records.recordings import Said
from support.running.writing import kept_with_faults, records, written
from tensorboard.compat.proto.graph_pb2 import GraphDef
from torch.utils.tensorboard.summary import hparams

from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.messages import Event
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods


@pytest.mark.parametrize("events", [tensorboard_events, x_events])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_summary_is_kept_as_the_bytes_of_an_event(tmp_path: Path, events: Any, as_bytes: bool) -> None:
    summaries = tensorboard_summaries if events is tensorboard_events else x_summaries
    summary = summaries.Summary(value=[summaries.Summary.Value(tag="a" * 200, simple_value=0.5)])
    given = summary.SerializeToString() if as_bytes else summary
    expected = events.Event(summary=summary).SerializeToString()
    assert written(tmp_path, lambda writer: writer._get_file_writer().add_summary(given, 7)) == [
        Said(7, Event(expected))
    ]


@pytest.mark.parametrize(("step", "expected"), [(None, 5), (7, 7), (7.0, 7)])
def test_an_event_has_the_step_of_the_call_or_its_own(tmp_path: Path, step: Any, expected: int) -> None:
    summary = tensorboard_summaries.Summary(value=[tensorboard_summaries.Summary.Value(tag="a", simple_value=0.5)])
    event = tensorboard_events.Event(step=5, wall_time=3.0, summary=summary)
    [record] = records(tmp_path, lambda writer: writer.file_writer.add_event(event, step, 20.0))
    assert (record.step, record.wall_time_ns) == (expected, 20 * 10**9)


def test_an_event_without_a_wall_time_has_the_time_of_the_call(tmp_path: Path) -> None:
    """Torch's writer, too, overwrites the event's own time."""
    event = tensorboard_events.Event(wall_time=3.0, summary=tensorboard_summaries.Summary())
    [record] = records(tmp_path, lambda writer: writer.file_writer.add_event(event))
    assert record.wall_time_ns > 10**18


@pytest.mark.parametrize("method", ["add_graph", "add_onnx_graph", "add_openvino_graph"])
def test_a_graph_is_kept_as_the_bytes_of_an_event(tmp_path: Path, method: str) -> None:
    graph = GraphDef()
    graph.node.add(name="a", op="b")
    expected = tensorboard_events.Event(graph_def=graph.SerializeToString()).SerializeToString()
    said = written(tmp_path, lambda writer: getattr(writer.file_writer, method)(graph))
    assert said == [Said(0, Event(expected))]


def test_a_profile_of_torch_is_kept_as_its_graph(tmp_path: Path) -> None:
    graph = GraphDef()
    expected = tensorboard_events.Event(graph_def=b"").SerializeToString()
    assert written(tmp_path, lambda writer: writer.file_writer.add_graph((graph, object()))) == [
        Said(0, Event(expected))
    ]


def test_what_lightning_and_stable_baselines_write_is_kept(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        file_writer = writer._get_file_writer()
        for summary in hparams({"lr": 0.1}, {"best": 0.5}):
            file_writer.add_summary(summary)
        writer.file_writer.flush()

    assert len(written(tmp_path, write)) == 3


def test_the_version_of_a_file_needs_no_record(tmp_path: Path) -> None:
    event = tensorboard_events.Event(file_version="brain.Event:2")
    assert written(tmp_path, lambda writer: writer.file_writer.add_event(event)) == []


@pytest.mark.parametrize(
    "event",
    [
        tensorboard_events.Event(session_log=tensorboard_events.SessionLog(status=1)),
        *(object(), None, 5, "text", b"\xff", b"\x2a\xff", b"\x2a\x05abc", b"\x2b", b"\xff" * 100),
    ],
    ids=plain,
)
def test_what_is_no_event_is_a_fault(tmp_path: Path, event: Any) -> None:
    assert kept_with_faults(tmp_path, lambda writer: writer.file_writer.add_event(event), 1) == []


@pytest.mark.parametrize("summary", [object(), None, 5, "text", bytes(RECORD_SIZE_MAX_BYTES + 1)], ids=type)
def test_what_is_no_summary_is_a_fault(tmp_path: Path, summary: Any) -> None:
    assert kept_with_faults(tmp_path, lambda writer: writer.file_writer.add_summary(summary), 1) == []


def test_the_writer_below_has_torchs_names(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        below = writer.file_writer
        assert below.get_logdir() == below.event_writer.get_logdir() == writer.get_logdir()
        assert list(writer.all_writers) == [writer.get_logdir()]
        below.flush()
        below.reopen()
        below.close()
        with below.use_metadata(global_step=5) as inside:
            inside.add_summary(b"")
        for each in writer.all_writers.values():
            each.add_summary(b"", 6)

    assert [step for step, _ in written(tmp_path, write)] == [5, 6]
