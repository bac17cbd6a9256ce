"""What a turn may cost: time, open files, silence."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.events import folder_bytes, load_folder
from support.recordings import Said, append_records, every_kind, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.projection.follower import TURN_SECONDS, Follower
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Matrix, RunStart, Scalars

MATRIX = Matrix("m", pack_array(np.eye(3, dtype=np.float32)))
DRAWINGS = [Said(0, RunStart()), *(Said(step, MATRIX) for step in range(1, 10))]


class DrawingClock:
    """A clock that a drawing makes go on by ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.looks = seconds, 0.0, 0

    def __call__(self) -> float:
        return self.now

    def after_each(self) -> None:
        self.now += self.seconds
        self.looks += 1


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow 80 more open files than there are; 60 of them for recordings."""
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


def drain(projection: Follower, now_seconds: float) -> None:
    while projection.turn(now_seconds):
        pass


def test_a_turn_ends_when_its_time_is_over_and_the_next_goes_on(tmp_path: Path) -> None:
    """However little data drawings take: the other runs are not kept waiting for all of them."""
    clock = DrawingClock(0.4 * TURN_SECONDS)
    write_recording(tmp_path / "recordings", DRAWINGS)
    projection = Follower(tmp_path / "recordings", tmp_path / "log", clock=clock)
    shown = []
    while projection.turn(0.0, after_each=clock.after_each):
        shown.append(len(load_folder(tmp_path / "log" / "demo")))
    projection.close()
    assert shown == [3, 6, 9, 10]


def test_turns_cut_short_give_the_same_bytes(tmp_path: Path) -> None:
    clock = DrawingClock(TURN_SECONDS)
    folder = write_recording(tmp_path / "recordings", every_kind((1, 2)))
    projection = Follower(tmp_path / "recordings", tmp_path / "live", clock=clock)
    while projection.turn(0.0, after_each=clock.after_each):
        projection.close()  # what was read and not shown is read again
        projection._followed[folder].waits = False
    projection.close()
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "live") == folder_bytes(tmp_path / "replayed")


def test_it_gives_a_sign_of_life_for_each_recording_that_it_finds_or_opens_and_for_each_drawing(tmp_path: Path) -> None:
    """So that a start with very many, or a slow drawing, is not taken for a projection that hangs."""
    write_runs(tmp_path / "recordings", 20, DRAWINGS)
    clock = DrawingClock(0.0)
    projection = Follower(tmp_path / "recordings", tmp_path / "log", clock=clock)
    projection.turn(0.0, after_each=clock.after_each)
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
    drain(projection, 0.0)
    for run, folder in enumerate(folders):
        more = make_records([Said(2, Scalars({"a": 2.0}))], first_sequence=3)
        append_records(folder, make_stream(f"run{run:03d}", stream_id=run.to_bytes(16, "big")), more)
    drain(projection, 1.0)
    assert (projection.counts.records, projection.counts.stream_failures) == (180, 0)
    assert open_files(tmp_path) <= 60
    projection.close()
    replay([tmp_path / "recordings"], tmp_path / "replayed")
    assert folder_bytes(tmp_path / "log") == folder_bytes(tmp_path / "replayed")
