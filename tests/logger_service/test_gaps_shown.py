"""Gaps in event files: none hides another, none lies in 1970, and where each is shown does not depend on restarts."""

from pathlib import Path

import pytest
from support.events import event_files, folder_bytes, load_folder, values_by_tag
from support.recordings import START_NS, Said, append_records, make_records, make_stream

from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap, RunStart, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record

# Steps that go up and down; gaps that know no step and no time, one that is wrong, one that stands for three numbers;
# numbers 9 and 10 never came.
GAPS = {4: (0, 0, 1), 5: (-1, 0, 1), 7: (0, 0, 2), 12: (3, START_NS, 1)}


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
def test_a_projection_that_goes_on_puts_gaps_where_one_that_never_stopped_does(tmp_path: Path, stops: int) -> None:
    """It has not seen what came before."""
    everything = records()
    folder = append_records(tmp_path / "recording", make_stream(), everything)
    replay([folder], tmp_path / "whole")
    folder = append_records(tmp_path / "growing", make_stream(), everything[:stops])
    replay([folder], tmp_path / "log")
    append_records(folder, make_stream(), everything[stops:])
    replay([folder], tmp_path / "log")
    assert load_folder(tmp_path / "log" / "demo") == load_folder(tmp_path / "whole" / "demo")


def test_a_stream_that_begins_with_lost_records_has_the_time_of_its_recording(tmp_path: Path) -> None:
    """Its file must not be called the first of all: what another attempt writes later would sort behind it."""
    gap = Record(Kind.GAP, 1, 0, 0, encode_body(Gap("lost with the trainer")), 4)
    later = make_records([Said(9, Scalars({"a": 1.0}))], first_sequence=5)
    folder = append_records(tmp_path / "recording", make_stream(), [gap, *later])
    replay([folder], tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    assert path.name.startswith(f"events.out.tfevents.{START_NS // 10**9}.")
    assert shown(tmp_path / "log") == [(0, 4.0)]


def test_a_recording_that_grows_a_record_at_a_time_is_shown_as_one_that_is_there(tmp_path: Path) -> None:
    everything = [record for record in records() if record.sequence < 8]
    folder = append_records(tmp_path / "recordings" / "demo", make_stream(), everything[:1])
    projection = StreamProjection(folder, tmp_path / "live", Counts())
    for record in everything[1:]:
        projection.advance(2**18, 0.0)
        append_records(folder, make_stream(), [record])
    while projection.advance(2**18, 0.0):
        pass
    projection.close()
    replay([folder], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")
