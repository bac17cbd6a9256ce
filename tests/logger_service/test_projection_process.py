"""The projection's process, with time passed in: nobody waits for a restart."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.recordings import Said, write_recording

from logger_service.projection_process import RESTART_MIN_SECONDS, ProjectionProcess
from protocol.messages import Scalars

DRAIN_SECONDS = 60.0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ProjectionProcess]:
    process = ProjectionProcess(tmp_path / "recordings", tmp_path / "runs")
    yield process
    process.kill()


def pid_of(process: ProjectionProcess) -> int:
    assert process._process is not None
    return process._process.pid


def kill_child(process: ProjectionProcess) -> None:
    os.kill(pid_of(process), signal.SIGKILL)
    os.waitid(os.P_PID, pid_of(process), os.WEXITED | os.WNOWAIT)


def test_a_stop_brings_the_event_files_up_to_date(process: ProjectionProcess, tmp_path: Path) -> None:
    process.supervise(0.0)
    write_recording(tmp_path / "recordings", [Said(step, Scalars({"a": 1.0})) for step in range(100)])
    assert process.finish(0.0, DRAIN_SECONDS)
    (events,) = (tmp_path / "runs" / "demo").glob("events.out.tfevents.*")
    assert events.stat().st_size > 100 * 50


def test_a_child_that_ended_is_started_again_after_a_pause_that_grows(
    process: ProjectionProcess, caplog: pytest.LogCaptureFixture
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


def test_a_child_that_ran_well_for_long_is_started_again_soon(process: ProjectionProcess) -> None:
    process._pause_seconds = 30.0
    process.supervise(0.0)
    kill_child(process)
    process.supervise(1000.0)
    process.supervise(1000.0 + RESTART_MIN_SECONDS)
    assert pid_of(process)


def test_a_stop_while_the_child_is_down_starts_it_once_more(process: ProjectionProcess, tmp_path: Path) -> None:
    process.supervise(0.0)
    kill_child(process)
    write_recording(tmp_path / "recordings", [Said(1, Scalars({"a": 1.0}))])
    assert process.finish(0.0, DRAIN_SECONDS)
    assert list((tmp_path / "runs" / "demo").glob("events.out.tfevents.*"))


def test_a_stop_that_takes_too_long_is_cut_short(process: ProjectionProcess) -> None:
    process.supervise(0.0)
    pid = pid_of(process)
    assert not process.finish(0.0, 0.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
