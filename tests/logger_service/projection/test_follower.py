import shutil
import threading
from pathlib import Path

import pytest
from support.events import folder_bytes, load_folder
from support.recordings import START_NS, Said, append_records, every_kind, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.folders.logger_lock import FolderInUse, folder_lock
from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.follower import Follower, follow
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import RunStart, Scalars
from tensorboard_sidecar.protocol.record import pack_record

SAID = [Said(0, RunStart()), *(Said(step, Scalars({"a": float(step)})) for step in range(50))]


def drain(projection: Follower, now_seconds: float = 0.0) -> None:
    while projection.turn(now_seconds, thorough=True):
        pass


def events(logdir: Path, run: str) -> int:
    return len(load_folder(logdir / run))


def test_following_gives_the_same_bytes_as_replaying(tmp_path: Path) -> None:
    for run in ("one", "two/deep"):
        write_recording(tmp_path / "recordings", every_kind((1, 2)), make_stream(run))
    follow(tmp_path / "recordings", tmp_path / "live", lambda: True)
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_following_a_recording_that_grows_gives_the_same_bytes_as_replaying_it(tmp_path: Path) -> None:
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


def test_a_stop_comes_after_the_last_record(tmp_path: Path) -> None:
    """Whatever lies in the recordings when ``stop`` turns true is projected before ``follow`` returns."""
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
    """Else what the earlier one said would come late, and go to a folder of its own."""
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
    """From the begin of its last segment, where the damage lies."""
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


def test_what_a_projection_left_when_it_was_dropped_is_completed(tmp_path: Path) -> None:
    """A process that dies between two turns leaves no more than this."""
    write_recording(tmp_path / "recordings", SAID * 10)
    (folder,) = (tmp_path / "recordings" / "demo").iterdir()
    first = StreamProjection(folder, tmp_path / "log", Counts())
    first.advance(500)
    first.advance(500)
    first.close()
    follow(tmp_path / "recordings", tmp_path / "log", lambda: True)
    assert events(tmp_path / "log", "demo") == 10 * len(SAID)


def test_where_each_stream_stands_is_told_after_each_turn(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", SAID)
    told: list[dict[bytes, int]] = []
    follow(
        tmp_path / "recordings",
        tmp_path / "log",
        lambda: True,
        tell=lambda projection, _: told.append(dict(projection.positions())),
    )
    assert told[-1] == {make_stream().id: len(SAID) + 1}
