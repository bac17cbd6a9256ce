"""The findings of a stream in its event files: each change once, at its record, live, replayed and after any kill."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.events import event_files, folder_bytes, id_of, load_folder, values_by_tag
from support.records.recordings import (
    START_NS,
    STREAM_ID,
    Said,
    append_records,
    make_records,
    make_stream,
    summarise,
    write_recording,
)

from tensorboard_sidecar.logger_service.events.identity import EventId, find_id
from tensorboard_sidecar.logger_service.events.to_events import blank
from tensorboard_sidecar.logger_service.findings.watch import CHUNK_POINTS, Watch
from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection import stream_findings
from tensorboard_sidecar.logger_service.projection.quarantine import DEATHS_MAX, Quarantine
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.projection.stream_findings import CARDS_MAX, StreamFindings, View
from tensorboard_sidecar.logger_service.projection.stream_parts import GapPlace, with_gaps
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import decode_message, encode_body
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import (
    Gap,
    HParams,
    Matrix,
    Point,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
    Text,
)
from tensorboard_sidecar.protocol.record import Kind, Record

NAN = float("nan")
RULE = "non-finite-scalar"
# Findings open and clear, at steps that also go back; a record of two events is among them, and a gap.
SICK = [
    Said(0, RunStart(0, {"lr": 0.1})),
    Said(1, Scalars({"loss": 1.0, "b": 1.0})),
    Said(2, Scalars({"loss": NAN, "b": 1.0})),
    Said(2, Text("t", "hello")),
    Said(3, Scalars({"loss": NAN, "b": NAN})),
    Said(4, Scalars({"loss": 1.0, "b": 1.0})),
    Said(1, Scalars({"loss": NAN, "b": 1.0})),
    Said(1, Point("b", float("inf"))),
    Said(9, RunEnd("failed")),
]


def project(folder: Path, logdir: Path, size_max_bytes: int = 2**18) -> ProjectionCounts:
    """Project a recording to its end, as a process of its own would."""
    projection = StreamProjection(folder, logdir, ProjectionCounts())
    while projection.advance(size_max_bytes):
        pass
    projection.close()
    return projection.counts


def events(logdir: Path) -> list[bytes]:
    """Return the events of the run, serialised."""
    return [event.SerializeToString() for event in load_folder(logdir / "demo")]


def cards(logdir: Path) -> list[tuple[int, str]]:
    """Return step and text of each card."""
    found = values_by_tag(logdir / "demo").get("findings", [])
    return [(step, value.tensor.string_val[0].decode()) for step, value in found]


def curve(logdir: Path) -> list[tuple[int, float]]:
    """Return the points of the number of open findings."""
    return [(step, value.simple_value) for step, value in values_by_tag(logdir / "demo").get("findings/open", [])]


def test_a_finding_is_an_event_of_the_record_at_which_it_opens_and_clears(tmp_path: Path) -> None:
    counts = project(write_recording(tmp_path, SICK), tmp_path / "log")
    name = STREAM_ID.hex()
    ids = [id_of(event).removeprefix(f"{name}/") for event in load_folder(tmp_path / "log" / "demo")]
    assert ids == [
        *("1/0", "1/1", "2/0", "3/0+", "3/1", "4/0", "5/0+", "5/1", "6/0+", "6/1"),
        *("7/0+", "7/1", "8/0+", "8/1", "9/0+", "9/1"),
    ]
    assert [number for _, number in curve(tmp_path / "log")] == [1, 2, 0, 1, 2, 2]
    assert (counts.findings_opened, counts.findings_cleared, counts.records, counts.events) == (4, 2, 9, 16)
    assert not verify(tmp_path / "log").lossy


def test_the_steps_of_findings_only_grow_so_that_tensorboard_hides_none(tmp_path: Path) -> None:
    project(write_recording(tmp_path, SICK), tmp_path / "log")
    steps = [step for step, _ in curve(tmp_path / "log")]
    assert steps == [2, 3, 4, 5, 6, 9]
    assert [step for step, _ in cards(tmp_path / "log")] == steps


def test_a_card_says_what_is_open_what_is_cleared_and_what_was_not_checked(tmp_path: Path) -> None:
    project(write_recording(tmp_path, SICK), tmp_path / "log")
    third = cards(tmp_path / "log")[2][1]
    assert third.startswith("**0 open**, 2 cleared.")
    assert "| error, cleared | non\\-finite\\-scalar | b | 3 \\(1\\) |" in third
    assert "Not checked:" in third
    assert "| loss\\-spike | needs 100 points of a training loss that stays above 0 |" in third
    assert "scalar" not in third.partition("Not checked:")[2]


@pytest.mark.parametrize(
    ("said", "shown"),
    [([Said(9, RunEnd("completed"))], 1), ([Said(9, RunEnd("completed", plain=True))], 0), ([], 0)],
    ids=["an end", "a plain end", "no end"],
)
def test_a_run_in_which_nothing_was_found_says_so_at_its_end(tmp_path: Path, said: list[Said], shown: int) -> None:
    """A SummaryWriter's user asked for nothing beside the calls: a plain end has a card only if something was found."""
    healthy = [Said(step, Scalars({"a": 1.0})) for step in range(3)]
    project(write_recording(tmp_path, [Said(0, RunStart()), *healthy, *said]), tmp_path / "log")
    assert [(step, text.partition("\n")[0]) for step, text in cards(tmp_path / "log")] == [
        (9, "Nothing was found.")
    ] * shown
    assert curve(tmp_path / "log") == [(9, 0.0)] * shown


def test_a_plain_end_of_a_run_in_which_something_was_found_has_the_card(tmp_path: Path) -> None:
    said = [Said(1, Scalars({"a": NAN})), Said(2, RunEnd("completed", plain=True))]
    project(write_recording(tmp_path, said), tmp_path / "log")
    assert [step for step, _ in cards(tmp_path / "log")] == [1, 2]


def test_points_that_wait_are_judged_at_the_end(tmp_path: Path) -> None:
    said = [Said(step, Scalars({"lr": 0.0})) for step in range(200, 220)]
    assert len(said) < CHUNK_POINTS
    records = [record._replace(wall_time_ns=START_NS) for record in make_records([*said, Said(300, RunEnd("failed"))])]
    project(append_records(tmp_path / "recording", make_stream(), records), tmp_path / "log")
    assert [(step, "lr\\-zero" in text) for step, text in cards(tmp_path / "log")] == [(300, True)]


def places(data: bytes) -> set[int]:
    """Return the ends of all frames, the bytes beside them, and every 97th byte: cards are long."""
    ends, end = {0}, 0
    while end < len(data):
        end += 16 + int.from_bytes(data[end : end + 8], "little")
        ends |= {end - 1, end, end + 1}
    return {place for place in ends | set(range(0, len(data), 97)) if place <= len(data)}


def test_after_a_kill_at_any_byte_every_finding_is_there_once(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SICK)
    project(folder, tmp_path / "whole")
    (path,) = event_files(tmp_path / "whole" / "demo")
    data, whole = path.read_bytes(), events(tmp_path / "whole")
    for size in places(data):
        logdir = tmp_path / "cut"
        (logdir / "demo").mkdir(parents=True)
        (logdir / "demo" / path.name).write_bytes(data[:size])
        project(folder, logdir)
        assert events(logdir) == whole
        assert project(folder, logdir) == ProjectionCounts()
        shutil.rmtree(logdir)


def test_the_amount_a_turn_reads_changes_no_byte(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SICK)
    project(folder, tmp_path / "one")
    project(folder, tmp_path / "other", size_max_bytes=1)
    replay([folder], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "other") == folder_bytes(tmp_path / "replayed")


@pytest.mark.parametrize("stops", range(1, len(SICK)))
def test_a_stream_that_goes_on_after_a_restart_has_the_same_findings(tmp_path: Path, stops: int) -> None:
    """Also when its recording has a hole, which is shown as a gap, and a gap that knows no step."""
    records = make_records(SICK)
    records[5] = Record(Kind.GAP, 6, 0, 0, encode_body(Gap("lost")), 1)
    del records[3]
    project(append_records(tmp_path / "recording", make_stream(), records), tmp_path / "whole")
    folder = append_records(tmp_path / "growing", make_stream(), records[:stops])
    project(folder, tmp_path / "log")
    append_records(folder, make_stream(), records[stops:])
    project(folder, tmp_path / "log")
    assert events(tmp_path / "log") == events(tmp_path / "whole")


def test_a_hole_whose_own_event_alone_was_written_is_told_with_all_its_records(tmp_path: Path) -> None:
    """The projection made the gap: after the kill only its last number is behind what is read again."""
    records = [record for record in make_records(SICK) if record.sequence not in (3, 4, 5)]
    folder = append_records(tmp_path / "recording", make_stream(), records)
    project(folder, tmp_path / "whole")
    (path,) = event_files(tmp_path / "whole" / "demo")
    at_gap = [find_id(event) for event in load_folder(path.parent)].index(EventId(STREAM_ID, 5, 0, more=True))
    data, end = path.read_bytes(), 0
    for _ in range(at_gap + 2):  # the version comes first
        end += 16 + int.from_bytes(data[end : end + 8], "little")
    (tmp_path / "log" / "demo").mkdir(parents=True)
    (tmp_path / "log" / "demo" / path.name).write_bytes(data[:end])
    project(folder, tmp_path / "log")
    assert events(tmp_path / "log") == events(tmp_path / "whole")
    assert "records 3" in cards(tmp_path / "log")[0][1]


@pytest.mark.parametrize("journalled", range(1, len(SICK)))
def test_two_recordings_of_one_stream_lack_nothing(tmp_path: Path, journalled: int) -> None:
    """A journal, and the rest of the trainer's outbox: what the one holds is no gap of the other."""
    records = make_records(SICK)
    append_records(tmp_path / "recordings" / "journal", make_stream(), records[:journalled])
    append_records(tmp_path / "recordings" / "outbox", make_stream(), records[journalled:])
    for _ in range(2):
        replay([tmp_path / "recordings"], tmp_path / "log")
        assert not [text for _, text in cards(tmp_path / "log") if "| telemetry\\-gaps |" in text]
        assert len(load_folder(tmp_path / "log" / "demo")) >= len(SICK) + 1


def test_a_finished_recording_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_recording(tmp_path, SICK)
    project(folder, tmp_path / "log")

    def read(*_: object) -> None:
        raise AssertionError("the records are read again")

    monkeypatch.setattr(StreamFindings, "read", read)
    assert project(folder, tmp_path / "log") == ProjectionCounts()


def test_records_that_tell_the_rules_nothing_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_records([*SICK[:4], Said(4, Text("t", "more")), *SICK[4:]])
    folder = append_records(tmp_path / "recording", make_stream(), records[:5])
    project(folder, tmp_path / "log")
    append_records(folder, make_stream(), records[5:])
    decoded: list[int] = []

    def decode(record: Record) -> Any:
        decoded.append(record.sequence)
        return decode_message(record)

    monkeypatch.setattr(stream_findings, "decode_message", decode)
    project(folder, tmp_path / "log")
    assert decoded == [1, 2, 3]


def test_reading_again_stops_at_enough_and_goes_on_in_the_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A long recording leaves the heartbeat and the other runs their turns, and says why it is late; once."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stream_findings, "_LOOK_RECORDS", 3)
    records = make_records([*SICK[:-1], *(Said(step, Scalars({"a": 1.0})) for step in range(10, 40)), SICK[-1]])
    folder = append_records(tmp_path / "recording", make_stream(), records[:20])
    project(folder, tmp_path / "log")
    append_records(folder, make_stream(), records[20:])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    assert projection.advance(2**18, 0.0, lambda: True) == 1, "the last record, for its place"
    turns = 0
    while projection.advance(2**18, 0.0, lambda: True) == 1:
        assert projection.reads_again
        turns += 1
        if turns % 2:
            projection.close()  # as for a process with few files
    assert (turns, projection.reads_again) == (20 // 3, False)
    while projection.advance(2**18, 0.0):
        pass
    projection.close()
    project(folder, tmp_path / "whole")
    assert events(tmp_path / "log") == events(tmp_path / "whole")
    assert caplog.text.count("reads its records again for its findings") == 1


@pytest.mark.parametrize("deadly", [True, False], ids=["kills the process", "raises an error"])
def test_reading_again_that_fails_costs_the_findings_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, deadly: bool
) -> None:
    records = make_records(SICK)
    folder = append_records(tmp_path / "recording", make_stream(), records[:3])
    project(folder, tmp_path / "log")
    append_records(folder, make_stream(), records[3:])
    suspects = Quarantine()

    def fail(*_: object) -> bool:
        raise MemoryError("no memory for a watch")

    monkeypatch.setattr(StreamFindings, "read", fail)
    if deadly:
        suspects._deaths[STREAM_ID, 0] = DEATHS_MAX
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts(), suspects)
    while projection.advance(2**18, 0.0):
        pass
    assert projection.next_sequence == len(SICK) + 1
    assert [number for _, number in curve(tmp_path / "log")] == [1.0]
    assert caplog.text.count("no findings: ") == 1
    assert ("the projection ended each time" if deadly else "no memory for a watch") in caplog.text


def test_a_watch_that_raises_costs_its_record_alone_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Watch.scalars

    def scalars(watch: Watch, step: int, *others: Any) -> list[Finding]:
        if step == 2:
            raise ZeroDivisionError("oh")
        return real(watch, step, *others)

    monkeypatch.setattr(Watch, "scalars", scalars)
    counts = project(write_recording(tmp_path, SICK), tmp_path / "log")
    assert (counts.records, counts.findings_opened) == (9, 4)
    assert curve(tmp_path / "log")[0] == (3, 2.0)
    assert caplog.text.count("records not watched: ZeroDivisionError('oh')") == 1


def test_a_finding_that_opens_and_clears_again_and_again_fills_no_disk_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change is a point of the curve; cards and lines become rare."""
    caplog.set_level(logging.INFO)
    changes = 10 * CARDS_MAX
    said = [Said(step, Scalars({"loss": NAN if step % 2 else 1.0})) for step in range(changes + 1)]
    folder = write_recording(tmp_path, [*said, Said(changes + 1, RunEnd("completed"))])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    while projection.advance(2**18, 0.0):
        pass
    assert len(curve(tmp_path / "log")) == changes + 1
    assert len(cards(tmp_path / "log")) == CARDS_MAX + 9 + 1
    lines = [record.message for record in caplog.records if RULE in record.message]
    assert 10 < len(lines) < 30
    assert any("(time 256)" in line for line in lines)


def test_a_live_projection_logs_findings_and_a_replay_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    said = [Said(1, Scalars({"lo|ss": NAN})), Said(2, Scalars({"lo|ss": 1.0}))]
    folder = write_recording(tmp_path, said)
    (replayed,) = replay([folder], tmp_path / "replayed")
    assert not caplog.records
    assert ", 1 findings opened, 1 findings cleared" in str(replayed)
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    while projection.advance(2**18, 0.0):
        pass
    opened, cleared = [record for record in caplog.records if RULE in record.message]
    assert (opened.levelno, cleared.levelno) == (logging.ERROR, logging.INFO)
    assert opened.message.startswith(
        "run demo: error: non-finite-scalar of lo|ss, step 1 (not finite 1, values 1): Stop: with a loss of NaN"
    )
    assert cleared.message == "run demo: error: non-finite-scalar of lo|ss, step 1, cleared (not finite 1, values 1)"


def test_a_restarted_projection_logs_new_findings_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = make_records(SICK)
    folder = append_records(tmp_path / "recording", make_stream(), records[:4])
    project(folder, tmp_path / "log")
    append_records(folder, make_stream(), records[4:5])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    while projection.advance(2**18, 0.0):
        pass
    assert [record.message.split(",")[0] for record in caplog.records] == ["run demo: error: non-finite-scalar of b"]
    assert {(one.rule, one.tag) for one in projection.findings} == {(RULE, "loss"), (RULE, "b")}, "all are known"


def test_the_findings_of_a_run_that_has_ended_are_forgotten_when_it_rests_and_come_back_with_a_record(
    tmp_path: Path,
) -> None:
    records = make_records([*SICK, Said(10, Scalars({"loss": NAN})), Said(11, Scalars({"loss": 1.0}))])
    folder = append_records(tmp_path / "recording", make_stream(), records[:3])
    projection = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    projection.advance(2**18)
    projection.rest()
    assert len(projection.findings) == 1, "the run goes on"
    append_records(folder, make_stream(), records[3:9])
    projection.advance(2**18)
    assert projection.findings
    projection.rest()
    assert projection.findings == []
    append_records(folder, make_stream(), records[9:])
    while projection.advance(2**18):
        pass
    assert {one.tag for one in projection.findings} == {"loss", "b"}
    projection.close()
    project(folder, tmp_path / "whole")
    assert events(tmp_path / "log") == events(tmp_path / "whole")


def test_a_finding_at_the_last_step_there_is_stays_there() -> None:
    view = View()
    said = [Said(STEP_MAX, Scalars({"a": number})) for number in (NAN, 1.0)] + [Said(-5, Scalars({"a": NAN}))]
    steps = [change.step for record in make_records(said) if (change := view.take(record, decode_message(record)))]
    assert steps == [STEP_MAX, STEP_MAX, STEP_MAX]
    early = View()
    (record,) = make_records([Said(-5, Scalars({"a": NAN}))])
    shown = early.take(record, decode_message(record))
    assert shown is not None
    assert shown.step == 0


# Several scalars, so that curves wait in chunks; numbers that open and clear findings; and everything else that rules
# look at.
numbers = st.sampled_from([1.0, 1.0, 1.5, 0.0, 1e-9, 500.0, -1.0, NAN, float("inf")])
messages = st.one_of(
    *[st.fixed_dictionaries(dict.fromkeys(("loss", "lr", "grad_norm", "x"), numbers)).map(Scalars)] * 4,
    st.builds(Scalars, st.dictionaries(st.sampled_from(["val/loss", "temperature", "epoch", "y"]), numbers)),
    st.builds(Point, st.sampled_from(["loss", "val/accuracy"]), numbers),
    st.builds(
        lambda scale: TensorSummaries({f"gradients/layer{n}.weight": summarise([scale * n, 1.0]) for n in (1, 2, 3)}),
        st.sampled_from([1.0, 1e-6, 1e6]),
    ),
    st.builds(
        lambda side, number: Matrix("similarity/a_vs_b", pack_array(np.full((side, side), number, np.float32))),
        st.integers(1, 6),
        st.sampled_from([0.0, 1.0]),
    ),
    st.builds(HParams, st.fixed_dictionaries({"max_steps": st.integers(1, 100)}), st.just({})),
    st.just(Text("t", "hello")),
    st.just(Gap("the outbox was full")),
    st.just(RunEnd("completed", plain=True)),
)
runs = st.tuples(
    st.lists(st.tuples(st.integers(-1, 120), messages), min_size=2, max_size=3 * CHUNK_POINTS // 2),
    st.sampled_from([10**6, 10**9]),
)


def records_of(said: Sequence[tuple[int, Any]], step_ns: int) -> list[Record]:
    records = make_records(Said(step, message) for step, message in said)
    return [record._replace(wall_time_ns=START_NS + record.sequence * step_ns) for record in records]


class Projector:
    """Shows records to the findings of a stream in memory, each with one event of its own."""

    def __init__(self, records: Sequence[Record], last_id: EventId | None = None) -> None:
        self._records = records
        self._place = GapPlace(START_NS)
        self.findings = StreamFindings(STREAM_ID, last_id, self.before)

    def before(self, sequence: int, first_sequence: int) -> Iterator[Record]:
        some = [record for record in self._records if first_sequence <= record.sequence < sequence]
        return with_gaps(some, first_sequence)

    def events(self, first_sequence: int = 1) -> list[list[bytes]]:
        """Return the events of each record from a sequence number on."""
        for record in self.before(first_sequence, 1):
            self._place.place(record)
        return [self._events(record) for record in self._records if record.sequence >= first_sequence]

    def _events(self, record: Record) -> list[bytes]:
        if self.findings.must_read(record):
            assert self.findings.read(record.sequence, START_NS, lambda: False)
        placed, own = self._place.place(record), blank(record, STREAM_ID)
        said = self.findings.see(placed, decode_message(record))
        return own if said is None else self.findings.add(said, placed, own)


@given(runs, st.data())
def test_any_split_of_a_recording_into_two_projections_gives_the_same_events(
    run: tuple[list[tuple[int, Any]], int], data: st.DataObject
) -> None:
    """The second projection goes on behind the last whole record, or behind the own event of a record with findings."""
    records = records_of(*run)
    whole = Projector(records).events()
    split = data.draw(st.integers(1, len(records) - 1))
    torn = len(whole[split - 1]) == 2 and data.draw(st.booleans())
    last_id = EventId(STREAM_ID, split, 0 if torn or len(whole[split - 1]) == 1 else 1, more=torn)
    second = Projector(records, last_id)
    again = second.events(split)  # the last record is read again
    assert again[0] == (whole[split - 1] if torn else blank(records[split - 1], STREAM_ID))
    assert again[1:] == whole[split:]


@given(runs, st.data())
def test_a_recording_that_is_read_again_in_pieces_gives_the_same_findings(
    run: tuple[list[tuple[int, Any]], int], data: st.DataObject
) -> None:
    records = records_of(*run)
    whole = Projector(records)
    whole.events()
    other = Projector(records, EventId(STREAM_ID, 1, 0))
    enough = [*data.draw(st.lists(st.booleans(), min_size=3, max_size=3)), False]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_findings, "_LOOK_RECORDS", 2)
        while not other.findings.read(len(records) + 1, START_NS, lambda: enough.pop(0) if enough else False):
            other.findings.close()
    assert other.findings.findings == whole.findings.findings
