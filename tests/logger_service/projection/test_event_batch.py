"""Which events are written, and where gaps are shown. The place of a gap does not depend on restarts."""

from pathlib import Path

import pytest
from support.records.events import event_files, folder_bytes, load_folder, values_by_tag
from support.records.recordings import START_NS, STREAM_ID, Said, append_records, make_records, make_stream

from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.projection.event_batch import WRITE_SIZE_BYTES, EventBatch
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap, RunStart, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record

# By sequence number: the step, the time and the span of a gap. Two gaps know neither step nor time, one has a negative
# step; the gap at 7 stands for two records. Records 8, 9 and 10 are missing.
GAPS = {4: (0, 0, 1), 5: (-1, 0, 1), 7: (0, 0, 2), 12: (3, START_NS, 1)}


def nothing_before(_: int) -> list[Record]:
    raise AssertionError("no earlier record is needed")


def gap(sequence: int) -> Record:
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


def test_earlier_records_are_read_once_for_the_first_gap_after_a_restart() -> None:
    asked: list[int] = []

    def before(sequence: int) -> list[Record]:
        asked.append(sequence)
        return make_records([Said(7, Scalars({"a": 1.0}))])

    batch = EventBatch(STREAM_ID, EventId(STREAM_ID, 1, 0), before)
    (scalars,) = make_records([Said(8, Scalars({"a": 1.0}))], first_sequence=2)
    assert batch.place(scalars, START_NS) == scalars
    assert asked == []
    assert batch.place(gap(3), START_NS).step == 7, "the scalars at step 8 lie before what is read again"
    assert batch.place(gap(4), START_NS).step == 8
    assert asked == [3]


def test_a_stream_that_begins_reads_no_earlier_record() -> None:
    batch = EventBatch(STREAM_ID, None, nothing_before)
    assert batch.first_sequence == 1
    placed = batch.place(gap(1), START_NS)
    assert (placed.step, placed.wall_time_ns) == (0, START_NS)


def records() -> list[Record]:
    steps = (0, 5, 2, 0, 0, 9, 0, 0, 0, 0, 7, 0, 8)
    said = [Said(0, RunStart()), *(Said(step, Scalars({"a": 1.0})) for step in steps[1:])]
    found = make_records(said)
    for sequence, (step, wall_time_ns, span) in GAPS.items():
        body = encode_body(Gap("lost", {}))
        found[sequence - 1] = Record(Kind.GAP, sequence, step, wall_time_ns, body, span)
    return [record for record in found if record.sequence not in (8, 9, 10)]


def shown(logdir: Path) -> list[tuple[int, float]]:
    """Return step and number of each gap."""
    points = values_by_tag(logdir / "demo")["telemetry/gap_records"]
    return [(step, value.simple_value) for step, value in points]


def test_each_gap_is_a_point_of_its_own_and_none_is_in_1970(tmp_path: Path) -> None:
    replay([append_records(tmp_path / "recording", make_stream(), records())], tmp_path / "log")
    assert shown(tmp_path / "log") == [(5, 1.0), (9, 2.0), (10, 2.0), (11, 1.0)]
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
    assert shown(tmp_path / "log") == [(0, 4.0)]


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
