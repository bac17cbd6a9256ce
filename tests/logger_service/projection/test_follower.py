"""The main loop of the projection: turns that are fair and bounded, errors that stop one recording only."""

import logging
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.records.events import event_files, folder_bytes, load_folder, summary_tags
from support.records.recordings import (
    START_NS,
    Said,
    append_records,
    every_kind,
    make_records,
    make_stream,
    write_recording,
)

from tensorboard_sidecar.logger_service.events import event_file
from tensorboard_sidecar.logger_service.folders.logger_lock import FolderInUse, folder_lock
from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace
from tensorboard_sidecar.logger_service.projection.follower import TURN_SECONDS, Follower, follow
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import Matrix, RunStart, Scalars, Text
from tensorboard_sidecar.protocol.record import pack_record
from tensorboard_sidecar.protocol.storage.recording_reader import beginning_of

SAID = [Said(0, RunStart()), *(Said(step, Scalars({"a": float(step)})) for step in range(50))]
MATRIX = Matrix("m", pack_array(np.eye(3, dtype=np.float32)))
DRAWINGS = [Said(0, RunStart()), *(Said(step, MATRIX) for step in range(1, 10))]


def drain(projection: Follower, now_seconds: float = 0.0) -> None:
    while projection.turn(now_seconds, thorough=True):
        pass


def take_turns(projection: Follower, now_seconds: float) -> None:
    while projection.turn(now_seconds):
        pass


def events(logdir: Path, run: str) -> int:
    return len(load_folder(logdir / run))


def test_following_gives_the_same_bytes_as_replaying(tmp_path: Path) -> None:
    for run in ("one", "two/deep"):
        write_recording(tmp_path / "recordings", every_kind((1, 2)), make_stream(run))
    follow(tmp_path / "recordings", tmp_path / "live", lambda: True)
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_following_a_growing_recording_gives_the_same_bytes_as_a_replay(tmp_path: Path) -> None:
    records = make_records(every_kind((1, 2)))
    folder = tmp_path / "recordings" / "demo"
    projection = Follower(tmp_path / "recordings", tmp_path / "live")
    drain(projection)
    for record in records:
        append_records(folder, make_stream(), [record])
        drain(projection)
    projection.close()
    replay([folder], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_an_attempt_that_logs_nothing_is_not_behind_and_is_followed_on(tmp_path: Path) -> None:
    """Also after its files were closed: the health page would call it late for ever."""
    stream = make_stream()
    records = make_records([Said(0, RunStart()), Said(1, Scalars({"a": 1.0}))])
    folder = append_records(tmp_path / "recordings" / "demo", stream, records[:1])
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in (0.0, 100.0, 200.0):
        take_turns(projection, now_seconds)
        assert dict(projection.positions()) == {stream.id: 2}
    assert not folder_bytes(tmp_path / "log")
    append_records(folder, stream, records[1:])
    take_turns(projection, 300.0)
    assert dict(projection.positions()) == {stream.id: 3}
    assert events(tmp_path / "log", "demo") == 2
    projection.close()


def test_a_stop_comes_after_the_last_record(tmp_path: Path) -> None:
    """All records that exist when ``stop`` turns true are projected before ``follow`` returns."""
    turns: list[float] = []

    def stop() -> bool:
        if len(turns) == 3:
            write_recording(tmp_path / "recordings", SAID)
        return len(turns) >= 3

    counts = follow(tmp_path / "recordings", tmp_path / "log", stop, wait=turns.append).counts
    assert counts.records == len(SAID)
    assert turns == [0.15] * 3


def test_a_large_run_does_not_keep_a_small_one_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.follower.TURN_SIZE_BYTES", 100)
    write_recording(tmp_path / "recordings", SAID * 3, make_stream("large", stream_id=b"\1" * 16))
    write_recording(tmp_path / "recordings", SAID[:2], make_stream("small", stream_id=b"\2" * 16))
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for _ in range(4):
        assert projection.turn(0.0)
    assert events(tmp_path / "log", "small") == 2
    assert events(tmp_path / "log", "large") < 20
    drain(projection)
    projection.close()
    assert events(tmp_path / "log", "large") == 3 * len(SAID)


def test_attempts_that_catch_up_together_are_projected_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the events of the earlier attempt would be late, and go to a folder of their own."""
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.follower.TURN_SIZE_BYTES", 100)
    recordings = tmp_path / "recordings"
    later = make_stream(attempt=1, stream_id=b"\1" * 16)
    append_records(recordings / "a", later, make_records(SAID, start_ns=START_NS + 3600 * 10**9))
    append_records(recordings / "b", make_stream(), make_records(SAID))
    projection = Follower(recordings, tmp_path / "live")
    drain(projection)
    projection.close()
    assert [path.name for path in (tmp_path / "live" / "demo").iterdir() if path.is_dir()] == []
    replay([recordings], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_idle_recordings_hold_no_files_open_and_are_taken_up_again(tmp_path: Path) -> None:
    records = make_records(SAID)
    folder = append_records(tmp_path / "recordings" / "demo", make_stream(), records[:5])
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in (0.0, 5.0, 70.0):
        projection.turn(now_seconds)
    open_files = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    assert not [path for path in open_files if path.is_relative_to(tmp_path)]
    append_records(folder, make_stream(), records[5:])
    drain(projection, 71.0)
    projection.close()
    replay([folder], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "log") == folder_bytes(tmp_path / "replayed")


def test_damage_is_counted_once_though_its_recording_is_opened_again(tmp_path: Path) -> None:
    """The recording is read again from the start of its last segment, where the damage lies."""
    records = make_records(SAID)
    folder = append_records(tmp_path / "recordings" / "demo", make_stream(), records[:5])
    (segment,) = folder.iterdir()
    data = bytearray(segment.read_bytes())
    data[-100] ^= 1
    segment.write_bytes(data)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for place in range(5, 8):
        for now_seconds in range(1000 * place, 1000 * place + 200, 10):
            projection.turn(float(now_seconds))
        with segment.open("ab") as file:
            file.write(pack_frame(pack_record(records[place])))
    projection.close()
    assert projection.counts.damages == 1


def test_a_recording_that_is_deleted_is_forgotten(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "recordings", SAID)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    drain(projection)
    shutil.rmtree(folder)
    drain(projection, 1.0)
    assert repr(projection).startswith("<Follower of 0 recordings")
    projection.close()


def test_event_files_that_are_deleted_meanwhile_are_written_anew(tmp_path: Path) -> None:
    records = make_records(SAID)
    folder = append_records(tmp_path / "recordings" / "demo", make_stream(), records[:5])
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    drain(projection)
    shutil.rmtree(tmp_path / "log" / "demo")
    append_records(folder, make_stream(), records[5:])
    drain(projection)
    drain(projection)
    projection.close()
    assert events(tmp_path / "log", "demo") == len(SAID)


def test_recordings_are_looked_for_twice_a_second(tmp_path: Path) -> None:
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    projection.turn(0.0)
    write_recording(tmp_path / "recordings", SAID)
    assert not projection.turn(0.4)
    assert projection.turn(0.6)
    projection.close()


def test_a_second_logger_on_the_same_log_directory_is_refused(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "log", "--logdir"), pytest.raises(FolderInUse, match=r"process [0-9]+"):
        follow(tmp_path / "recordings", tmp_path / "log", lambda: True)
    follow(tmp_path / "recordings", tmp_path / "log", lambda: True)


def test_a_stop_from_another_thread_ends_an_idle_wait(tmp_path: Path) -> None:
    finish = threading.Event()
    thread = threading.Thread(
        target=follow, args=(tmp_path / "recordings", tmp_path / "log", finish.is_set), kwargs={"wait": finish.wait}
    )
    thread.start()
    finish.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_new_projection_completes_the_work_of_a_dropped_projection(tmp_path: Path) -> None:
    """A process that dies between two turns leaves this state."""
    write_recording(tmp_path / "recordings", SAID * 10)
    (folder,) = (tmp_path / "recordings" / "demo").iterdir()
    first = StreamProjection(folder, tmp_path / "log", ProjectionCounts())
    first.advance(500)
    first.advance(500)
    first.close()
    follow(tmp_path / "recordings", tmp_path / "log", lambda: True)
    assert events(tmp_path / "log", "demo") == 10 * len(SAID)


def test_the_position_of_each_stream_is_reported_after_each_turn(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", SAID)
    told: list[dict[bytes, int]] = []
    follow(
        tmp_path / "recordings",
        tmp_path / "log",
        lambda: True,
        report=lambda projection, _: told.append(dict(projection.positions())),
    )
    assert told[-1] == {make_stream().id: len(SAID) + 1}


def test_a_recording_without_a_head_is_logged_once_and_stops_no_other_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "recordings" / "broken" / f"{1:020d}.segment"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"rubbish" * 100)
    write_recording(tmp_path / "recordings", SAID)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    with caplog.at_level(logging.ERROR):
        for now_seconds in range(0, 100, 10):
            drain(projection, now_seconds)
    assert (projection.state().failing, projection.state().stuck) == (1, 0), "the recording itself is invalid"
    projection.close()
    assert events(tmp_path / "log", "demo") == len(SAID)
    assert len([record for record in caplog.records if "broken" in record.message]) == 1
    assert projection.counts.stream_failures > 1


def test_a_full_disk_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full_disk(_: int, __: bytes) -> int:
        raise OSError(28, "No space left on device")

    write_recording(tmp_path / "recordings", SAID)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", full_disk)
        for now_seconds in range(300):
            projection.turn(float(now_seconds))
    assert projection.counts.stream_failures == 7, "at 0, 5, 15, 35, 75, 155 and 235 s"
    assert (projection.state().failing, projection.state().stuck) == (1, 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert [path.stat().st_size for path in event_files(tmp_path / "log" / "demo")] == [0]
    projection.turn(314.0)
    assert not load_folder(tmp_path / "log" / "demo")
    projection.turn(315.0)
    projection.close()
    assert events(tmp_path / "log", "demo") == len(SAID)
    assert len(event_files(tmp_path / "log" / "demo")) == 1


def test_the_first_failure_after_a_success_has_a_short_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_recording(tmp_path / "recordings", SAID)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")

    def fail(*_: object) -> None:
        raise OSError(122, "Disk quota exceeded")

    for begin_seconds in (0, 1000):
        append_records(folder, make_stream(), make_records(SAID[1:], first_sequence=52 + begin_seconds // 20))
        with monkeypatch.context() as context:
            context.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", fail)
            for now_seconds in range(begin_seconds, begin_seconds + 10):
                projection.turn(float(now_seconds))
        projection.turn(begin_seconds + 100.0)
    projection.close()
    assert projection.counts.stream_failures == 4


def test_a_run_that_leads_out_of_the_log_directory_is_not_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "demo").symlink_to(outside)
    write_recording(tmp_path / "recordings", SAID)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    drain(projection)
    projection.close()
    assert not list(outside.iterdir())
    assert projection.counts.stream_failures


def test_a_nearly_full_disk_stops_all_writes_until_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    space = DiskSpace(0, 2**40)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.follower.measure_disk", lambda _: space)
    write_recording(tmp_path / "recordings", SAID)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in range(10):
        assert not projection.turn(float(now_seconds), thorough=True)
    assert projection.waits
    assert not (tmp_path / "log").exists()
    space = DiskSpace(2**40, 2**40)
    drain(projection, 10.0)
    assert not projection.waits
    projection.close()
    assert events(tmp_path / "log", "demo") == len(SAID)
    assert (
        caplog.text.count("event files wait until there is room") == caplog.text.count("event files are written") == 1
    )


def test_a_disk_that_fills_during_a_turn_stops_the_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills while each of many runs writes its share of the turn."""
    free_bytes = iter([300 * 2**20, 200 * 2**20])
    monkeypatch.setattr(
        "tensorboard_sidecar.logger_service.projection.follower.measure_disk",
        lambda _: DiskSpace(next(free_bytes), 2**40),
    )
    text = [Said(0, Text("text", "a" * 400_000))] * 30
    for number in range(4):
        write_recording(tmp_path / "recordings", text, make_stream(f"run{number}", stream_id=bytes([number] * 16)))
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.follower.TURN_SIZE_BYTES", 2**24)
    projection = Follower(tmp_path / "recordings", tmp_path / "log", disk_reserve_bytes=290 * 2**20)
    assert not projection.turn(0.0)
    assert projection.waits
    projection.close()
    assert len(list((tmp_path / "log").iterdir())) == 1


def test_drawings_and_failed_drawings_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ValueError("no fonts")

    matrix = Matrix("a", pack_array(np.ones((2, 2), np.float32)))
    for run, fails in (("well", False), ("sick", True)):
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr("tensorboard_sidecar.logger_service.events.to_events.heatmap", explode)
            stream = make_stream(run, stream_id=run.encode() * 4)
            write_recording(
                tmp_path / run, [Said(0, RunStart()), Said(1, matrix), Said(1, Scalars({"a": 1.0}))], stream
            )
            projection = Follower(tmp_path / run, tmp_path / "log")
            drain(projection)
            projection.close()
        assert (projection.counts.drawings, projection.counts.drawing_failures) == (not fails, fails)


@pytest.mark.parametrize("error", [RuntimeError("whatever"), MemoryError(), RecursionError(), AssertionError()])
@pytest.mark.parametrize("place", ["beginning_of", "StreamProjection", "StreamProjection.advance"])
def test_an_error_of_one_recording_stops_no_other_recording(
    error: Exception, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: dict[str, Callable[..., object]] = {
        "beginning_of": beginning_of,
        "StreamProjection": StreamProjection,
        "StreamProjection.advance": StreamProjection.advance,
    }

    def raising(subject: object, *arguments: object) -> object:
        if "sick" in str(subject):
            raise error
        return work[place](subject, *arguments)

    monkeypatch.setattr(f"tensorboard_sidecar.logger_service.projection.follower.{place}", raising)
    write_recording(tmp_path / "recordings", DRAWINGS, make_stream("a-sick"))
    write_recording(tmp_path / "recordings", DRAWINGS, make_stream("b-healthy", stream_id=b"\1" * 16))
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    while projection.turn(0.0):
        pass
    assert projection.state().failing == 1
    projection.close()
    assert summary_tags(tmp_path / "log" / "b-healthy") == ["m"] * 9


def test_links_in_a_circle_cost_their_run_alone(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", DRAWINGS, make_stream("a-sick"))
    write_recording(tmp_path / "recordings", DRAWINGS, make_stream("b-healthy", stream_id=b"\1" * 16))
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a-sick").symlink_to("a-sick")
    counts = follow(tmp_path / "recordings", tmp_path / "log", lambda: True).counts
    assert counts.stream_failures
    assert summary_tags(tmp_path / "log" / "b-healthy") == ["m"] * 9


class DrawingClock:
    """A clock that goes on by ``seconds`` with each drawing."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.looks = seconds, 0.0, 0

    def __call__(self) -> float:
        return self.now

    def after_each(self) -> None:
        self.now += self.seconds
        self.looks += 1


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow 80 more open files than there are now, 60 of them for recordings."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1  # the limit is on the numbers
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.follower._FILES_BESIDE", there + 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 80, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_files(root: Path) -> int:
    return sum(path.resolve().is_relative_to(root) for path in Path("/proc/self/fd").iterdir())


def write_runs(root: Path, number: int, said: list[Said]) -> list[Path]:
    return [
        write_recording(root, said, make_stream(f"run{run:03d}", stream_id=run.to_bytes(16, "big")))
        for run in range(number)
    ]


def test_a_turn_ends_after_its_time_and_the_next_turn_continues(tmp_path: Path) -> None:
    """Drawings take little data and much time; other runs do not wait for all drawings of a run."""
    clock = DrawingClock(0.4 * TURN_SECONDS)
    write_recording(tmp_path / "recordings", DRAWINGS)
    projection = Follower(tmp_path / "recordings", tmp_path / "log", clock=clock, after_each=clock.after_each)
    shown = []
    while projection.turn(0.0):
        shown.append(len(load_folder(tmp_path / "log" / "demo")))
    projection.close()
    assert shown == [3, 6, 9, 10]


def test_turns_cut_short_give_the_same_bytes(tmp_path: Path) -> None:
    clock = DrawingClock(TURN_SECONDS)
    folder = write_recording(tmp_path / "recordings", every_kind((1, 2)))
    projection = Follower(tmp_path / "recordings", tmp_path / "live", clock=clock, after_each=clock.after_each)
    while projection.turn(0.0):
        projection.close()  # what was read and not shown is read again
        projection._followed[folder].parked = False
    projection.close()
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_there_is_a_sign_of_life_for_each_recording_found_or_opened_and_for_each_drawing(tmp_path: Path) -> None:
    """Else a start with many recordings, or a slow drawing, would look like a projection that hangs."""
    write_runs(tmp_path / "recordings", 20, DRAWINGS)
    clock = DrawingClock(0.0)
    projection = Follower(tmp_path / "recordings", tmp_path / "log", clock=clock, after_each=clock.after_each)
    projection.turn(0.0)
    projection.close()
    assert clock.looks == 20 * (3 + len(DRAWINGS))


def test_recordings_that_are_up_to_date_are_closed_at_once(tmp_path: Path) -> None:
    write_runs(tmp_path / "recordings", 5, DRAWINGS[:3])
    replay([tmp_path / "recordings"], tmp_path / "log")
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    projection.turn(0.0)
    assert open_files(tmp_path) == 0
    assert projection.counts.records == 0
    projection.close()


@pytest.mark.usefixtures("few_files")
def test_more_recordings_than_files_that_may_be_open_are_projected(tmp_path: Path) -> None:
    folders = write_runs(tmp_path / "recordings", 60, [Said(0, RunStart()), Said(1, Scalars({"a": 1.0}))])
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    take_turns(projection, 0.0)
    for run, folder in enumerate(folders):
        more = make_records([Said(2, Scalars({"a": 2.0}))], first_sequence=3)
        append_records(folder, make_stream(f"run{run:03d}", stream_id=run.to_bytes(16, "big")), more)
    take_turns(projection, 1.0)
    assert (projection.counts.records, projection.counts.stream_failures) == (180, 0)
    assert open_files(tmp_path) <= 60
    projection.close()
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "log") == folder_bytes(tmp_path / "replayed")


def test_a_sync_makes_the_events_of_all_recordings_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync_file = event_file.sync_file
    monkeypatch.setattr(event_file, "sync_file", lambda path: (synced.append(path), sync_file(path)))
    for run in ("one", "two"):
        write_recording(tmp_path / "recordings", SAID, make_stream(run))
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    drain(projection)
    projection.sync()
    projection.sync()
    assert sorted(synced) == [*event_files(tmp_path / "log" / "one"), *event_files(tmp_path / "log" / "two")]
    projection.close()


def test_a_later_attempt_does_not_wait_for_an_earlier_one_that_goes_on(tmp_path: Path) -> None:
    """The earlier one has shown all it has at each turn; it only has more at the next."""
    first, second = make_stream(), make_stream(attempt=1, stream_id=bytes(16))
    folder = write_recording(tmp_path / "recordings", SAID, first)
    write_recording(tmp_path / "recordings", [Said(0, RunStart(1)), Said(2, Scalars({"b": 1.0}))], second)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for turn in range(3):
        assert projection.turn(float(turn))
        records = make_records([Said(60 + turn, Scalars({"a": 1.0}))], first_sequence=len(SAID) + 1 + turn)
        append_records(folder, first, records)
    assert "b" in summary_tags(tmp_path / "log" / "demo")
    projection.close()
