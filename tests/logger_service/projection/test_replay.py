"""Replays, alone and beside a live projection: the same files, also for several attempts of one run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.records.events import event_files, folder_bytes, id_of, load_folder, values_by_tag
from support.records.recordings import (
    START_NS,
    Said,
    append_records,
    every_kind,
    make_records,
    make_stream,
    write_recording,
)

from tensorboard_sidecar.logger_service.offline.inspection import inspect
from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.logger_service.projection.replay import Replayed, replay
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import HParams, RunEnd, RunStart, Scalars, SegmentHead
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record
from tensorboard_sidecar.protocol.stream import Stream

PROGRAM = """
import sys
from pathlib import Path
from tensorboard_sidecar.logger_service.projection.replay import replay
replay([Path(sys.argv[1])], Path(sys.argv[2]))
"""


HOSTILE_RUNS = [
    "../escape",
    "/etc",
    "a/../../b",
    "a//b",
    ".",
    "..",
    ".hidden",
    "a\0b",
    "a\nb",
    "C:\\x",
    "x" * 600,
    "a/./b",
    "",
]
S = 10**9
# The ids of these streams sort against their times.
FRESH = make_stream(stream_id=b"\xaa" * 16)
RESUMED = make_stream(attempt=1, stream_id=b"\xab" * 16)
AGAIN = make_stream(stream_id=b"\x01" * 16)


SILENT = [Said(0, RunStart(0, {"lr": 0.1})), Said(0, RunEnd("failed"))]


def test_a_replay_reports_its_counts(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "recordings", every_kind((1,)))
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "log")
    assert (replayed.folder, replayed.counts.records) == (folder, len(every_kind((1,))))
    records = len(every_kind((1,)))  # the start of the run has two events, and the end has the findings
    assert str(replayed).startswith(f"{folder}: {records} records, {records + 2} events")


def test_a_second_replay_writes_nothing_and_reports_that(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", every_kind((1,)))
    replay([tmp_path / "recordings"], tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "log")
    assert replayed.counts == ProjectionCounts()
    assert str(replayed).endswith("already there, 0 new records")
    assert folder_bytes(tmp_path / "log") == before


def test_a_replay_says_that_an_attempt_that_logged_nothing_is_not_shown(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "recordings", SILENT)
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "log")
    assert str(replayed) == (
        f"{folder}: run demo: an attempt that logged nothing is not shown;"
        " `tensorboard-sidecar inspect` describes its recording"
    )
    assert not folder_bytes(tmp_path / "log")
    assert "status     failed" in inspect([folder])
    assert not verify(folder).lossy


def test_a_replay_continues_where_an_earlier_replay_ended(tmp_path: Path) -> None:
    records = make_records(every_kind((1, 2)))
    folder = append_records(tmp_path / "recording", make_stream(), records[:9])
    replay([folder], tmp_path / "log")
    append_records(folder, make_stream(), records[9:])
    (replayed,) = replay([folder], tmp_path / "log")
    assert replayed.counts.records == len(records) - 9
    replay([folder], tmp_path / "whole")
    assert load_folder(tmp_path / "log" / "demo") == load_folder(tmp_path / "whole" / "demo")


def test_attempts_follow_each_other_whatever_their_folders_are_called(tmp_path: Path) -> None:
    """TensorBoard reads the files of a run by name: the later attempt must come later."""
    for attempt, late_ns in ((2, 0), (0, 10**12), (1, 5 * 10**11)):
        stream = make_stream(attempt=attempt, stream_id=bytes([9 - attempt]) * 16)
        said = [Said(attempt, RunStart(attempt)), Said(attempt + 1, Scalars({"a": 1.0}))]
        records = make_records(said, start_ns=START_NS + late_ns)
        append_records(tmp_path / "recordings" / str(2 - attempt), stream, records)
    replay([tmp_path / "recordings"], tmp_path / "log")
    assert [path.name.split(".")[4] for path in event_files(tmp_path / "log" / "demo")] == ["0000", "0001", "0002"]
    assert [event.step for event in load_folder(tmp_path / "log" / "demo")] == [0, 1, 2, 2, 3, 3]


def test_two_recordings_of_one_stream_are_written_once(tmp_path: Path) -> None:
    """A journal, and the rest of the trainer's outbox."""
    records = make_records([Said(step, Scalars({"a": 1.0})) for step in range(10)])
    append_records(tmp_path / "recordings" / "journal", make_stream(), records[:6])
    append_records(tmp_path / "recordings" / "outbox", make_stream(), records[3:])
    replay([tmp_path / "recordings"], tmp_path / "log")
    sequences = [int(id_of(event).split("/")[1]) for event in load_folder(tmp_path / "log" / "demo")]
    assert sequences == list(range(1, 11))


@pytest.mark.parametrize("journalled", [0, 1, 2])
def test_two_recordings_of_one_stream_are_shown_when_either_shows_something(tmp_path: Path, journalled: int) -> None:
    """The journal may hold the start of the run alone; that start is not missing."""
    records = make_records([Said(0, RunStart(0, {"lr": 0.1})), *(Said(n, Scalars({"a": 1.0})) for n in range(3))])
    append_records(tmp_path / "recordings" / "journal", make_stream(), records[:journalled] or records)
    append_records(tmp_path / "recordings" / "outbox", make_stream(), records[journalled:])
    replay([tmp_path / "recordings"], tmp_path / "log")
    assert [int(id_of(event).split("/")[1]) for event in load_folder(tmp_path / "log" / "demo")] == [1, 1, 2, 3, 4]


def test_two_recordings_of_one_silent_stream_stay_silent(tmp_path: Path) -> None:
    for name in ("journal", "local"):
        append_records(tmp_path / "recordings" / name, make_stream(), make_records(SILENT))
    assert all(replayed.silent for replayed in replay([tmp_path / "recordings"], tmp_path / "log"))
    assert not folder_bytes(tmp_path / "log")


def test_progress_is_reported_during_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.replay._TURN_SIZE_BYTES", 100)
    write_recording(tmp_path / "recordings", [Said(step, Scalars({"a": 1.0})) for step in range(50)])
    told: list[int] = []
    replay([tmp_path / "recordings"], tmp_path / "log", lambda replayed: told.append(replayed.counts.records))
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == 50


def test_a_recording_without_a_head_is_reported_and_the_others_are_replayed(tmp_path: Path) -> None:
    broken = tmp_path / "recordings" / "broken" / f"{1:020d}.segment"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"rubbish" * 100)
    write_recording(tmp_path / "recordings", every_kind((1,)))
    first, second = replay([tmp_path / "recordings"], tmp_path / "log")
    assert "no valid segment head" in first.failure or "no segment head" in first.failure
    assert str(first).startswith(f"{broken.parent}: not replayed")
    assert second.counts.records == len(every_kind((1,)))


def test_where_there_is_no_recording_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay([tmp_path / "nothing"], tmp_path / "log")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("run", HOSTILE_RUNS)
def test_a_recording_whose_run_would_lead_elsewhere_writes_nothing(run: str, tmp_path: Path) -> None:
    head = encode_body(SegmentHead(bytes(16), run, 0, 0, 1))
    said = [Record(Kind.SEGMENT, 0, 0, 0, head, 0), *make_records([Said(0, RunStart()), Said(1, Scalars({"a": 1.0}))])]
    segment = tmp_path / "recordings" / "x" / f"{1:020d}.segment"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"".join(pack_frame(pack_record(record)) for record in said))
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "root" / "log")
    assert isinstance(replayed, Replayed)
    assert replayed.failure
    assert set(folder_bytes(tmp_path)) == {f"recordings/x/{1:020d}.segment"}


@pytest.mark.parametrize(
    "tag", ["../../x", "/etc/passwd", "a\\b", "~", "x" * 512, "\N{SNOWMAN}", "a b%&#+?", "-", "rank-1"]
)
def test_any_tag_stays_a_tag(tag: str, tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", [Said(1, Scalars({tag: 1.0}))])
    replay([tmp_path / "recordings"], tmp_path / "root" / "log")
    (event,) = load_folder(tmp_path / "root" / "log" / "demo")
    assert event.summary.value[0].tag == tag
    assert len(folder_bytes(tmp_path / "root")) == 1


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Pictures included, for any hash seed, time zone and language."""
    write_recording(tmp_path / "recordings", every_kind((1, 2)))
    settings = {"one": {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}, "two": {"PYTHONHASHSEED": "2", "LC_ALL": "C"}}
    for name, changes in settings.items():
        arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "recordings"), str(tmp_path / name)]
        subprocess.run(arguments, env=os.environ | changes, check=True, cwd=Path(__file__).parents[2])
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    assert len(folder_bytes(tmp_path / "one")) > 10


def say(
    root: Path,
    stream: Stream,
    first: int,
    *,
    at_seconds: int,
    first_step: int = 0,
    sequence: int = 1,
    seen_at_seconds: int | None = None,
) -> None:
    """Record three scalars from step ``first`` on, after a RunStart if they are the first.

    ``at_seconds`` is the trainer's time, ``seen_at_seconds`` the logger's.
    """
    said = [] if sequence > 1 else [Said(first_step, RunStart(first_step))]
    said += [Said(step, Scalars({"loss": float(at_seconds)})) for step in range(first, first + 3)]
    records = make_records(said, first_sequence=sequence, start_ns=START_NS + (at_seconds - sequence) * S)
    seen_ns = START_NS + (at_seconds if seen_at_seconds is None else seen_at_seconds) * S
    append_records(root / stream.run / stream.folder_name, stream, records, wall_time_ns=seen_ns)


def serve(recordings: Path, logdir: Path) -> None:
    """Project all records, as a logger that is started and stopped."""
    projection = Follower(recordings, logdir)
    while projection.turn(0.0, thorough=True):
        pass
    projection.close()


def same_everywhere(recordings: Path, live: Path) -> None:
    """Assert that a new log directory gets the same bytes, from a logger and from a replay."""
    serve(recordings, live.with_name("served"))
    replay([recordings], live.with_name("replayed"))
    assert folder_bytes(live) == folder_bytes(live.with_name("served")) == folder_bytes(live.with_name("replayed"))


def whose(logdir: Path, folder: str = "demo") -> list[str]:
    """Return the streams of a folder's files, in TensorBoard's order."""
    return [path.name.split(".")[5][:2] for path in event_files(logdir / folder)]


def ids(logdir: Path, folder: str = "demo") -> list[str]:
    return [id_of(event)[30:] for event in load_folder(logdir / folder)]


def test_a_fresh_start_after_a_resumed_one_is_the_last_everywhere(tmp_path: Path) -> None:
    """The number of its attempt is lower than the number before; the order is by time."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    for stream, first, at_seconds, first_step in ((FRESH, 1, 0, 0), (RESUMED, 3, 100, 2), (AGAIN, 1, 200, 0)):
        say(recordings, stream, first, at_seconds=at_seconds, first_step=first_step)
        serve(recordings, live)
    assert whose(live) == ["aa", "ab", "01"]
    same_everywhere(recordings, live)


def test_a_first_attempt_whose_clock_was_ahead_is_the_first_everywhere(tmp_path: Path) -> None:
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, FRESH, 1, at_seconds=600, seen_at_seconds=0)
    serve(recordings, live)
    say(recordings, RESUMED, 4, at_seconds=300, first_step=3, seen_at_seconds=301)
    serve(recordings, live)
    assert whose(live) == ["aa", "ab"]
    same_everywhere(recordings, live)


def test_a_fresh_start_after_a_resumed_one_whose_first_attempt_was_recorded_elsewhere(tmp_path: Path) -> None:
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, RESUMED, 4, at_seconds=0, first_step=3)
    serve(recordings, live)
    say(recordings, AGAIN, 1, at_seconds=100)
    serve(recordings, live)
    assert whose(live) == ["ab", "01"]
    same_everywhere(recordings, live)


@pytest.mark.parametrize("ahead_seconds", [0, 600], ids=["", "and its clock is ahead"])
def test_a_trainer_that_still_lives_is_shown_beside_its_successor(tmp_path: Path, ahead_seconds: int) -> None:
    """Its events are there once, after any number of restarts, and hide no events of the successor."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, FRESH, 1, at_seconds=ahead_seconds)
    serve(recordings, live)
    say(recordings, RESUMED, 4, at_seconds=200, first_step=3)
    serve(recordings, live)
    for sequence, at_seconds in ((5, 150), (8, 250), (11, 260)):
        say(recordings, FRESH, sequence, at_seconds=ahead_seconds + at_seconds, sequence=sequence)
        serve(recordings, live)
        before = folder_bytes(live)
        serve(recordings, live)
        replay([recordings], live)
        assert folder_bytes(live) == before
    assert whose(live) == ["aa", "ab"]
    assert [name.rsplit("/")[1] for name in ids(live, "demo/attempt-0")] == [str(n) for n in range(5, 14)]
    assert not verify(live).lossy


SILENCES = {
    "an attempt that ends": [SILENT],
    "an attempt that is killed": [SILENT[:1]],
    "an attempt that is killed before its first record": [[]],
    "two attempts": [SILENT, SILENT[:1]],
}


@pytest.mark.parametrize("silences", SILENCES.values(), ids=SILENCES)
@pytest.mark.parametrize("restarted", [False, True], ids=["", "and the logger is restarted"])
def test_an_attempt_that_logs_nothing_leaves_the_attempt_before_alone(
    tmp_path: Path, silences: list[list[Said]], restarted: bool
) -> None:
    """Its points, its folder and its embeddings; live, and in a replay."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    records = make_records(every_kind((1, 2, 3)))
    first = recordings / "first"
    projection = Follower(recordings, live)

    def see(now_seconds: float) -> None:
        nonlocal projection
        if restarted:
            projection.close()
            projection = Follower(recordings, live)
        while projection.turn(now_seconds, thorough=True):
            pass

    append_records(first, make_stream(), records[:20])
    see(0.0)
    for place, silence in enumerate(silences):
        stream = make_stream(attempt=place, stream_id=bytes([200 - place]) * 16)
        later = make_records(silence, start_ns=START_NS + (place + 1) * 10**12)
        append_records(recordings / str(place), stream, later or make_records(SILENT)[:0])
        see(100.0 * (place + 1))
    append_records(first, make_stream(), records[20:])
    see(1000.0)
    projection.close()
    alone = tmp_path / "alone"
    replay([first], alone)
    assert load_folder(live / "demo") == load_folder(alone / "demo")
    assert {name for name in folder_bytes(live) if "tfevents" not in name} == {
        name for name in folder_bytes(alone) if "tfevents" not in name
    }
    assert not list(live.rglob("attempt-*"))
    assert not verify(live).lossy
    replay([recordings], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "replayed") == folder_bytes(alone)


def test_an_attempt_takes_its_run_with_its_first_value_however_late_that_is(tmp_path: Path) -> None:
    """Nothing of its start is lost; the attempt before gives way only then, and goes on in a folder of its own."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, FRESH, 1, at_seconds=0)
    serve(recordings, live)
    start = make_records([Said(3, RunStart(3, {"lr": 0.1}))], start_ns=START_NS + 100 * S)
    folder = append_records(recordings / "later", RESUMED, start)
    serve(recordings, live)
    say(recordings, FRESH, 4, at_seconds=5000, sequence=5)
    serve(recordings, live)
    assert (whose(live), ids(live)[-1]) == (["aa", "aa"], "aa/7/0")
    values = [Said(step, Scalars({"loss": 1.0})) for step in (4, 5)]
    append_records(folder, RESUMED, make_records(values, first_sequence=2, start_ns=START_NS + 6000 * S))
    serve(recordings, live)
    assert ids(live)[-4:] == ["ab/1/0", "ab/1/1", "ab/2/0", "ab/3/0"]
    say(recordings, FRESH, 7, at_seconds=7000, sequence=8)
    serve(recordings, live)
    assert whose(live) == ["aa", "aa", "ab"]
    assert ids(live, "demo/attempt-0") == ["aa/8/0", "aa/9/0", "aa/10/0"]
    assert not verify(live).lossy


def test_hyperparameters_of_all_attempts_are_the_same_rows_live_and_in_a_replay(tmp_path: Path) -> None:
    """An attempt that goes on adds its metrics to the row of its parameters; a restarted logger forgets nothing."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"

    def trial(lr: float, accuracy: float) -> Said:
        return Said(1, HParams({"lr": lr}, {"accuracy": accuracy}))

    for attempt, said in enumerate([[trial(0.1, 0.5), trial(0.2, 0.25)], [trial(0.1, 0.75), trial(0.4, 1.0)]]):
        stream = make_stream(attempt=attempt, stream_id=bytes([9 - attempt]) * 16)
        records = make_records([Said(attempt, RunStart(attempt)), *said], start_ns=START_NS + attempt * 100 * S)
        for record in records:
            append_records(recordings / str(attempt), stream, [record])
            serve(recordings, live)
    shown = {
        folder.name: [value.simple_value for _, value in values_by_tag(folder)["accuracy"]]
        for folder in (live / "demo").glob("hparams-*")
    }
    assert sorted(shown.values()) == [[0.25], [0.5, 0.75], [1.0]]
    replay([recordings], tmp_path / "replayed")
    for folder in shown:
        assert load_folder(live / "demo" / folder) == load_folder(tmp_path / "replayed" / "demo" / folder)
    before = folder_bytes(live)
    replay([recordings], live)
    assert folder_bytes(live) == before


def test_a_stream_that_left_the_runs_folder_does_not_come_back(tmp_path: Path) -> None:
    """Not even if the projection never stops, and the stream that took the folder has long been silent."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    projection = Follower(recordings, live)
    now_seconds = 0.0
    for stream, sequence in ((FRESH, 1), (RESUMED, 1), (FRESH, 5), (FRESH, 8)):
        say(recordings, stream, sequence, at_seconds=int(now_seconds), sequence=sequence)
        now_seconds += 1000
        while projection.turn(now_seconds, thorough=True):
            pass
    projection.close()
    assert (whose(live), whose(live, "demo/attempt-0")) == (["aa", "ab"], ["aa"])
    assert not verify(live).lossy
    before = folder_bytes(live)
    serve(recordings, live)
    assert folder_bytes(live) == before


def test_a_journal_and_the_rest_of_an_outbox_are_one_stream_in_a_replay(tmp_path: Path) -> None:
    """Although a later attempt began in between."""
    say(tmp_path / "recordings" / "outbox", FRESH, 4, at_seconds=300, sequence=5)
    say(tmp_path / "recordings" / "journal", RESUMED, 4, at_seconds=200, first_step=3)
    say(tmp_path / "recordings" / "journal", FRESH, 1, at_seconds=0)
    replay([tmp_path / "recordings"], tmp_path / "live")
    assert whose(tmp_path / "live") == ["aa", "aa", "ab"]
    assert not verify(tmp_path / "live").lossy


def test_ranks_have_an_order_each(tmp_path: Path) -> None:
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    for attempt in (0, 1):
        for rank in (0, 1):
            stream = make_stream(rank=rank, attempt=attempt, stream_id=bytes([16 * rank + 9 - attempt]) * 16)
            say(recordings, stream, 1, at_seconds=100 * attempt - rank)
        serve(recordings, live)
    assert (whose(live), whose(live, "demo/rank-1")) == (["09", "08"], ["19", "18"])
    same_everywhere(recordings, live)
