"""One recording becomes the event files of one run: complete, once, in order, whatever fails."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from support.records.events import event_files, folder_bytes, id_of, load_events, load_folder, values_by_tag
from support.records.golden import RECORDS, GoldenRecord
from support.records.parts import in_parts
from support.records.recordings import (
    START_NS,
    STREAM_ID,
    Said,
    append_records,
    every_kind,
    make_embedding,
    make_records,
    make_stream,
    write_recording,
)
from tensorboardX.proto.event_pb2 import Event as EventProto
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.follower import follow
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.kinds import KINDS, MessageKind
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX, STEP_MAX
from tensorboard_sidecar.protocol.messages import (
    SESSION_START,
    Event,
    Gap,
    HParams,
    Matrix,
    Overlay,
    Point,
    RunEnd,
    RunStart,
    Scalars,
    Text,
)
from tensorboard_sidecar.protocol.record import Kind, Record

SMALL = [
    Said(0, RunStart(0, {"lr": 0.1})),
    *(Said(step, Scalars({"a": float(step), "b": 0.0})) for step in range(4)),
    Said(4, Text("t", "hello")),
]


def run(folder: Path, logdir: Path, size_max_bytes: int = 2**18) -> ProjectionCounts:
    """Project a recording to its end, as a process of its own would."""
    projection = StreamProjection(folder, logdir, ProjectionCounts())
    while projection.advance(size_max_bytes):
        pass
    projection.close()
    return projection.counts


def ids(logdir: Path, run_name: str = "demo") -> list[str]:
    return [id_of(event) for event in load_folder(logdir / run_name)]


def test_every_record_leaves_its_events_in_order(tmp_path: Path) -> None:
    counts = run(write_recording(tmp_path, SMALL), tmp_path / "log")
    name = STREAM_ID.hex()
    assert ids(tmp_path / "log") == [f"{name}/1/0", f"{name}/1/1", *(f"{name}/{n}/0" for n in range(2, 7))]
    assert (counts.records, counts.events) == (6, 7)


def test_the_amount_a_turn_reads_changes_no_byte(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, every_kind((1, 2)))
    run(folder, tmp_path / "one")
    run(folder, tmp_path / "other", size_max_bytes=1)
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "other")


def test_a_second_projection_writes_nothing(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, every_kind((1, 2)))
    run(folder, tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    assert run(folder, tmp_path / "log") == ProjectionCounts()
    assert folder_bytes(tmp_path / "log") == before


def test_after_a_kill_at_any_byte_every_event_is_there_once(tmp_path: Path) -> None:
    """Only the lost events are written again: into a file that sorts later, or into the same file if it is empty."""
    folder = write_recording(tmp_path, SMALL)
    run(folder, tmp_path / "whole")
    (path,) = event_files(tmp_path / "whole" / "demo")
    data, whole = path.read_bytes(), load_folder(path.parent)
    for size in range(len(data)):
        logdir = tmp_path / "cut"
        (logdir / "demo").mkdir(parents=True)
        torn = logdir / "demo" / path.name
        torn.write_bytes(data[:size])
        run(folder, logdir)
        assert load_folder(logdir / "demo") == whole
        assert torn.read_bytes() == (data[:size] or data)
        assert run(folder, logdir) == ProjectionCounts()
        shutil.rmtree(logdir)


def test_after_kills_again_and_again_every_event_is_there_once(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SMALL)
    run(folder, tmp_path / "whole")
    logdir = tmp_path / "log"
    for cut in (400, 60, 130, 61, 200):
        run(folder, logdir)
        newest = event_files(logdir / "demo")[-1]
        newest.write_bytes(newest.read_bytes()[:-cut])
    run(folder, logdir)
    assert load_folder(logdir / "demo") == load_folder(tmp_path / "whole" / "demo")


def raw(tag: str, number: float) -> bytes:
    """Return a serialised event of another program."""
    return EventProto(summary=Summary(value=[Summary.Value(tag=tag, simple_value=number)])).SerializeToString()


BESIDE = [
    Said(0, RunStart(file_suffix=".mine")),
    *(Said(step, Overlay("loss", {"loss_train": float(step), "loss/val": 0.0})) for step in (-1, 0, 1)),
    Said(1, Scalars({"a": 1.0})),
    Said(2, HParams({"lr": 0.5}, {"best": 1.0}, "trial 1", {"lr": [0.5, 1.0]})),
    Said(3, Event(raw("x", 3.0), "loss_train")),
    Said(4, Overlay("loss", {"loss_train": 4.0, "late": 4.0})),
]
FOLDERS = ("demo", "demo/loss_train", "demo/loss/val", "demo/trial 1", "demo/late")


def by_folder(logdir: Path) -> dict[str, list[Any]]:
    """Return the events of the run and of the folders in its folder; each event is there once."""
    found = {folder: load_folder(logdir / folder) for folder in FOLDERS}
    for events in found.values():
        assert len({id_of(event) for event in events}) == len(events)
    return found


def test_events_for_folders_lie_there_and_the_run_has_one_event_a_record(tmp_path: Path) -> None:
    counts = run(write_recording(tmp_path, BESIDE), tmp_path / "log")
    assert (counts.records, counts.events, counts.folders_left_out) == (8, 8, 0)
    curve = values_by_tag(tmp_path / "log" / "demo" / "loss_train")
    assert [(step, value.simple_value) for step, value in curve["loss"]] == [(-1, -1.0), (0, 0.0), (1, 1.0), (4, 4.0)]
    assert [(step, value.simple_value) for step, value in curve["x"]] == [(3, 3.0)]
    assert set(values_by_tag(tmp_path / "log" / "demo")) == {"", "a"}
    row = values_by_tag(tmp_path / "log" / "demo" / "trial 1")
    assert [(step, value.simple_value) for step, value in row["best"]] == [(2, 1.0)]
    assert all(len(event_files(tmp_path / "log" / folder)) == 1 for folder in FOLDERS)
    assert all(path.name.endswith("_.mine") for path in (tmp_path / "log").rglob("events.out.*"))
    assert not verify(tmp_path / "log").lossy


def test_the_amount_a_turn_reads_changes_no_byte_in_any_folder(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, BESIDE)
    run(folder, tmp_path / "one")
    run(folder, tmp_path / "other", size_max_bytes=1)
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "other")
    assert run(folder, tmp_path / "other") == ProjectionCounts()


def places(data: bytes) -> set[int]:
    """Return the ends of all frames, the bytes beside them, and every eleventh byte."""
    ends, end = {0}, 0
    while end < len(data):
        end += 16 + int.from_bytes(data[end : end + 8], "little")
        ends |= {end - 1, end, end + 1}
    return {place for place in ends | set(range(0, len(data), 11)) if place <= len(data)}


def test_after_a_kill_in_any_folder_every_event_is_there_once_in_every_folder(tmp_path: Path) -> None:
    """The folders are written before the run, one after the other: what follows the byte is not there.

    ``test_beside`` kills at every byte of one folder.
    """
    folder = write_recording(tmp_path, BESIDE)
    run(folder, tmp_path / "whole")
    whole = by_folder(tmp_path / "whole")
    names = ("demo/loss_train", "demo/loss/val", "demo/trial 1", "demo/late", "demo")
    paths = [event_files(tmp_path / "whole" / name)[0].relative_to(tmp_path / "whole") for name in names]
    contents = [(tmp_path / "whole" / path).read_bytes() for path in paths]
    for place, data in enumerate(contents):
        for size in places(data):
            logdir = tmp_path / "cut"
            for path, content in zip(paths[: place + 1], [*contents[:place], data[:size]], strict=True):
                (logdir / path).parent.mkdir(parents=True, exist_ok=True)
                (logdir / path).write_bytes(content)
            run(folder, logdir)
            assert by_folder(logdir) == whole
            assert run(folder, logdir) == ProjectionCounts()
            shutil.rmtree(logdir)


def test_after_kills_between_turns_every_event_is_there_once_in_every_folder(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, BESIDE)
    run(folder, tmp_path / "whole")
    for cut in range(40, 700, 35):
        logdir = tmp_path / f"{cut}"
        run(folder, logdir, size_max_bytes=1)
        (path,) = event_files(logdir / "demo")
        path.write_bytes(path.read_bytes()[:-cut])
        run(folder, logdir, size_max_bytes=1)
        assert by_folder(logdir) == by_folder(tmp_path / "whole")
        assert all(path.name.endswith("_.mine") for path in logdir.rglob("events.out.*"))


def test_folders_beyond_the_bound_are_counted_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.beside.FOLDERS_MAX", 2)
    counts = run(write_recording(tmp_path, BESIDE), tmp_path / "log")
    assert (counts.folders_left_out, counts.drawing_failures, counts.events) == (2, 0, 8)
    assert len(caplog.records) == 1
    assert "events for a folder not shown: trial 1: a stream has 2 folders at most" in caplog.text
    assert not (tmp_path / "log" / "demo" / "late").exists()


@pytest.mark.parametrize("folder", ["", "sub"])
def test_an_event_that_is_none_is_malformed_counted_and_costs_its_record_alone(folder: str, tmp_path: Path) -> None:
    said = [*SMALL, *(Said(5, Event(data, folder)) for data in (b"rubbish", raw("x", 1.0), b"\x2a\x00"))]
    counts = run(write_recording(tmp_path, said), tmp_path / "log")
    assert (counts.malformed, counts.drawing_failures, counts.records) == (2, 0, len(said))
    assert [value.simple_value for _, value in values_by_tag(tmp_path / "log" / "demo" / folder)["x"]] == [1.0]
    assert not verify(tmp_path / "log").lossy


def test_an_attempt_that_continues_leaves_the_earlier_attempts_as_they_are(tmp_path: Path) -> None:
    run(write_recording(tmp_path, every_kind((1, 2, 3))), tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    more = [Said(0, RunStart(continues=True)), Said(4, Scalars({"loss/total": 1.0}))]
    run(write_recording(tmp_path, more, make_stream(attempt=1, stream_id=b"\1" * 16)), tmp_path / "log")
    after = folder_bytes(tmp_path / "log")
    assert {name: after[name] for name in before} == before
    starts = [event for event in load_folder(tmp_path / "log" / "demo") if event.WhichOneof("what") == "session_log"]
    assert len(starts) == 1


def test_negative_steps_are_shown(tmp_path: Path) -> None:
    said = [Said(-1, Scalars({"a": 1.0})), Said(-STEP_MAX, Point("b", 2.0)), Said(-5, make_embedding("e"))]
    counts = run(write_recording(tmp_path, [*SMALL[:1], *said]), tmp_path / "log")
    assert (counts.malformed, counts.drawing_failures) == (0, 0)
    shown = values_by_tag(tmp_path / "log" / "demo")
    assert (shown["a"][0][0], shown["b"][0][0]) == (-1, -STEP_MAX)
    assert "step -5" in (tmp_path / "log" / "demo" / "projector_config.pbtxt").read_text()


def test_rubbish_in_any_field_costs_its_record_alone(tmp_path: Path) -> None:
    """Whatever a body says that passes the decoder: the records around it are shown, and no file lies elsewhere."""
    rubbish = [wrong for golden in RECORDS.values() for wrong in wrong_fields(golden)]
    records = make_records([Said(0, RunStart()), *(Said(0, Scalars({"a": 1.0})) for _ in rubbish)])
    for place, (kind, body) in enumerate(rubbish, 1):
        records[place] = records[place]._replace(kind=kind, body=body)
    last = make_records([Said(9, Scalars({"end": 1.0}))], first_sequence=len(records) + 1)
    counts = run(append_records(tmp_path / "recording", make_stream(), [*records, *last]), tmp_path / "log")
    assert counts.records == len(records) + 1
    assert counts.malformed > 0.5 * len(records)
    assert "end" in values_by_tag(tmp_path / "log" / "demo")
    assert {path.name for path in tmp_path.iterdir()} == {"recording", "log"}
    assert not verify(tmp_path / "log").lossy


def wrong_fields(golden: GoldenRecord) -> list[tuple[int, bytes]]:
    """Return (kind, body) with each field of a message replaced by values of other types and by hostile ones."""
    fields = msgpack.unpackb(golden.record.body)
    values = [None, -1, 2**64 - 1, 1e308, "../../../up", "x" * 300, b"\xff" * 9, [[]], {"": {}}, {"..": 1.0}]
    values.append({"dtype": "float32", "shape": [2**40, 2**40], "data": b""})
    if golden.record.kind in (Kind.SEGMENT, Kind.GAP):
        return []  # no other record is of these kinds
    return [(golden.record.kind, msgpack.packb(fields | {name: value})) for name in fields for value in values]


def test_a_kill_before_an_embeddings_event_writes_its_files_again(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, every_kind((1,))[:-2])
    run(folder, tmp_path / "log")
    whole = folder_bytes(tmp_path / "log" / "demo" / "projector")
    (path,) = event_files(tmp_path / "log" / "demo")
    path.write_bytes(path.read_bytes()[:-1])
    shutil.rmtree(tmp_path / "log" / "demo" / "projector")
    run(folder, tmp_path / "log")
    last_embedding = {name: data for name, data in whole.items() if "joint" in name}
    assert folder_bytes(tmp_path / "log" / "demo" / "projector") == last_embedding


def test_an_older_attempt_projected_again_does_not_touch_the_projector(tmp_path: Path) -> None:
    """The last record of the attempt is read again, and would announce an old step."""
    first = write_recording(tmp_path, every_kind((1,))[:-2])
    second = write_recording(tmp_path, every_kind((2,)), make_stream(attempt=1, stream_id=b"\1" * 16))
    run(first, tmp_path / "log")
    run(second, tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    run(first, tmp_path / "log")
    assert folder_bytes(tmp_path / "log") == before


def test_an_attempt_that_goes_on_from_an_earlier_step_rewinds_the_projector(tmp_path: Path) -> None:
    run(write_recording(tmp_path, every_kind((1, 2, 3))), tmp_path / "log")
    resumed = [Said(2, RunStart(2)), Said(3, Scalars({"a": 1.0}))]
    run(write_recording(tmp_path, resumed, make_stream(attempt=1, stream_id=b"\1" * 16)), tmp_path / "log")
    assert "step 3" not in (tmp_path / "log" / "demo" / "projector_config.pbtxt").read_text()


def test_the_start_of_a_session_rewinds_the_projector(tmp_path: Path) -> None:
    run(write_recording(tmp_path, every_kind((1, 2, 3))), tmp_path / "log")
    purged = [Said(0, RunStart(continues=True)), Said(3, Event(SESSION_START))]
    run(write_recording(tmp_path, purged, make_stream(attempt=1, stream_id=b"\1" * 16)), tmp_path / "log")
    config = (tmp_path / "log" / "demo" / "projector_config.pbtxt").read_text()
    assert "step 2" in config
    assert "step 3" not in config


def test_an_attempt_that_logs_nothing_leaves_the_projector_alone(tmp_path: Path) -> None:
    run(write_recording(tmp_path, every_kind((1, 2, 3))), tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    said = [Said(0, RunStart(0, {"lr": 0.1})), Said(0, RunEnd("failed"))]
    counts = run(write_recording(tmp_path, said, make_stream(stream_id=b"\1" * 16)), tmp_path / "log")
    assert folder_bytes(tmp_path / "log") == before
    assert counts == ProjectionCounts()


@pytest.mark.parametrize("row", KINDS[1:], ids=lambda row: row.name)
def test_a_stream_begins_with_the_first_record_that_shows_something(tmp_path: Path, row: MessageKind[Any]) -> None:
    """All of its records are shown then, and the same bytes as from a recording that was whole from the start."""
    golden = RECORDS[row.name].message
    records = make_records([Said(0, RunStart(0, {"lr": 0.1})), Said(1, golden)])
    folder = append_records(tmp_path / "recording", make_stream(), records[:1])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    assert projection.advance(2**18) == 0
    assert (projection.silent, projection.position, folder_bytes(tmp_path / "log")) == (True, 2, {})
    append_records(folder, make_stream(), records[1:])
    assert projection.advance(2**18) == (2 if row.shows else 0)
    assert projection.silent is not row.shows
    assert projection.position == 3
    projection.close()
    run(append_records(tmp_path / "whole", make_stream(), records), tmp_path / "again")
    assert folder_bytes(tmp_path / "log") == folder_bytes(tmp_path / "again")
    assert bool(folder_bytes(tmp_path / "log")) is row.shows


@pytest.mark.parametrize(
    ("records", "shown"),
    [
        (make_records([Said(0, RunStart())] * 3), 3),
        (make_records([Said(0, RunStart())], first_sequence=2), 2),
        (make_records([Said(0, RunStart()), Said(0, RunEnd("failed"))])[1:], 2),
        ([*make_records([Said(0, RunStart())]), Record(99, 2, 1, START_NS, b"new")], 2),
        ([*make_records([Said(0, RunStart())]), Record(Kind.SCALARS, 2, 1, START_NS, b"\xc1")], 2),
    ],
    ids=["more starts than a trainer sends", "a start before which a record is missing", "an end alone", "new", "bad"],
)
def test_a_stream_that_is_odd_or_lost_something_is_shown(tmp_path: Path, records: list[Record], shown: int) -> None:
    counts = run(append_records(tmp_path / "recording", make_stream(), records), tmp_path / "log", size_max_bytes=1)
    assert counts.records == shown
    assert len([identity for identity in ids(tmp_path / "log") if identity.rstrip("+").endswith("/0")]) == shown
    ends = sum(record.kind == Kind.RUN_END for record in records)
    assert len(ids(tmp_path / "log")) == shown + ends, "the end of a run has the findings"


def test_a_live_projection_says_once_that_an_attempt_logged_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only when the attempt has ended: until then its first value may come."""
    caplog.set_level(logging.INFO)
    records = make_records([Said(0, RunStart()), Said(0, RunEnd("failed"))])
    folder = append_records(tmp_path / "recording", make_stream(), records[:1])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    projection.advance(2**18, 0.0)
    assert not caplog.records
    append_records(folder, make_stream(), records[1:])
    for now_seconds in (1.0, 2.0):
        assert projection.advance(2**18, now_seconds) == 0
    projection.close()
    assert projection.advance(2**18, 3.0) == 0
    (said,) = caplog.records
    assert said.message.startswith("run demo: an attempt that logged nothing is not shown; ")


def test_an_attempt_that_is_projected_after_the_next_leaves_its_projector_alone(tmp_path: Path) -> None:
    later = make_records(every_kind((2, 3)), start_ns=START_NS + 60 * 10**9)
    run(append_records(tmp_path / "later", make_stream(attempt=1, stream_id=b"\1" * 16), later), tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    run(write_recording(tmp_path, every_kind((1,))), tmp_path / "log")
    after = folder_bytes(tmp_path / "log")
    assert {name: data for name, data in after.items() if "/attempt-0/" not in name} == before
    assert "demo/attempt-0/projector_config.pbtxt" in after


def test_a_recording_that_grows_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    records = make_records(SMALL)
    append_records(folder, make_stream(), records[:3])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    assert projection.advance(2**18) == 3
    assert projection.advance(2**18) == 0
    append_records(folder, make_stream(), records[3:])
    assert projection.advance(2**18) == 3
    projection.close()
    assert len(event_files(tmp_path / "log" / "demo")) == 1
    assert len(ids(tmp_path / "log")) == 7


def test_a_hole_in_the_recording_shows_as_a_gap(tmp_path: Path) -> None:
    records = make_records(SMALL)
    folder = append_records(tmp_path / "recording", make_stream(), records[:2] + records[4:])
    counts = run(folder, tmp_path / "log")
    shown = values_by_tag(tmp_path / "log" / "demo")
    ((step, number),) = shown["telemetry/gap_records"]
    assert (step, number.simple_value) == (records[4].step, 2.0)
    assert b"missing from the recording" in shown["telemetry/gaps"][0][1].tensor.string_val[0]
    assert (counts.gaps, counts.missing_records) == (1, 2)
    assert run(folder, tmp_path / "log") == ProjectionCounts()


def test_a_gap_of_the_trainer_is_shown_once_also_after_a_kill(tmp_path: Path) -> None:
    records = make_records(SMALL[:2])
    gap = Record(Kind.GAP, 3, 5, START_NS, encode_body(Gap("outbox full", {"matrix": 7})), 7)
    later = make_records([Said(9, Scalars({"a": 1.0}))], first_sequence=10)
    folder = append_records(tmp_path / "recording", make_stream(), [*records, gap, *later])
    run(folder, tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    path.write_bytes(path.read_bytes()[:-1])
    counts = run(folder, tmp_path / "log")
    assert (counts.gaps, counts.events) == (0, 1)
    assert ids(tmp_path / "log")[-3:] == [f"{STREAM_ID.hex()}/{place}" for place in ("9/0+", "9/1", "10/0")]
    assert [value.simple_value for _, value in values_by_tag(tmp_path / "log" / "demo")["telemetry/gap_records"]] == [
        7.0
    ]


@pytest.mark.parametrize(
    ("record", "counted"),
    [
        (Record(99, 2, 1, START_NS, b"new"), "unknown_kinds"),
        (Record(Kind.SCALARS, 2, 1, START_NS, b"\xc1"), "malformed"),
        (Record(Kind.SCALARS, 2, 1, START_NS, b""), "malformed"),
        (Record(Kind.SCALARS, 2, -STEP_MAX - 1, START_NS, encode_body(Scalars({"a": 1.0}))), "malformed"),
        (Record(Kind.SCALARS, 2, 2**60, START_NS, encode_body(Scalars({"a": 1.0}))), "malformed"),
        (Record(Kind.SCALARS, 2, 1, START_NS, encode_body(Scalars({"": 1.0}))), "malformed"),
        (Record(Kind.MATRIX, 2, 1, START_NS, encode_body(Matrix("a", pack_array(np.zeros(3))))), "malformed"),
    ],
)
def test_a_record_without_meaning_is_counted_logged_once_and_skipped(
    record: Record, counted: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start, end = make_records(SMALL[:1]), make_records(SMALL[1:2], first_sequence=4)
    records = [*start, record, record._replace(sequence=3), *end]
    with caplog.at_level(logging.WARNING):
        counts = run(append_records(tmp_path / "recording", make_stream(), records), tmp_path / "log")
    assert getattr(counts, counted) == 2
    assert len(caplog.records) == 1
    assert [identity.split("/")[1] for identity in ids(tmp_path / "log")] == ["1", "1", "2", "3", "4"]


def explode(*_: object, **__: object) -> None:
    """Stand for a drawing that fails."""
    raise ZeroDivisionError("no picture")


@pytest.mark.parametrize("drawing", ["heatmap", "contact_sheet", "grid", "layer_overview"])
def test_a_drawing_that_fails_costs_its_picture_and_no_more(
    drawing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"tensorboard_sidecar.logger_service.events.to_events.{drawing}", explode)
    counts = run(write_recording(tmp_path, every_kind((1, 2))), tmp_path / "log")
    assert counts.drawing_failures == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no picture" in caplog.text
    assert counts.records == len(every_kind((1, 2)))
    assert len(values_by_tag(tmp_path / "log" / "demo")["weights/layer0.weight"]) == 2


@pytest.mark.parametrize("place", ["decode_message", "project"])
def test_memory_that_runs_out_before_a_drawing_costs_the_drawing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    drawings = [Said(step, Matrix("m", pack_array(np.eye(3, dtype=np.float32)))) for step in range(1, 4)]
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(f"tensorboard_sidecar.logger_service.projection.stream.{place}", no_memory)
    counts = follow(write_recording(tmp_path, drawings), tmp_path / "log", lambda: True).counts
    assert (counts.records, counts.drawing_failures, counts.stream_failures) == (3, 3, 0)
    assert "kind 4 not drawn: " in caplog.text


def test_an_embedding_that_cannot_be_written_for_its_content_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.embedding_projector.sprite", explode)
    counts = run(write_recording(tmp_path, every_kind((1,))), tmp_path / "log")
    assert counts.drawing_failures == 2
    assert not (tmp_path / "log" / "demo" / "projector_config.pbtxt").exists()


def trials(count: int) -> list[Said]:
    return [Said(trial, HParams({"trial": trial}, {"accuracy": trial / 10})) for trial in range(count)]


def test_each_set_of_hyperparameters_is_a_row_and_its_metrics_are_curves_of_the_run(tmp_path: Path) -> None:
    run(write_recording(tmp_path, [*SMALL, *trials(3)]), tmp_path / "log")
    shown = values_by_tag(tmp_path / "log" / "demo")
    assert [round(value.simple_value, 6) for _, value in shown["accuracy"]] == [0.0, 0.1, 0.2]
    assert not [tag for tag in shown if tag.startswith("_hparams_/")]
    rows = sorted((tmp_path / "log" / "demo").glob("hparams-*"))
    assert sorted(round(values_by_tag(row)["accuracy"][0][1].simple_value, 6) for row in rows) == [0.0, 0.1, 0.2]
    assert not verify(tmp_path / "log").lossy


def test_hyperparameters_beyond_the_bound_are_counted_and_said_once_and_their_metrics_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.hparams_rows.ROWS_MAX", 2)
    counts = run(write_recording(tmp_path, [*SMALL, *trials(5)]), tmp_path / "log")
    assert (counts.rows_left_out, counts.drawing_failures) == (3, 0)
    assert len(caplog.records) == 1
    assert "hyperparameters not shown: a run has 1,000 sets of them at most" in caplog.text
    assert len(values_by_tag(tmp_path / "log" / "demo")["accuracy"]) == 5
    assert len(list((tmp_path / "log" / "demo").glob("hparams-*"))) == 2


def test_hyperparameters_that_cannot_be_written_for_their_content_cost_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.stream.write_row", explode)
    counts = run(write_recording(tmp_path, [*SMALL, *trials(2)]), tmp_path / "log")
    assert (counts.records, counts.drawing_failures) == (8, 2)
    assert len(values_by_tag(tmp_path / "log" / "demo")["accuracy"]) == 2


def test_rows_after_a_kill_before_the_events_of_the_run_are_written_once(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, [*SMALL, *trials(3)])
    run(folder, tmp_path / "log")
    whole = folder_bytes(tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    for cut in range(40, len(path.read_bytes()), 60):
        path.write_bytes(whole[f"demo/{path.name}"][:-cut])
        run(folder, tmp_path / "log")
        assert {name: data for name, data in folder_bytes(tmp_path / "log").items() if "hparams-" in name} == {
            name: data for name, data in whole.items() if "hparams-" in name
        }
        for later in event_files(tmp_path / "log" / "demo")[1:]:
            later.unlink()


def test_damage_is_counted_logged_once_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_recording(tmp_path, SMALL)
    (segment,) = folder.iterdir()
    data = bytearray(segment.read_bytes())
    data[data.index(b"hello")] ^= 1
    data[-200] ^= 1
    segment.write_bytes(data)
    counts = run(folder, tmp_path / "log")
    assert counts.damages == 2
    assert sum("damaged" in record.message for record in caplog.records) == 1


def full_disk(_: int, __: bytes) -> int:
    """Stand for os.write on a full disk."""
    raise OSError(28, "No space left on device")


def short_write(write: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
    """Write at most 7 bytes a call."""
    return lambda file, data: write(file, data[:7])


def test_a_full_disk_is_raised_and_a_new_projection_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_recording(tmp_path, SMALL)
    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", full_disk)
        with pytest.raises(OSError, match="No space"):
            run(folder, tmp_path / "log")
    run(folder, tmp_path / "log")
    assert len(ids(tmp_path / "log")) == 7


def test_a_write_that_takes_a_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", short_write(os.write))
    run(write_recording(tmp_path, SMALL), tmp_path / "log")
    assert len(ids(tmp_path / "log")) == 7


@pytest.mark.parametrize("sequence", [2, SEQUENCE_MAX - 1])
def test_any_sequence_number_and_time_is_taken(tmp_path: Path, sequence: int) -> None:
    records = make_records(SMALL[1:2], first_sequence=sequence, start_ns=0)
    records = [record._replace(wall_time_ns=-(2**63)) for record in records]
    run(append_records(tmp_path / "recording", make_stream(), records), tmp_path / "log")
    assert ids(tmp_path / "log")[-1] == f"{STREAM_ID.hex()}/{sequence}/0"


def test_ranks_write_in_folders_of_their_own(tmp_path: Path) -> None:
    for rank in (0, 1):
        stream = make_stream(rank=rank, stream_id=bytes([rank]) * 16)
        run(write_recording(tmp_path, SMALL, stream), tmp_path / "log")
    assert len(load_folder(tmp_path / "log" / "demo")) == len(load_folder(tmp_path / "log" / "demo" / "rank-1")) == 7


def test_an_empty_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StreamProjection(tmp_path, tmp_path / "log", ProjectionCounts())


def test_times_and_steps_are_those_of_the_records(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SMALL)
    run(folder, tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    assert path.name == f"events.out.tfevents.{START_NS // 10**9 + 1}.0000.00010203.0000"
    events = load_events(path)
    assert [event.wall_time - START_NS / 1e9 for event in events] == [1, 1, 1, 2, 3, 4, 5, 6]
    assert [event.step for event in events] == [0, 0, 0, 0, 1, 2, 3, 4]


PARTS = [
    Said(0, RunStart()),
    *(Said(1, part) for part in in_parts(make_embedding("joint"), [3, 6, 9])),
    Said(2, Scalars({"a": 1.0})),
]


def test_parts_of_an_embedding_are_its_files_live_and_replayed(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "parts", PARTS)
    run(folder, tmp_path / "log")
    run(folder, tmp_path / "slowly", size_max_bytes=1)
    assert folder_bytes(tmp_path / "slowly") == folder_bytes(tmp_path / "log")
    run(write_recording(tmp_path / "whole", [PARTS[0], Said(1, make_embedding("joint")), PARTS[-1]]), tmp_path / "one")
    joint = {name: data for name, data in folder_bytes(tmp_path / "one").items() if "joint." in name}
    assert len(joint) == 4
    assert joint.items() <= folder_bytes(tmp_path / "log").items()


@pytest.mark.parametrize("shown", range(2, len(PARTS) + 1))
@pytest.mark.parametrize("lost_events", [0, 1, 2])
def test_after_a_kill_between_two_parts_the_embedding_is_completed(
    shown: int, lost_events: int, tmp_path: Path
) -> None:
    """The events of the last records were not written yet; their files were."""
    records = make_records(PARTS)
    whole = append_records(tmp_path / "whole", make_stream(), records)
    run(whole, tmp_path / "wanted")
    run(append_records(tmp_path / "begun", make_stream(), records[:shown]), tmp_path / "log")
    [path] = event_files(tmp_path / "log" / "demo")
    sizes = [len(pack_frame(event.SerializeToString())) for event in load_events(path)]
    path.write_bytes(path.read_bytes()[: sum(sizes[: max(0, len(sizes) - lost_events)])])
    counts = run(whole, tmp_path / "log")
    assert counts.drawing_failures == 0
    assert folder_bytes(tmp_path / "log" / "demo" / "projector") == folder_bytes(
        tmp_path / "wanted" / "demo" / "projector"
    )


def test_an_embedding_whose_middle_part_was_refused_is_not_shown_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = make_records(PARTS)
    refused = Record(Kind.GAP, 3, 0, START_NS, encode_body(Gap("the outbox was full", {"embedding": 1})))
    records[2] = refused
    caplog.set_level(logging.WARNING)
    counts = run(append_records(tmp_path / "recording", make_stream(), records), tmp_path / "log")
    assert (counts.gaps, counts.drawing_failures) == (1, 1)
    assert caplog.text.count("embedding joint of step-000000000001 is not shown: rows before row 6 of 12") == 1
    assert not (tmp_path / "log" / "demo" / "projector_config.pbtxt").exists()
    resumed = write_recording(tmp_path, [Said(1, RunStart(1)), PARTS[-1]], make_stream(attempt=1, stream_id=b"\1" * 16))
    assert run(resumed, tmp_path / "log").drawing_failures == 0
    assert not list((tmp_path / "log" / "demo" / "projector").iterdir())
