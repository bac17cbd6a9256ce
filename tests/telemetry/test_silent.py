"""A Telemetry in a child process that is starting; tests/system/test_spawned.py has real children."""

import logging
import threading
from multiprocessing import process
from pathlib import Path

import pytest
from support.running.spoken import read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.telemetry.silent import child_is_starting

WHAT = "a Telemetry that is made while a spawned process imports the main module again keeps nothing"
ADVICE = 'make the Telemetry under `if __name__ == "__main__":`, or inside the function that the process runs'


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark this process as multiprocessing.spawn marks a child that imports its main module."""
    monkeypatch.setattr(process.current_process(), "_inheriting", True, raising=False)


@pytest.mark.usefixtures("starting")
def test_a_silent_telemetry_has_no_outbox_no_stream_and_no_thread(
    tmp_path: Path, outboxes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    threads = threading.active_count()
    with Telemetry("run", endpoint="tcp://127.0.0.1:1", record=tmp_path / "rec", config={"lr": 0.1}) as telemetry:
        assert threading.active_count() == threads
        assert not list(outboxes.iterdir())
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert f"run run: {WHAT}; {ADVICE}" in caplog.text
        assert (telemetry.run, telemetry.lag_seconds) == ("run", 0.0)
        assert "run" in repr(telemetry)
    telemetry.close(5.0)
    assert not (tmp_path / "rec").exists()


@pytest.mark.usefixtures("starting")
def test_calls_of_a_silent_telemetry_are_faults_like_those_of_a_forked_child(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    for step in range(3):
        telemetry.scalars(step, {"a": 1.0})
        telemetry.writer.add_scalar("a", 1.0, step)
        telemetry.writer.add_graph(None)  # type: ignore[arg-type]
        telemetry.writer.flush()
    telemetry.writer.close()
    assert telemetry.faults.total == 9
    assert telemetry.health()["telemetry/faults"] == 9.0
    assert sum("telemetry.scalars: RuntimeError" in record.message for record in caplog.records) == 1


@pytest.mark.usefixtures("starting")
def test_a_strict_silent_telemetry_raises_what_to_do(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    with pytest.raises(RuntimeError, match="inside the function that the process runs"):
        telemetry.scalars(1, {"a": 1.0})


@pytest.mark.usefixtures("starting")
def test_wrong_settings_raise_in_a_silent_telemetry_too(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="rank"):
        Telemetry("run", endpoint=None, record=tmp_path, rank="first")  # type: ignore[arg-type]


def test_health_has_the_same_tags_silent_and_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        tags = list(telemetry.health())
    monkeypatch.setattr(process.current_process(), "_inheriting", True, raising=False)
    assert list(Telemetry("run", endpoint=None, record=tmp_path).health()) == tags


def test_a_telemetry_made_after_the_start_of_the_child_keeps_its_records(tmp_path: Path) -> None:
    assert not child_is_starting()
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.scalars(1, {"a": 1.0})
    assert read_said(tmp_path)[1].message == Scalars({"a": 1.0})
