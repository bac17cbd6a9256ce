from pathlib import Path

import pytest
from support.records.recordings import STREAM_ID
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events.audit import Audit, audit
from tensorboard_sidecar.logger_service.events.identity import BESIDE_PLACE, EventId
from tensorboard_sidecar.logger_service.events.to_events import GAP_RECORDS_TAG, version_event
from tensorboard_sidecar.protocol.frame import pack_frame

STREAM = STREAM_ID.hex()


def event_bytes(sequence: int, place: int = 0, tag: str = "a") -> bytes:
    name = str(EventId(STREAM_ID, sequence, place))
    return pack_frame(Event(summary=Summary(value=[Summary.Value(tag=tag, node_name=name)])).SerializeToString())


def audited(tmp_path: Path, *files: bytes) -> Audit:
    for number, content in enumerate(files):
        (tmp_path / f"events.out.tfevents.1700000000.0000.00010203.{number:04d}").write_bytes(content)
    return audit(tmp_path)


def test_a_whole_file_has_no_losses(tmp_path: Path) -> None:
    found = audited(tmp_path, pack_frame(version_event(0)) + event_bytes(1) + event_bytes(1, 1) + event_bytes(2))
    assert (found.files, found.events, found.foreign_events, found.losses, found.notes) == (1, 4, 0, [], [])


def test_a_torn_file_whose_events_come_again_is_a_note(tmp_path: Path) -> None:
    found = audited(tmp_path, event_bytes(1) + event_bytes(2)[:-1], event_bytes(2) + event_bytes(3))
    assert not found.losses
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("files", "loss"),
    [
        ([event_bytes(1) + event_bytes(4)], f"no event of records 2 to 3 of {STREAM}"),
        ([event_bytes(2)], f"no event of records 1 to 1 of {STREAM}"),
        ([event_bytes(1) + event_bytes(1, 2)], f"events before {STREAM}/1/2 are missing"),
        ([event_bytes(1) + event_bytes(2, 1)], f"events before {STREAM}/2/1 are missing"),
        ([event_bytes(1), event_bytes(1)], f"{STREAM}/1/0 comes twice or late, after {STREAM}/1/0"),
        ([event_bytes(1) + event_bytes(2), event_bytes(1)], f"{STREAM}/1/0 comes twice or late, after {STREAM}/2/0"),
        ([event_bytes(1) + event_bytes(4, tag=GAP_RECORDS_TAG)], f"gap: records 2 to 4 of {STREAM} were lost"),
        ([event_bytes(1) + pack_frame(b"\xff\xff")], "a frame that holds no event"),
    ],
)
def test_what_is_missing_or_twice_is_a_loss(tmp_path: Path, files: list[bytes], loss: str) -> None:
    (found,) = audited(tmp_path, *files).losses
    assert loss in found


def test_a_folder_beside_has_the_events_of_some_records(tmp_path: Path) -> None:
    """No event is missing there; one that comes twice or late is a loss there too."""
    place = BESIDE_PLACE
    assert audited(tmp_path, event_bytes(4, place) + event_bytes(9, place), event_bytes(12, place)).losses == []
    (loss,) = audited(tmp_path, event_bytes(4, place) + event_bytes(9, place), event_bytes(9, place)).losses
    assert f"{STREAM}/9/{place} comes twice or late" in loss


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    whole = event_bytes(1) + event_bytes(2) + event_bytes(3)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 4
        found = audited(tmp_path, bytes(data))
        assert found.losses or found.notes


def test_events_of_other_programs_are_counted_and_no_loss(tmp_path: Path) -> None:
    foreign = pack_frame(Event(summary=Summary(value=[Summary.Value(tag="a", simple_value=1)])).SerializeToString())
    found = audited(tmp_path, foreign + event_bytes(1))
    assert (found.foreign_events, found.losses) == (1, [])


def test_a_graph_of_another_program_that_does_not_parse_is_its_own_affair(tmp_path: Path) -> None:
    found = audited(tmp_path, pack_frame(Event(graph_def=b"\xff\xff\xff").SerializeToString()) + event_bytes(1))
    assert (found.foreign_events, found.losses) == (1, [])


def test_what_has_the_name_of_an_event_file_and_is_none_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.9999999999.x").mkdir()
    (tmp_path / "events.out.tfevents.9999999999.y").symlink_to("nowhere")
    assert audited(tmp_path, event_bytes(1)).files == 1


def test_the_folder_of_hyperparameters_has_some_events_only(tmp_path: Path) -> None:
    """Damage, and events that come twice, are losses there too."""
    row = tmp_path / "hparams-000102030405"
    late = row / "attempt-0"
    late.mkdir(parents=True)
    assert not audited(row, event_bytes(5, 1) + event_bytes(9, 1)).losses
    assert not audited(late, event_bytes(12, 1)).losses
    assert audited(row, event_bytes(5, 1) + event_bytes(5, 1)).losses
    assert audited(row, event_bytes(5, 1)[:-1] + b"x" + event_bytes(9, 1)).losses
