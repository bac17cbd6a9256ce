"""The disk of the event files fails, or somebody cuts them: the journal goes on, and every event comes in the end."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.harness.diary import TAG
from faults.harness.effort import SOAKING
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.machine.sick_disks import wait_for_log
from support.machine.waiting import wait_until
from support.records.events import event_files, values_by_tag
from support.running.programs import LoggerProcess
from support.running.tensorboard import Loader, TensorBoard, running_tensorboard

RUN = "events"


def size_of(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def journal_of(logger: LoggerProcess) -> list[Path]:
    return list(logger.recordings.rglob("*.segment"))


def wait_for_events(logger: LoggerProcess, size_bytes: int = 20_000) -> Path:
    """Wait until there is an event file of such a size; return it."""
    wait_until(lambda: size_of(event_files(logger.logdir / RUN)[-1:]) > size_bytes, seconds=60)
    return event_files(logger.logdir / RUN)[-1]


def test_event_files_that_cannot_grow(logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]) -> None:
    """The kernel refuses the projection files beyond a size: an event is torn, then nothing is taken at all."""
    logger.start()
    trainer = trainers.start(RUN, logger.endpoint)
    projection, path = logger.projection, wait_for_events(logger)
    soft, hard = resource.prlimit(projection, resource.RLIMIT_FSIZE)
    resource.prlimit(projection, resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, hard))
    wait_for_log(logger, "File too large (logged once; tried again")
    before = size_of(journal_of(logger))
    wait_until(lambda: size_of(journal_of(logger)) > before, what="the journal goes on")
    resource.prlimit(projection, resource.RLIMIT_FSIZE, (soft, hard))
    assert trainer.finish() == 0
    assert logger.stop() == 0
    assert len(event_files(logger.logdir / RUN)) > 1
    judge()


@pytest.mark.parametrize("loader", ["fast", "slow"] if SOAKING else ["fast"])
def test_an_event_file_cut_under_a_live_tensorboard(
    logger: LoggerProcess, trainers: Trainers, tmp_path: Path, loader: Loader, judge: Callable[..., Verdict]
) -> None:
    """In the middle of an event, as a disk that lost power would: TensorBoard shows every step all the same."""
    logger.start()
    trainer = trainers.start(RUN, logger.endpoint, interval_seconds=0.005)
    path = wait_for_events(logger)
    with running_tensorboard(logger.logdir, tmp_path / "tensorboard.log", loader) as board:
        board.wait_for("the first steps", lambda board: len(shown_steps(board)) > 10)
        os.truncate(path, path.stat().st_size - 1000)
        wait_for_log(logger, "was deleted or changed while it was written; events are written anew")
        wait_until(lambda: len(event_files(logger.logdir / RUN)) > 1, what="another event file")
        assert trainer.finish() == 0
        assert logger.stop() == 0
        judge()
        written = [step for step, _ in values_by_tag(logger.logdir / RUN)[TAG]]
        # What it had read before the cut it reads again in the new file, and the slow loader then shows both.
        once: Callable[[list[int]], object] = set if loader == "slow" else list
        board.wait_for(f"{len(written)} steps", lambda board: once(shown_steps(board)) == once(written))


def shown_steps(board: TensorBoard) -> list[int]:
    points = board.get("plugin/scalars/scalars", run=RUN, tag=TAG)
    return [point["step"] if isinstance(point, dict) else point[1] for point in points]
