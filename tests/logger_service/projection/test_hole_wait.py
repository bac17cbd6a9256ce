"""A power loss tears holes into the last segment of a journal. The projection waits until the records arrive again."""

from pathlib import Path

import pytest
from support.records.events import event_files, folder_bytes, id_of, load_folder
from support.records.recordings import START_NS, Said, append_records, make_records, make_stream

from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.logger_service.projection.hole_wait import HOLE_SECONDS, HoleWait
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.record import FrameBatch, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter

STREAM = make_stream()
RECORDS = make_records(Said(step, Scalars({"a": float(step)})) for step in range(1, 9))
TURN_BYTES = 2**18


def test_the_time_of_a_hole_begins_when_it_is_seen_first() -> None:
    hole = HoleWait()
    assert hole.may_be_filled(4, 100.0)
    assert hole.may_be_filled(4, 100.0 + HOLE_SECONDS - 0.1)
    assert not hole.may_be_filled(4, 100.0 + HOLE_SECONDS)
    assert not hole.may_be_filled(4, 200.0)


def test_each_hole_has_a_time_of_its_own() -> None:
    hole = HoleWait()
    assert hole.may_be_filled(4, 100.0)
    assert hole.may_be_filled(7, 100.0 + HOLE_SECONDS)
    assert not hole.may_be_filled(7, 100.0 + 2 * HOLE_SECONDS)


def test_the_recording_is_read_again_every_two_seconds_while_a_hole_waits() -> None:
    hole = HoleWait()
    assert hole.is_due(0.0)
    assert hole.may_be_filled(4, 100.0)
    assert not hole.is_due(101.9)
    assert hole.is_due(102.0)
    assert not hole.may_be_filled(4, 100.0 + HOLE_SECONDS)
    assert hole.is_due(100.0 + HOLE_SECONDS), "nothing waits any more"


def torn(root: Path) -> Path:
    """Write a journal of eight records that lost the fourth and the fifth; return its folder."""
    return append_records(root / STREAM.run / STREAM.folder_name, STREAM, [*RECORDS[:3], *RECORDS[5:]])


def mend(folder: Path) -> None:
    """Append the missing records and all later ones, as a logger does after the trainer connects again."""
    writer = RecordingWriter(folder, STREAM, wall_time_ns=0, first_held_sequence=1)
    assert writer.next_sequence == 4
    for record in RECORDS[3:]:
        writer.append(run_of(record))
    writer.close()


def run_of(record: Record) -> FrameBatch:
    return FrameBatch(memoryview(pack_frame(pack_record(record))), record.sequence, record.next_sequence)


def shown(logdir: Path) -> list[int]:
    return [int(id_of(event).split("/")[1]) for event in load_folder(logdir / STREAM.run)]


def test_a_hole_that_is_filled_leaves_no_gap(tmp_path: Path) -> None:
    folder, counts = torn(tmp_path / "recordings"), ProjectionCounts()
    projection = StreamProjection(folder, tmp_path / "log", counts)
    assert projection.advance(TURN_BYTES, 100.0) == 3
    assert projection.waits
    assert projection.advance(TURN_BYTES, 101.0) == 0
    mend(folder)
    while projection.advance(TURN_BYTES, 105.0):
        assert not projection.waits
    projection.close()
    assert shown(tmp_path / "log") == list(range(1, 9))
    assert (counts.gaps, counts.damages) == (0, 0)
    assert len(event_files(tmp_path / "log" / STREAM.run)) == 1


def test_a_hole_that_is_not_filled_is_shown_as_a_gap(tmp_path: Path) -> None:
    projection = StreamProjection(torn(tmp_path), tmp_path / "log", ProjectionCounts())
    assert projection.advance(TURN_BYTES, 100.0) == 3
    assert projection.advance(TURN_BYTES, 100.0 + HOLE_SECONDS - 1) == 0
    assert projection.advance(TURN_BYTES, 100.0 + HOLE_SECONDS + 2) == 3
    projection.close()
    assert shown(tmp_path / "log") == [1, 2, 3, 5, 6, 7, 8], "5 is that of the gap"
    assert projection.counts.missing_records == 2


@pytest.mark.parametrize("later", [True, False], ids=["a later segment", "a replay"])
def test_a_hole_that_cannot_be_filled_does_not_wait(tmp_path: Path, *, later: bool) -> None:
    folder = torn(tmp_path)
    if later:
        append_records(folder, STREAM, make_records([Said(9, Scalars({"a": 9.0}))], first_sequence=9))
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    while projection.advance(TURN_BYTES, 100.0 if later else None):
        assert not projection.waits
    projection.close()
    assert projection.counts.gaps == 1


def test_a_projection_returns_to_a_hole_although_the_recording_does_not_change(tmp_path: Path) -> None:
    """Nothing in the recording changes meanwhile."""
    torn(tmp_path / "recordings")
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in range(100, 200, 5):
        projection.turn(float(now_seconds))
    projection.close()
    assert shown(tmp_path / "log") == [1, 2, 3, 5, 6, 7, 8]


def test_the_next_attempt_waits_for_the_hole_too(tmp_path: Path) -> None:
    """Else events behind the hole would be late, and go to a folder of their own, unlike in a replay."""
    torn(tmp_path / "recordings")
    later = make_stream(attempt=1, stream_id=b"\1" * 16)
    records = make_records([Said(1, Scalars({"a": 1.0}))], start_ns=START_NS + 3600 * 10**9)
    append_records(tmp_path / "recordings" / later.run / later.folder_name, later, records)
    projection = Follower(tmp_path / "recordings", tmp_path / "live")
    for now_seconds in (100.0, 100.0 + HOLE_SECONDS - 1):
        while projection.turn(now_seconds):
            pass
        assert shown(tmp_path / "live") == [1, 2, 3]
    while projection.turn(100.0 + HOLE_SECONDS + 2):
        pass
    projection.close()
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_a_stop_leaves_a_young_hole_alone(tmp_path: Path) -> None:
    torn(tmp_path / "recordings")
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    while projection.turn(100.0, thorough=True):
        pass
    projection.close()
    assert shown(tmp_path / "log") == [1, 2, 3]
