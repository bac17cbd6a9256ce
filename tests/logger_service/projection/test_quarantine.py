"""Records that kill the process that shows them.

The first tests simulate a death: an object that is dropped while its note is in the file is a process that died. The
last tests start real processes, which the kernel kills.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from support.records.events import folder_bytes, load_folder, summary_tags
from support.records.recordings import Said, make_stream, write_recording

from tensorboard_sidecar.logger_service.projection.follower import Follower, follow
from tensorboard_sidecar.logger_service.projection.quarantine import (
    DEATHS_MAX,
    FILE_NAME,
    PATIENCE_SECONDS,
    SUSPECTS_MAX,
    Quarantine,
)
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Matrix, RunStart, Text

SUSPECT = (b"\1" * 16, 7)
OTHER = (b"\2" * 16, 1)
Opened: TypeAlias = Callable[[], Quarantine]


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def opened(logdir: Path) -> Iterator[Opened]:
    """Return a function that opens the notes, as a process does when it starts."""
    all_of_them: list[Quarantine] = []

    def open_suspects() -> Quarantine:
        all_of_them.append(Quarantine())
        all_of_them[-1].open(logdir)
        return all_of_them[-1]

    yield open_suspects
    for suspects in all_of_them:
        suspects.close()


def die_at(logdir: Path, record: tuple[bytes, int]) -> None:
    """Leave the file of a process that is killed while the process shows a record."""
    suspects = Quarantine()
    suspects.open(logdir)
    with suspects.showing(record):
        noted = (logdir / FILE_NAME).read_bytes()
    suspects.close()
    (logdir / FILE_NAME).write_bytes(noted)


def test_a_record_is_fatal_after_its_third_death(logdir: Path, opened: Opened) -> None:
    for _ in range(DEATHS_MAX):
        assert not opened().is_fatal(SUSPECT)
        die_at(logdir, SUSPECT)
    assert opened().is_fatal(SUSPECT)
    assert not opened().is_fatal(OTHER)


def test_deaths_are_remembered_while_other_records_are_shown_and_others_die(logdir: Path, opened: Opened) -> None:
    for number in range(DEATHS_MAX):
        die_at(logdir, SUSPECT)
        suspects = opened()
        with suspects.showing((OTHER[0], number + 2)):
            pass
        die_at(logdir, OTHER)
    assert opened().is_fatal(SUSPECT)
    assert opened().is_fatal(OTHER)


def test_a_record_that_is_shown_in_the_end_is_no_suspect(logdir: Path, opened: Opened) -> None:
    for _ in range(DEATHS_MAX - 1):
        die_at(logdir, SUSPECT)
    suspects = opened()
    with suspects.showing(SUSPECT):
        pass
    die_at(logdir, SUSPECT)
    assert not opened().is_fatal(SUSPECT)


def test_an_exception_is_a_death_unless_a_disk_or_a_person_caused_it(opened: Opened) -> None:
    suspects = opened()
    for error in (OSError(), KeyboardInterrupt(), MemoryError(), ValueError(), RecursionError()):
        assert not suspects.is_fatal(SUSPECT)
        with pytest.raises(type(error)), suspects.showing(SUSPECT):
            raise error
    assert suspects.is_fatal(SUSPECT)


def test_a_process_that_ends_for_another_reason_leaves_no_suspect(logdir: Path, opened: Opened) -> None:
    suspects = opened()
    with suspects.showing(SUSPECT):
        suspects.stop_noting()
        assert list(logdir.iterdir()) == []
    assert list(logdir.iterdir()) == []


def test_the_log_directory_keeps_no_file_if_no_record_died(logdir: Path, opened: Opened) -> None:
    suspects = opened()
    with suspects.showing(OTHER):
        pass
    suspects.close()
    suspects.close()
    assert list(logdir.iterdir()) == []


def test_a_suspect_waits_for_the_other_records(logdir: Path, opened: Opened) -> None:
    die_at(logdir, SUSPECT)
    suspects = opened()
    assert not suspects.must_wait(OTHER, 0.0)
    assert suspects.must_wait(SUSPECT, 5.0)
    assert suspects.must_wait(SUSPECT, 5.0 + PATIENCE_SECONDS - 0.1)
    assert not suspects.must_wait(SUSPECT, 5.0 + PATIENCE_SECONDS)


def test_a_suspect_does_not_wait_after_the_end_of_waits(logdir: Path, opened: Opened) -> None:
    die_at(logdir, SUSPECT)
    suspects = opened()
    assert not suspects.end_waits()
    assert suspects.must_wait(SUSPECT, 5.0)
    assert suspects.end_waits()
    assert not suspects.must_wait(SUSPECT, 5.0)
    assert not suspects.end_waits()


def test_a_fatal_record_does_not_wait(logdir: Path, opened: Opened) -> None:
    for _ in range(DEATHS_MAX):
        die_at(logdir, SUSPECT)
    suspects = opened()
    assert not suspects.must_wait(SUSPECT, 0.0)
    suspects.clear(SUSPECT)
    assert not opened().is_fatal(SUSPECT)


def test_the_file_has_its_size_however_many_died(logdir: Path) -> None:
    for number in range(SUSPECTS_MAX + 3):
        die_at(logdir, (bytes(16), number))
    assert (logdir / FILE_NAME).stat().st_size == SUSPECTS_MAX * 32


@pytest.mark.parametrize("noted", [b"", b"x" * 31, b"x" * 5000, bytes(5000)])
def test_any_file_is_read_without_harm(logdir: Path, noted: bytes, opened: Opened) -> None:
    (logdir / FILE_NAME).write_bytes(noted)
    assert not opened().is_fatal(SUSPECT)


def test_a_quarantine_works_without_a_file(logdir: Path, opened: Opened) -> None:
    (logdir / FILE_NAME).symlink_to(logdir / "elsewhere")
    suspects = opened()
    with suspects.showing(SUSPECT):
        pass
    suspects.close()
    assert [path.name for path in logdir.iterdir()] == [FILE_NAME]


POISON = "poison"
KILLED = -signal.SIGKILL


def matrix(tag: str) -> Matrix:
    return Matrix(tag, pack_array(np.eye(3, dtype=np.float32)))


HEALTHY = [Said(0, RunStart()), *(Said(step, matrix("m")) for step in range(1, 5))]
SICK = [Said(0, RunStart()), Said(1, matrix("m")), Said(2, matrix(POISON)), Said(3, matrix("m"))]


def fatal_heatmap(*arguments: Any, **keywords: Any) -> Picture:
    """Draw a matrix; kill the process, as the OOM killer does, when the matrix is the poison."""
    if keywords["title"] == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return heatmap(*arguments, **keywords)


@pytest.fixture
def sick_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a run with a record that kills, and a healthy run that sorts behind it."""
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.to_events.heatmap", fatal_heatmap)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.quarantine.PATIENCE_SECONDS", 0.0)
    write_recording(tmp_path / "recordings", SICK, make_stream("a-sick"))
    write_recording(tmp_path / "recordings", HEALTHY, make_stream("b-healthy", stream_id=b"\1" * 16))
    return tmp_path / "recordings"


def in_process(work: Callable[[], object]) -> int:
    """Do the work in a process of its own; return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def serve_until_it_is_done(recordings: Path, logdir: Path) -> list[int]:
    """Start the projection again until it ends well; return all exit codes."""
    ends = [1]
    while ends[-1] and len(ends) < 10:
        ends.append(in_process(lambda: follow(recordings, logdir, lambda: True)))
    return ends[1:]


def test_a_record_that_kills_each_time_is_left_blank_after_the_third_death(sick_runs: Path, tmp_path: Path) -> None:
    assert serve_until_it_is_done(sick_runs, tmp_path / "log") == [KILLED] * DEATHS_MAX + [0]
    assert summary_tags(tmp_path / "log" / "a-sick") == ["m", "", "m"]
    assert summary_tags(tmp_path / "log" / "b-healthy") == ["m"] * 4


def test_a_fatal_record_is_counted_and_logged_as_a_drawing_failure(
    sick_runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(DEATHS_MAX):
        in_process(lambda: follow(sick_runs, tmp_path / "log", lambda: True))
    counts = follow(sick_runs, tmp_path / "log", lambda: True).counts
    assert (counts.drawing_failures, counts.malformed) == (1, 0)
    assert "a-sick: record 3 is left blank: the projection ended each time while drawing this record" in caplog.text


def test_a_replay_of_such_a_record_leaves_the_same_bytes(sick_runs: Path, tmp_path: Path) -> None:
    serve_until_it_is_done(sick_runs, tmp_path / "live")
    ends = [in_process(lambda: replay([sick_runs], tmp_path / "replayed")) for _ in range(DEATHS_MAX + 1)]
    assert ends == [KILLED] * DEATHS_MAX + [0]
    live, replayed = (load_folder(tmp_path / name / "a-sick") for name in ("live", "replayed"))
    assert live == replayed
    assert not [name for name in folder_bytes(tmp_path / "live") if "suspects" in name]


def test_other_runs_go_first_after_a_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert summary_tags(tmp_path / "log" / "a-sick") == ["m"]
    assert summary_tags(tmp_path / "log" / "b-healthy") == ["m"] * 80


def test_a_stop_does_not_wait_and_leaves_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that was being shown at an unrelated kill is shown before the logger ends."""
    folder = write_recording(tmp_path / "recordings", SICK)
    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.to_events.heatmap", fatal_heatmap)
        assert in_process(lambda: follow(folder, tmp_path / "log", lambda: True)) == KILLED
    follow(folder, tmp_path / "log", lambda: True)
    assert summary_tags(tmp_path / "log" / "demo") == ["m", POISON, "m"]


def test_a_record_whose_events_can_never_be_written_is_left_blank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error outside of the drawing costs its recording some retries, and other recordings nothing."""
    write = os.write

    def write_small(file: int, data: bytes) -> int:
        if len(data) > 300_000:
            raise MemoryError
        return write(file, data)

    said = [Said(0, RunStart()), Said(1, Text("t", "x" * 300_000)), Said(2, Text("t", "small"))]
    write_recording(tmp_path / "recordings", said)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.stream_parts.WRITE_SIZE_BYTES", 1)
    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", write_small)
    projection = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in range(0, 200, 5):
        projection.turn(float(now_seconds))
    projection.close()
    assert projection.counts.stream_failures == DEATHS_MAX
    assert summary_tags(tmp_path / "log" / "demo") == ["", "t"]
