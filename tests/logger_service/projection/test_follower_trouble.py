"""What keeps a projection from writing, and that it goes on by itself."""

import logging
from pathlib import Path

import numpy as np
import pytest
from support.events import event_files, load_folder
from support.recordings import Said, append_records, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Matrix, RunStart, Scalars, Text

SAID = [Said(0, RunStart()), *(Said(step, Scalars({"a": float(step)})) for step in range(50))]


def drain(projection: Follower, now_seconds: float = 0.0) -> None:
    while projection.turn(now_seconds, thorough=True):
        pass


def events(logdir: Path, run: str) -> int:
    return len(load_folder(logdir / run))


def test_a_recording_without_a_head_is_said_once_and_the_others_go_on(
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
    assert (projection.state().failing, projection.state().stuck) == (1, 0), "it fails at what is in it"
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


def test_after_it_went_well_a_failure_is_tried_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_while_the_disk_has_no_room_nothing_is_written_and_then_all_goes_on(
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
    assert caplog.text.count("event files wait until there is room") == caplog.text.count("event files go on") == 1


def test_a_disk_that_fills_in_the_middle_of_a_turn_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many runs writes its share before the turn is over."""
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


def test_what_is_drawn_and_what_cannot_be_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
