"""Protobuf messages of other programs as bytes."""

from typing import Any

import pytest
import tensorboard.compat.proto.event_pb2 as tensorboard_events
import tensorboardX.proto.event_pb2 as x_events
from hypothesis import given
from hypothesis import strategies as st
from support.ids import plain
from tensorboard.compat.proto.summary_pb2 import Summary

from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.telemetry.values.event_bytes import GRAPH, SUMMARY, serialised, shows, wrap

SUMMARY_BYTES = Summary(value=[Summary.Value(tag="a", simple_value=0.5)]).SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2**21])
def test_wrapped_bytes_are_a_field_of_an_event(size: int) -> None:
    event = tensorboard_events.Event.FromString(wrap(GRAPH, bytes(size)))
    assert event.graph_def == bytes(size)


@pytest.mark.parametrize("events", [tensorboard_events, x_events])
def test_an_event_with_a_summary_or_a_graph_shows_something(events: Any) -> None:
    summary = events.Event(step=2**40, wall_time=5.0)
    summary.summary.value.add(tag="a", simple_value=0.5)
    assert shows(summary.SerializeToString())
    assert shows(events.Event(graph_def=b"").SerializeToString())
    assert not shows(events.Event(file_version="brain.Event:2").SerializeToString())
    assert not shows(events.Event(step=5).SerializeToString())
    with pytest.raises(ValueError, match="a session log"):
        shows(events.Event(session_log=events.SessionLog(status=1)).SerializeToString())
    with pytest.raises(ValueError, match="metadata of a run"):
        shows(events.Event(tagged_run_metadata=events.TaggedRunMetadata(tag="x")).SerializeToString())


@given(st.binary(max_size=60) | st.integers(0, 60).map(lambda end: wrap(SUMMARY, SUMMARY_BYTES * 3)[:end]))
def test_any_bytes_are_an_event_or_an_error(data: bytes) -> None:
    try:
        shows(data)
    except ValueError:
        return
    tensorboard_events.Event.FromString(data + b"")


class Strange:
    def SerializeToString(self) -> str:  # noqa: N802 - protobuf's name
        return "text"


@pytest.mark.parametrize("rubbish", [None, 5, "text", object(), Strange(), Strange], ids=plain)
def test_what_has_no_bytes_is_an_error(rubbish: object) -> None:
    with pytest.raises(TypeError):
        serialised(rubbish)


def test_bytes_are_bounded() -> None:
    with pytest.raises(TooLarge):
        serialised(bytes(RECORD_SIZE_MAX_BYTES + 1))
