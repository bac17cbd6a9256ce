"""Whether event files are made, as the projection's parent hears it: by reports that the test writes."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.report import ProjectionReport, ProjectionState, ReportReader
from tensorboard_sidecar.logger_service.projection.supervisor import STUCK_SECONDS, UNDRAWN_MAX, Supervisor


class Told:
    """A projection's parent and the child's end of the pipe."""

    def __init__(self, folder: Path) -> None:
        self.process = Supervisor(folder / "recordings", folder / "runs")
        self.reader, self.writer = os.pipe()
        self.process._reports = ReportReader(self.reader, 0.0)

    def trouble_after(self, now: float, counts: Counts | None = None, state: ProjectionState | None = None) -> str:
        """Have the child say how it is, and the parent what it makes of that."""
        report = ProjectionReport(asdict(counts or Counts()), {}, state or ProjectionState())
        os.write(self.writer, msgspec.json.encode(report) + b"\n")
        self.process._hear(now)
        return self.process.trouble(now)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    os.close(told.reader)
    os.close(told.writer)


def test_a_projection_is_starting_until_it_says_something(told: Told) -> None:
    assert told.process.trouble(5.0) == "the projection is starting"
    told.process._hear(6.0)
    assert told.process.trouble(6.0) == "the projection is starting"
    assert told.trouble_after(7.0) == ""


def test_pictures_that_all_fail_are_trouble_until_one_is_drawn(told: Told) -> None:
    assert told.trouble_after(1.0, Counts(drawings=5, drawing_failures=100)) == "", "some of both"
    fewer = Counts(drawings=5, drawing_failures=100 + UNDRAWN_MAX - 1)
    assert told.trouble_after(2.0, fewer) == ""
    failing = Counts(drawings=5, drawing_failures=100 + UNDRAWN_MAX)
    assert told.trouble_after(3.0, failing) == f"nothing is drawn: the last {UNDRAWN_MAX} pictures failed"
    assert told.trouble_after(1000.0, failing), "it stays so while there is nothing to draw"
    assert told.trouble_after(1001.0, Counts(drawings=6, drawing_failures=100 + UNDRAWN_MAX)) == ""


def test_pictures_that_never_were_drawn_are_trouble(told: Told) -> None:
    assert "nothing is drawn" in told.trouble_after(1.0, Counts(drawing_failures=UNDRAWN_MAX))


def test_a_recording_that_cannot_be_shown_for_long_is_trouble_unless_it_is_damaged(told: Told) -> None:
    assert told.trouble_after(1.0, state=ProjectionState(failing=3, stuck=2)) == ""
    assert told.trouble_after(1.0 + STUCK_SECONDS / 2, state=ProjectionState(failing=3)) == "", "it went on"
    stuck = ProjectionState(failing=3, stuck=2)
    assert told.trouble_after(100.0, state=stuck) == ""
    assert told.trouble_after(100.0 + STUCK_SECONDS, state=stuck) == "event files of 2 recordings cannot be written"
    assert told.trouble_after(101.0 + STUCK_SECONDS, state=ProjectionState(failing=1)) == "", "no fault of ours"
