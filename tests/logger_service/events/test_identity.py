from pathlib import Path

import pytest
from support.records.recordings import STREAM_ID
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events.identity import (
    EventId,
    find_id,
    last_id,
    name_event,
    read_events,
    read_payloads,
)
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.protocol.frame import Damage, End, pack_frame

IDENTITY = EventId(STREAM_ID, 2**64 - 1, 3)
NAMABLE = {
    "summary": Event(summary=Summary(value=[Summary.Value(tag="a"), Summary.Value(tag="b")])),
    "session_log": Event(session_log=SessionLog(status=SessionLog.START)),
    "graph_def": Event(graph_def=GraphDef(node=[NodeDef(name="a"), NodeDef(name="b")]).SerializeToString()),
}


def test_an_id_is_spelt_stream_sequence_place() -> None:
    assert str(IDENTITY) == f"{STREAM_ID.hex()}/18446744073709551615/3"
    assert EventId.parse(str(IDENTITY)) == IDENTITY


@pytest.mark.parametrize(
    "text", ["", "a/1/0", f"{STREAM_ID.hex()}/1", f"{STREAM_ID.hex()}/-1/0", f"{STREAM_ID.hex()}/1/0/"]
)
def test_what_is_no_id_is_none(text: str) -> None:
    assert EventId.parse(text) is None


def test_ids_of_a_stream_sort_in_the_order_of_writing() -> None:
    ids = [EventId(STREAM_ID, sequence, place) for sequence in (1, 2, 10) for place in (0, 1)]
    assert sorted(ids, reverse=True) == ids[::-1]


@pytest.mark.parametrize("what", NAMABLE)
def test_an_event_of_each_sort_keeps_its_id_through_bytes(what: str) -> None:
    event = Event()
    event.CopyFrom(NAMABLE[what])
    name_event(event, IDENTITY)
    assert find_id(Event.FromString(event.SerializeToString())) == IDENTITY


def test_naming_leaves_the_other_nodes_of_a_graph_alone() -> None:
    event = Event()
    event.CopyFrom(NAMABLE["graph_def"])
    name_event(event, IDENTITY)
    nodes = GraphDef.FromString(event.graph_def).node
    assert [node.name for node in nodes] == ["a", "b"]
    assert not nodes[1].attr


def test_an_event_without_a_place_for_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match="file_version"):
        name_event(Event(file_version="brain.Event:2"), IDENTITY)


@pytest.mark.parametrize(
    "event",
    [
        Event(file_version="brain.Event:2"),
        Event(summary=Summary()),
        Event(summary=Summary(value=[Summary.Value(tag="a", node_name="somebody/else")])),
        Event(graph_def=GraphDef().SerializeToString()),
        Event(graph_def=b"\xff\xff\xff"),
        Event(),
    ],
)
def test_events_of_other_programs_have_no_id(event: Event) -> None:
    assert find_id(event) is None


def event_bytes(sequence: int) -> bytes:
    name = str(EventId(STREAM_ID, sequence, 0))
    return pack_frame(
        Event(step=sequence, summary=Summary(value=[Summary.Value(tag="a", node_name=name)])).SerializeToString()
    )


VERSION = pack_frame(version_event(0))
WHOLE = VERSION + event_bytes(1) + event_bytes(2) + event_bytes(3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.out.tfevents.1"


def test_an_empty_file_ends_at_once(path: Path) -> None:
    path.touch()
    assert list(read_payloads(path)) == [End(0)]
    assert last_id(path) is None


def test_the_last_id_of_a_file_cut_anywhere_is_that_of_its_last_whole_event(path: Path) -> None:
    ends = [len(VERSION) + (number + 1) * len(event_bytes(1)) for number in range(3)]
    for size in range(len(WHOLE) + 1):
        path.write_bytes(WHOLE[:size])
        whole = sum(size >= end for end in ends)
        assert last_id(path) == (EventId(STREAM_ID, whole, 0) if whole else None)


def test_zeros_at_the_end_are_the_end(path: Path) -> None:
    """A file system may leave them after a power loss; TensorBoard's loaders stop there too."""
    path.write_bytes(WHOLE + bytes(64) + event_bytes(4))
    assert last_id(path) == EventId(STREAM_ID, 3, 0)


def test_a_damaged_event_is_told_and_passed_over(path: Path) -> None:
    data = bytearray(WHOLE)
    data[len(VERSION) + 15] ^= 1
    path.write_bytes(data)
    items = list(read_events(path))
    assert [item.step for item in items if isinstance(item, Event)] == [0, 2, 3]
    assert [item.start for item in items if isinstance(item, Damage)] == [len(VERSION)]


def test_a_frame_that_holds_no_event_is_damage(path: Path) -> None:
    path.write_bytes(VERSION + pack_frame(b"\xff\xff\xff") + event_bytes(1))
    assert [type(item) for item in read_events(path)] == [Event, Damage, Event, End]
    assert last_id(path) == EventId(STREAM_ID, 1, 0)
