"""The projection's process, with time passed in: nobody waits for a restart."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.recordings import STREAM_ID, Said, write_recording
from support.waiting import wait_until

from tensorboard_sidecar.logger_service.projection.quarantine import FILE_NAME
from tensorboard_sidecar.logger_service.projection.supervisor import (
    RESTART_MIN_SECONDS,
    SILENCE_SECONDS,
    WELL_SECONDS,
    Supervisor,
)
from tensorboard_sidecar.protocol.messages import Scalars

DRAIN_SECONDS = 60.0
STARTING = "the projection is starting"


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
    """The machine has no memory or no process left: what is received goes on."""

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
        assert process.restarts == 3
        assert process.trouble(now) == "the projection ends again and again"
        assert not process.finish(now, DRAIN_SECONDS)
    assert caplog.text.count("the projection cannot be started") == 4
    process.supervise(now + 100.0)
    assert pid_of(process)


def test_a_child_that_ran_well_for_long_is_started_again_soon(process: Supervisor) -> None:
    process._pause_seconds = 30.0
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
    wait_until(lambda: process.supervise(0.0) or process.positions, seconds=DRAIN_SECONDS)
    assert (tmp_path / "runs" / FILE_NAME).exists()
    process.kill()
    assert not (tmp_path / "runs" / FILE_NAME).exists()


def test_what_the_children_have_done_is_known_over_restarts(process: Supervisor, tmp_path: Path) -> None:
    said = [Said(step, Scalars({"a": 1.0})) for step in range(100)]
    write_recording(tmp_path / "recordings", said)
    for restart in range(2):
        process.supervise(10.0 * restart)
        wait_until(lambda: process.supervise(10.0) or process.positions.get(STREAM_ID) == 101, seconds=DRAIN_SECONDS)
        assert process.counts["records"] == 100
        process.positions.clear()
        kill_child(process)
        process.supervise(10.0 * restart)
    assert process.restarts == 2


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


def test_a_child_that_says_nothing_is_trouble(process: Supervisor) -> None:
    process.supervise(0.0)
    os.kill(pid_of(process), signal.SIGSTOP)
    process.supervise(1.0)
    assert process.trouble(SILENCE_SECONDS - 1.0) == STARTING
    assert "has said nothing for" in process.trouble(1.0 + SILENCE_SECONDS)


def test_a_child_that_waits_for_room_is_trouble_and_a_stop_says_that_it_is_late(tmp_path: Path) -> None:
    process = Supervisor(tmp_path / "recordings", tmp_path / "runs", disk_reserve_bytes=2**62)
    try:
        process.supervise(0.0)
        wait_until(lambda: process.supervise(0.0) or process.trouble(0.0) != STARTING, seconds=DRAIN_SECONDS)
        assert process.trouble(0.0) == "event files wait: the disk of the log directory is nearly full"
        assert not process.finish(0.0, DRAIN_SECONDS)
    finally:
        process.kill()
