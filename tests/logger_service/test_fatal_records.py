"""Records that end whoever shows them: real processes, ended by the kernel."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.events import folder_bytes, load_folder
from support.recordings import Said, make_stream, write_recording
from support.source import ROOT

from tensorboard_sidecar.logger_service.projection.follower import Follower, follow
from tensorboard_sidecar.logger_service.projection.quarantine import DEATHS_MAX, PATIENCE_SECONDS, Quarantine
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Graph, GraphNode, Images, Matrix, RunStart, Scalars, Text
from tensorboard_sidecar.protocol.storage.find import beginning_of

POISON = "poison"
PROJECT_IN_LITTLE_MEMORY = """
import sys
from pathlib import Path
from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.child import limit_memory
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
limit_memory(40 * 2**20)
counts = Counts()
projection = StreamProjection(Path(sys.argv[1]), Path(sys.argv[2]), counts)
while projection.advance(2**18):
    pass
sys.exit(counts.drawing_failures)
"""
KILLED = -signal.SIGKILL


def matrix(tag: str) -> Matrix:
    return Matrix(tag, pack_array(np.eye(3, dtype=np.float32)))


HEALTHY = [Said(0, RunStart()), *(Said(step, matrix("m")) for step in range(1, 5))]
SICK = [Said(0, RunStart()), Said(1, matrix("m")), Said(2, matrix(POISON)), Said(3, matrix("m"))]


def fatal_heatmap(*arguments: Any, **keywords: Any) -> Picture:
    """Draw, but for one matrix, of which the process dies as by the OOM killer."""
    if keywords["title"] == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return heatmap(*arguments, **keywords)


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a sick run and, behind it, a healthy one."""
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.to_events.heatmap", fatal_heatmap)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.quarantine.PATIENCE_SECONDS", 0.0)
    write_recording(tmp_path / "recordings", SICK, make_stream("a-sick"))
    write_recording(tmp_path / "recordings", HEALTHY, make_stream("b-healthy", stream_id=b"\1" * 16))
    return tmp_path / "recordings"


def in_process(work: Callable[[], object]) -> int:
    """Do the work in a process of its own; return how that ended."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def serve_until_it_is_done(recordings: Path, logdir: Path) -> list[int]:
    """Start a projection again and again; return how each ended."""
    ends = [1]
    while ends[-1] and len(ends) < 10:
        ends.append(in_process(lambda: follow(recordings, logdir, lambda: True)))
    return ends[1:]


def tags(folder: Path) -> list[str]:
    events = [event for event in load_folder(folder) if event.WhichOneof("what") == "summary"]
    return [event.summary.value[0].tag for event in events]


def test_a_record_that_kills_each_time_is_left_blank_after_the_third_death(recordings: Path, tmp_path: Path) -> None:
    assert serve_until_it_is_done(recordings, tmp_path / "log") == [KILLED] * DEATHS_MAX + [0]
    assert tags(tmp_path / "log" / "a-sick") == ["m", "", "m"]
    assert tags(tmp_path / "log" / "b-healthy") == ["m"] * 4


def test_it_is_a_drawing_failure_that_is_said(
    recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(DEATHS_MAX):
        in_process(lambda: follow(recordings, tmp_path / "log", lambda: True))
    counts = follow(recordings, tmp_path / "log", lambda: True).counts
    assert (counts.drawing_failures, counts.malformed) == (1, 0)
    assert "a-sick: record 3 is left blank: the projection ended whenever it was drawn" in caplog.text


def test_a_replay_of_such_a_record_leaves_the_same_bytes(recordings: Path, tmp_path: Path) -> None:
    serve_until_it_is_done(recordings, tmp_path / "live")
    ends = [in_process(lambda: replay([recordings], tmp_path / "replayed")) for _ in range(DEATHS_MAX + 1)]
    assert ends == [KILLED] * DEATHS_MAX + [0]
    live, replayed = (load_folder(tmp_path / name / "a-sick") for name in ("live", "replayed"))
    assert live == replayed
    assert not [name for name in folder_bytes(tmp_path / "live") if "suspects" in name]


def test_the_others_go_on_before_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.to_events.heatmap", fatal_heatmap)
    sick = write_recording(tmp_path / "recordings", SICK, make_stream("a-sick"))
    (tmp_path / "log").mkdir()
    assert in_process(lambda: follow(sick, tmp_path / "log", lambda: True)) == KILLED
    write_recording(tmp_path / "recordings", HEALTHY * 20, make_stream("b-healthy", stream_id=b"\1" * 16))
    suspects = Quarantine()
    suspects.open(tmp_path / "log")
    projection = Follower(tmp_path / "recordings", tmp_path / "log", suspects=suspects)
    for now_seconds in (0.0, 1.0, PATIENCE_SECONDS - 1.0):
        while projection.turn(now_seconds):
            pass
    projection.close()
    assert tags(tmp_path / "log" / "a-sick") == ["m"]
    assert tags(tmp_path / "log" / "b-healthy") == ["m"] * 80


def test_a_stop_does_not_wait_and_leaves_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever died of a kill by chance is shown before the logger ends."""
    folder = write_recording(tmp_path / "recordings", SICK)
    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.to_events.heatmap", fatal_heatmap)
        assert in_process(lambda: follow(folder, tmp_path / "log", lambda: True)) == KILLED
    follow(folder, tmp_path / "log", lambda: True)
    assert tags(tmp_path / "log" / "demo") == ["m", POISON, "m"]


def test_memory_that_runs_out_in_a_drawing_costs_the_drawing(tmp_path: Path) -> None:
    """Of small records that take 80 MB each; what comes behind them is shown."""
    graph = Graph([GraphNode(f"n{number}", "o", output_shapes=[[1] * 8] * 256) for number in range(216)])
    images = Images("i", pack_array(np.zeros((256, 1, 1, 1), np.uint8)), ["a caption"] * 256)
    said = [Said(0, RunStart()), Said(1, graph), Said(1, images), Said(2, Scalars({"a": 1.0}))]
    folder = write_recording(tmp_path, said)

    # In a fresh process: one that has done other work before has memory to give, whatever its limit.
    command = [sys.executable, "-c", PROJECT_IN_LITTLE_MEMORY, str(folder), str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert tags(tmp_path / "log" / "demo") == ["", "", "a"]


@pytest.mark.parametrize("place", ["decode_message", "project"])
def test_memory_that_runs_out_before_a_drawing_costs_the_drawing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(f"tensorboard_sidecar.logger_service.projection.stream.{place}", no_memory)
    counts = follow(write_recording(tmp_path, SICK[1:]), tmp_path / "log", lambda: True).counts
    assert (counts.records, counts.drawing_failures, counts.stream_failures) == (3, 3, 0)
    assert "kind 4 not drawn: " in caplog.text


def test_a_record_whose_events_can_never_be_written_is_left_blank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised outside of the drawing costs its recording some retries, and no other anything."""
    write = os.write

    def write_small(file: int, data: bytes) -> int:
        if len(data) > 300_000:
            raise MemoryError
        return write(file, data)

    said = [Said(0, RunStart()), Said(1, Text("t", "x" * 300_000)), Said(2, Text("t", "small"))]
    write_recording(tmp_path / "recordings", said)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.stream._WRITE_SIZE_BYTES", 1)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", write_small)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in range(0, 200, 5):
        projection.turn(float(now_seconds))
    projection.close()
    assert projection.counts.stream_failures == DEATHS_MAX
    assert tags(tmp_path / "log" / "demo") == ["", "t"]


@pytest.mark.parametrize("error", [RuntimeError("whatever"), MemoryError(), RecursionError(), AssertionError()])
@pytest.mark.parametrize("place", ["beginning_of", "StreamProjection", "StreamProjection.advance"])
def test_what_one_recording_raises_costs_no_other_its_turn(
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
    write_recording(tmp_path / "recordings", SICK, make_stream("a-sick"))
    write_recording(tmp_path / "recordings", HEALTHY, make_stream("b-healthy", stream_id=b"\1" * 16))
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    while projection.turn(0.0):
        pass
    assert projection.state().failing == 1
    projection.close()
    assert tags(tmp_path / "log" / "b-healthy") == ["m"] * 4


def test_links_in_a_circle_cost_their_run_alone(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", SICK, make_stream("a-sick"))
    write_recording(tmp_path / "recordings", HEALTHY, make_stream("b-healthy", stream_id=b"\1" * 16))
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a-sick").symlink_to("a-sick")
    counts = follow(tmp_path / "recordings", tmp_path / "log", lambda: True).counts
    assert counts.stream_failures
    assert tags(tmp_path / "log" / "b-healthy") == ["m"] * 4
