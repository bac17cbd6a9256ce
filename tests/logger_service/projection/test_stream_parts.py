"""The waits for missing records, the places of gaps and the batch of events; a power loss tears holes into journals."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.events import event_files, folder_bytes, id_of, load_folder, values_by_tag
from support.records.recordings import START_NS, STREAM_ID, Said, append_records, make_records, make_stream

from tensorboard_sidecar.logger_service.events.identity import BESIDE_PLACE, EventId
from tensorboard_sidecar.logger_service.events.to_events import BesideEvent
from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.projection.stream_parts import (
    HOLE_SECONDS,
    WRITE_SIZE_BYTES,
    EventBatch,
    GapPlace,
    HoleWait,
    missing,
    with_gaps,
)
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import Gap, RunStart, Scalars
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter

STREAM = make_stream()
RECORDS = make_records(Said(step, Scalars({"a": float(step)})) for step in range(1, 9))
TURN_BYTES = 2**18
# By sequence number: the step, the time and the span of a gap. Two gaps know neither step nor time, one has a negative
# step; the gap at 7 stands for two records. Records 8, 9 and 10 are missing.
GAPS = {4: (0, 0, 1), 5: (-STEP_MAX - 1, 0, 1), 7: (0, 0, 2), 12: (3, START_NS, 1)}


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
    """Return the numbers of the records, by their first events: a gap has a second one, the finding."""
    ids = [id_of(event).rstrip("+").split("/") for event in load_folder(logdir / STREAM.run)]
    return [int(sequence) for _, sequence, place in ids if place == "0"]


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


def gap(step: int, wall_time_ns: int = 0) -> Record:
    return Record(Kind.GAP, 1, step, wall_time_ns, b"")


def scalars(step: int, wall_time_ns: int = 0, sequence: int = 1) -> Record:
    return Record(Kind.SCALARS, sequence, step, wall_time_ns, b"")


def placed(*records: Record) -> list[Record]:
    place = GapPlace(START_NS)
    return [place.place(record) for record in records]


def steps(*records: Record) -> list[int]:
    return [record.step for record in placed(*records) if record.kind == Kind.GAP]


def test_a_gap_without_a_step_is_shown_at_the_highest_step_before() -> None:
    assert steps(scalars(10), scalars(7), gap(0)) == [10]


def test_a_gap_that_knows_its_step_is_shown_there() -> None:
    assert steps(scalars(10), gap(12)) == [12]


def test_no_gap_of_a_stream_hides_one_before() -> None:
    """TensorBoard's fast loader drops every point at or after the step of the next point."""
    assert steps(gap(0), scalars(10), gap(11), gap(0), gap(11), scalars(20), gap(0)) == [0, 11, 12, 13, 20]


def test_a_gap_without_a_time_has_that_of_the_record_before() -> None:
    first, _, told, untold = placed(gap(0), scalars(1, START_NS + 5), gap(2, START_NS + 9), gap(3))
    assert [record.wall_time_ns - START_NS for record in (first, told, untold)] == [0, 9, 9]


def test_other_records_stay_as_they_are() -> None:
    records = [scalars(5, START_NS), scalars(0), scalars(-1), scalars(2**62)]
    assert placed(*records) == records


@given(st.lists(st.tuples(st.booleans(), st.integers(-(2**63), 2**63 - 1)), max_size=20))
def test_any_steps_give_gaps_that_go_up_and_are_legal(said: list[tuple[bool, int]]) -> None:
    found = steps(*(gap(step) if is_gap else scalars(step) for is_gap, step in said))
    assert found == sorted(found)
    assert all(0 <= step <= STEP_MAX for step in found)


def test_numbers_that_are_missing_are_a_gap_at_the_record_behind() -> None:
    first, second = scalars(4, START_NS, sequence=3), scalars(5, START_NS, sequence=4)
    assert list(with_gaps([first, second], 1)) == [missing(1, first), first, second]
    assert missing(1, first)[:4] == (Kind.GAP, 1, 4, START_NS)
    assert missing(1, first).span == 2


def nothing_before(_: int) -> list[Record]:
    raise AssertionError("no earlier record is needed")


def unplaced_gap(sequence: int) -> Record:
    return Record(Kind.GAP, sequence, 0, 0, b"", 1)


def test_events_that_the_files_hold_are_left_out() -> None:
    batch = EventBatch(STREAM_ID, EventId(STREAM_ID, 2, 0), nothing_before)
    assert batch.first_sequence == 2
    first, second, third = make_records([Said(step, Scalars({"a": 1.0})) for step in range(3)])
    assert not batch.add([b"1/0"], first)
    assert batch.add([b"2/0", b"2/1"], second)
    assert batch.add([b"3/0"], third)
    assert (batch.events, batch.size_bytes) == ([b"2/1", b"3/0"], 6)
    assert [batch.was_begun(record) for record in (first, second, third)] == [True, True, False]


def test_a_batch_has_the_time_of_its_first_event_and_is_full_at_its_size() -> None:
    batch = EventBatch(STREAM_ID, None, nothing_before)
    first, second = make_records([Said(step, Scalars({"a": 1.0})) for step in range(2)])
    assert batch.add([b"x" * (WRITE_SIZE_BYTES - 1)], first)
    assert not batch.is_full
    assert batch.add([b"x"], second)
    assert batch.is_full
    assert batch.wall_time_ns == first.wall_time_ns
    batch.clear()
    assert (batch.events, batch.is_full) == ([], False)
    assert batch.add([b"x"], second)
    assert batch.wall_time_ns == second.wall_time_ns


def test_events_for_folders_wait_with_the_event_of_their_record_and_fill_the_batch() -> None:
    batch = EventBatch(STREAM_ID, None, nothing_before)
    (record,) = make_records([Said(0, Scalars({"a": 1.0}))])
    identity = EventId(STREAM_ID, 1, BESIDE_PLACE)
    one, other = BesideEvent("a", identity, b"x" * (WRITE_SIZE_BYTES - 1)), BesideEvent("b", identity, b"x")
    batch.add_beside([one])
    assert batch.add([b""], record)
    assert not batch.is_full
    batch.add_beside([other, other])
    assert batch.is_full
    assert batch.beside == {"a": [one], "b": [other, other]}
    batch.clear()
    assert (batch.events, batch.beside, batch.is_full) == ([], {}, False)


def test_earlier_records_are_read_once_for_the_first_gap_after_a_restart() -> None:
    asked: list[int] = []

    def before(sequence: int) -> list[Record]:
        asked.append(sequence)
        return make_records([Said(7, Scalars({"a": 1.0}))])

    batch = EventBatch(STREAM_ID, EventId(STREAM_ID, 1, 0), before)
    (scalars,) = make_records([Said(8, Scalars({"a": 1.0}))], first_sequence=2)
    assert batch.place(scalars, START_NS) == scalars
    assert asked == []
    assert batch.place(unplaced_gap(3), START_NS).step == 7, "the scalars at step 8 lie before what is read again"
    assert batch.place(unplaced_gap(4), START_NS).step == 8
    assert asked == [3]


def test_a_stream_that_begins_reads_no_earlier_record() -> None:
    batch = EventBatch(STREAM_ID, None, nothing_before)
    assert batch.first_sequence == 1
    placed = batch.place(unplaced_gap(1), START_NS)
    assert (placed.step, placed.wall_time_ns) == (0, START_NS)


def records() -> list[Record]:
    steps = (0, 5, 2, 0, 0, 9, 0, 0, 0, 0, 7, 0, 8)
    said = [Said(0, RunStart()), *(Said(step, Scalars({"a": 1.0})) for step in steps[1:])]
    found = make_records(said)
    for sequence, (step, wall_time_ns, span) in GAPS.items():
        body = encode_body(Gap("lost", {}))
        found[sequence - 1] = Record(Kind.GAP, sequence, step, wall_time_ns, body, span)
    return [record for record in found if record.sequence not in (8, 9, 10)]


def gap_points(logdir: Path) -> list[tuple[int, float]]:
    """Return step and number of each gap."""
    points = values_by_tag(logdir / "demo")["telemetry/gap_records"]
    return [(step, value.simple_value) for step, value in points]


def test_each_gap_is_a_point_of_its_own_and_none_is_in_1970(tmp_path: Path) -> None:
    replay([append_records(tmp_path / "recording", make_stream(), records())], tmp_path / "log")
    assert gap_points(tmp_path / "log") == [(5, 1.0), (9, 2.0), (10, 2.0), (11, 1.0)]
    assert min(event.wall_time for event in load_folder(tmp_path / "log" / "demo")) >= START_NS / 1e9


@pytest.mark.parametrize("stops", range(1, len(records())))
def test_a_restarted_projection_shows_gaps_at_the_same_places(tmp_path: Path, stops: int) -> None:
    """A projection that continues has not seen the earlier records; it reads them again."""
    everything = records()
    folder = append_records(tmp_path / "recording", make_stream(), everything)
    replay([folder], tmp_path / "whole")
    folder = append_records(tmp_path / "growing", make_stream(), everything[:stops])
    replay([folder], tmp_path / "log")
    append_records(folder, make_stream(), everything[stops:])
    replay([folder], tmp_path / "log")
    assert load_folder(tmp_path / "log" / "demo") == load_folder(tmp_path / "whole" / "demo")


def test_a_stream_that_begins_with_lost_records_has_the_time_of_its_recording(tmp_path: Path) -> None:
    """Else the name of its file, with time 0, would sort before the files of every other attempt."""
    gap = Record(Kind.GAP, 1, 0, 0, encode_body(Gap("lost with the trainer")), 4)
    later = make_records([Said(9, Scalars({"a": 1.0}))], first_sequence=5)
    folder = append_records(tmp_path / "recording", make_stream(), [gap, *later])
    replay([folder], tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    assert path.name.startswith(f"events.out.tfevents.{START_NS // 10**9}.")
    assert gap_points(tmp_path / "log") == [(0, 4.0)]


def test_a_recording_that_grows_record_by_record_is_shown_as_in_a_replay(tmp_path: Path) -> None:
    everything = [record for record in records() if record.sequence < 8]
    folder = append_records(tmp_path / "recordings" / "demo", make_stream(), everything[:1])
    projection = StreamProjection(folder, tmp_path / "live", ProjectionCounts())
    for record in everything[1:]:
        projection.advance(2**18, 0.0)
        append_records(folder, make_stream(), [record])
    while projection.advance(2**18, 0.0):
        pass
    projection.close()
    replay([folder], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")
