"""The projection's process from both ends. Time is passed in: no test waits for a restart."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.machine.waiting import wait_until
from support.records.events import summary_tags
from support.records.parts import in_parts
from support.records.recordings import (
    STREAM_ID,
    Said,
    append_records,
    make_records,
    make_stream,
    write_recording,
)
from support.source import ROOT

from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.projection.process import (
    RESTART_MAX_SECONDS,
    RESTART_MIN_SECONDS,
    WELL_SECONDS,
    RestartPause,
    Supervisor,
)
from tensorboard_sidecar.logger_service.projection.quarantine import FILE_NAME
from tensorboard_sidecar.logger_service.projection.report import (
    SILENCE_SECONDS,
)
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Embedding, Images, RunStart, Scalars

DRAIN_SECONDS = 60.0
STARTING = "the projection is starting"
PROJECT_IN_LITTLE_MEMORY = """
import sys
from pathlib import Path
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.process import limit_memory
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.rendering.canvas import new_figure, figure_pixels
figure_pixels(new_figure(1, 1))  # a first drawing imports matplotlib, which takes memory too
limit_memory(40 * 2**20)
counts = ProjectionCounts()
projection = StreamProjection(Path(sys.argv[1]), Path(sys.argv[2]), counts)
while projection.advance(2**18):
    pass
sys.exit(counts.drawing_failures)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    folders = ["--recordings", str(tmp_path / "recordings"), "--logdir", str(tmp_path / "runs")]
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard_sidecar", "project", *folders],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def test_the_child_ends_at_once_when_its_parent_is_gone(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(30) == 1


def test_the_child_ends_well_when_it_is_told_to(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.write(b".")
    child.stdin.flush()
    assert child.wait(30) == 0


MULTIPLY_IN_LITTLE_MEMORY = """
import numpy as np
from tensorboard_sidecar.logger_service.projection.process import limit_memory

limit_memory(2**20)
for side in (3, 128):
    assert (np.eye(side) @ np.eye(side) == np.linalg.inv(np.eye(side))).all()
try:
    np.ones(2**21)
except MemoryError:
    print("limited")
"""


def test_a_limit_of_memory_leaves_products_of_matrices_to_drawings() -> None:
    """On any processor: OpenBLAS ends the process when the system refuses a work buffer."""
    done = subprocess.run(
        [sys.executable, "-c", MULTIPLY_IN_LITTLE_MEMORY], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "limited\n"), done.stderr


def test_memory_that_runs_out_in_a_drawing_costs_the_drawing(tmp_path: Path) -> None:
    """Two small records take 80 MB each to draw. The record behind them is shown.

    Neither record takes the memory in protobuf, whose older versions end the process when an allocation fails.
    """
    grey, coloured = (
        Images(tag, pack_array(np.zeros((256, 1, 1, channels), np.uint8)), ["a caption"] * 256)
        for tag, channels in (("grey", 1), ("coloured", 3))
    )
    said = [Said(0, RunStart()), Said(1, grey), Said(1, coloured), Said(2, Scalars({"a": 1.0}))]
    folder = write_recording(tmp_path, said)

    # A process that has worked before has free memory below its limit, so the test takes a fresh process.
    command = [sys.executable, "-c", PROJECT_IN_LITTLE_MEMORY, str(folder), str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert summary_tags(tmp_path / "log" / "demo") == ["", "", "a"]


def test_an_embedding_in_parts_takes_the_memory_of_a_part(tmp_path: Path) -> None:
    """64 MB of points and 12 MB of thumbnails, with a limit of 40 MiB."""
    rows = 1_000_000
    points, pictures = np.zeros((rows, 16), np.float32), np.zeros((rows, 2, 2, 3), np.uint8)
    whole = Embedding("e", pack_array(points), thumbnails=pack_array(pictures))
    parts = in_parts(whole, range(50_000, rows, 50_000))
    folder = write_recording(tmp_path, [Said(0, RunStart()), *(Said(1, part) for part in parts)])
    command = [sys.executable, "-c", PROJECT_IN_LITTLE_MEMORY, str(folder), str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [points_file] = (tmp_path / "log").rglob("e.bytes")
    assert points_file.stat().st_size == 64_000_000


def test_a_pause_doubles_up_to_its_maximum_and_is_short_again_after_a_long_life() -> None:
    pause = RestartPause()
    assert pause.is_over(0.0)
    assert [pause.ended(10.0) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, RESTART_MAX_SECONDS, 30.0]
    assert (pause.restarts, pause.is_long) == (8, True)
    assert not pause.is_over(10.0 + RESTART_MAX_SECONDS - 0.1)
    assert pause.is_over(10.0 + RESTART_MAX_SECONDS)
    pause.started(100.0)
    pause.lives(100.0 + WELL_SECONDS - 0.1)
    assert pause.is_long
    pause.lives(100.0 + WELL_SECONDS)
    assert not pause.is_long
    assert pause.ended(200.0) == RESTART_MIN_SECONDS


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Supervisor]:
    process = Supervisor(tmp_path / "recordings", tmp_path / "runs")
    yield process
    process.kill()


def pid_of(process: Supervisor) -> int:
    assert process._process is not None
    return process._process.pid


def kill_child(process: Supervisor) -> None:
    os.kill(pid_of(process), signal.SIGKILL)
    os.waitid(os.P_PID, pid_of(process), os.WEXITED | os.WNOWAIT)


def test_a_stop_brings_the_event_files_up_to_date(process: Supervisor, tmp_path: Path) -> None:
    process.supervise(0.0)
    write_recording(tmp_path / "recordings", [Said(step, Scalars({"a": 1.0})) for step in range(100)])
    assert process.finish(0.0, DRAIN_SECONDS)
    (events,) = (tmp_path / "runs" / "demo").glob("events.out.tfevents.*")
    assert events.stat().st_size > 100 * 50


def test_a_child_that_ended_is_started_again_after_a_pause_that_grows(
    process: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    process.supervise(0.0)
    for turn, pause in enumerate((RESTART_MIN_SECONDS, 2 * RESTART_MIN_SECONDS)):
        first, now = pid_of(process), 10.0 * turn
        kill_child(process)
        process.supervise(now)
        assert process._process is None
        process.supervise(now + pause - 0.01)
        assert process._process is None
        process.supervise(now + pause)
        assert pid_of(process) != first
    assert caplog.text.count("the projection ended (signal 9)") == 2


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EAGAIN, "no process"), OSError(errno.EMFILE, "no file"), FileNotFoundError("no interpreter")],
)
def test_a_child_that_cannot_be_started_is_tried_again_after_the_same_pauses(
    process: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: OSError
) -> None:
    """The machine has no memory or no process left; the logger goes on to receive."""

    def fail(*_: object, **__: object) -> None:
        raise error

    now = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", fail)
        for pause in (RESTART_MIN_SECONDS, 2 * RESTART_MIN_SECONDS, 4 * RESTART_MIN_SECONDS):
            assert process.trouble(now) == STARTING
            process.supervise(now)
            process.supervise(now + pause - 0.01)
            now += pause
        assert process.pause.restarts == 3
        assert process.trouble(now) == "the projection ends again and again"
        assert not process.finish(now, DRAIN_SECONDS)
    assert caplog.text.count("the projection cannot be started") == 4
    process.supervise(now + 100.0)
    assert pid_of(process)


def test_a_child_that_ran_well_for_long_is_started_again_soon(process: Supervisor) -> None:
    process.pause.pause_seconds = 30.0
    process.supervise(0.0)
    kill_child(process)
    process.supervise(1000.0)
    process.supervise(1000.0 + RESTART_MIN_SECONDS)
    assert pid_of(process)


def test_a_stop_while_the_child_is_down_starts_it_once_more(process: Supervisor, tmp_path: Path) -> None:
    process.supervise(0.0)
    kill_child(process)
    write_recording(tmp_path / "recordings", [Said(1, Scalars({"a": 1.0}))])
    assert process.finish(0.0, DRAIN_SECONDS)
    assert list((tmp_path / "runs" / "demo").glob("events.out.tfevents.*"))


def test_a_stop_that_takes_too_long_is_cut_short(process: Supervisor) -> None:
    process.supervise(0.0)
    pid = pid_of(process)
    assert not process.finish(0.0, 0.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_its_parent_ends_blames_no_record(process: Supervisor, tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", [Said(1, Scalars({"a": 1.0}))])
    process.supervise(0.0)
    wait_until(lambda: process.supervise(0.0) or process.health.positions, seconds=DRAIN_SECONDS)
    assert (tmp_path / "runs" / FILE_NAME).exists()
    process.kill()
    assert not (tmp_path / "runs" / FILE_NAME).exists()


def test_the_counts_of_all_children_are_added(process: Supervisor, tmp_path: Path) -> None:
    said = [Said(step, Scalars({"a": 1.0})) for step in range(100)]
    write_recording(tmp_path / "recordings", said)
    for restart in range(2):
        process.supervise(10.0 * restart)
        wait_until(
            lambda: process.supervise(10.0) or process.health.positions.get(STREAM_ID) == 101, seconds=DRAIN_SECONDS
        )
        assert process.health.counts.records == 100
        process.health.positions.clear()
        kill_child(process)
        process.supervise(10.0 * restart)
    assert process.pause.restarts == 2


def test_findings_reach_the_parent_once_also_after_a_restart_of_the_child(process: Supervisor, tmp_path: Path) -> None:
    """The next child reads the records again when the run goes on, and tells all it finds; the parent knows the old."""
    folder, nan = tmp_path / "recordings" / "demo", float("nan")
    said = [Said(0, RunStart()), Said(1, Scalars({"loss": nan, "b": 1.0})), Said(2, Scalars({"loss": nan, "b": nan}))]
    records = make_records(said)
    taken: list[tuple[bytes, str, str, str]] = []

    def take(now_seconds: float, number: int) -> bool:
        process.supervise(now_seconds)
        taken.extend((stream, one.tag, one.state, one.advice) for stream, one in process.take_findings())
        return len(taken) >= number

    advice = next(rule.advice for rule in RULES if rule.name == "non-finite-scalar")
    append_records(folder, make_stream(), records[:2])
    process.supervise(0.0)
    wait_until(lambda: take(0.0, 1), seconds=DRAIN_SECONDS)
    assert taken == [(STREAM_ID, "loss", "open", advice)]
    kill_child(process)
    process.supervise(10.0)
    append_records(folder, make_stream(), records[2:])
    wait_until(lambda: take(20.0, 2), seconds=DRAIN_SECONDS)
    assert taken[1:] == [(STREAM_ID, "b", "open", advice)]
    assert process.health.findings.open_by_severity()["non-finite-scalar", "error"] == 2


def test_a_series_of_ends_is_trouble_until_a_child_has_lived_for_long(process: Supervisor) -> None:
    now = 0.0
    for ends in range(3):
        assert (ends, process.trouble(now)) == (ends, STARTING)
        process.supervise(now)
        kill_child(process)
        process.supervise(now)
        now += 10.0
    assert process.trouble(now) == "the projection ends again and again"
    process.supervise(now)
    process.supervise(now + WELL_SECONDS)
    assert process.trouble(now + 1.0) == STARTING


def test_a_child_that_does_not_report_is_a_trouble(process: Supervisor) -> None:
    process.supervise(0.0)
    os.kill(pid_of(process), signal.SIGSTOP)
    process.supervise(1.0)
    assert process.trouble(SILENCE_SECONDS - 1.0) == STARTING
    assert "has not reported for" in process.trouble(1.0 + SILENCE_SECONDS)


def test_a_child_that_waits_for_room_is_a_trouble_and_does_not_finish_in_time(tmp_path: Path) -> None:
    process = Supervisor(tmp_path / "recordings", tmp_path / "runs", disk_reserve_bytes=2**62)
    try:
        process.supervise(0.0)
        wait_until(lambda: process.supervise(0.0) or process.trouble(0.0) != STARTING, seconds=DRAIN_SECONDS)
        assert process.trouble(0.0) == "event files wait: the disk of the log directory is nearly full"
        assert not process.finish(0.0, DRAIN_SECONDS)
    finally:
        process.kill()
