from pathlib import Path

import pytest
from support.records.recordings import STREAM_ID
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events.event_reader import last_id, read_events, read_payloads
from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.protocol.frame import Damage, End, pack_frame


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
