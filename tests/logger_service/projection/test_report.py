"""Both ends of the pipe between the projection and its parent, and what the parent concludes from the reports."""

import os
import select
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.projection.report import (
    REPORT_SECONDS,
    STUCK_SECONDS,
    UNDRAWN_MAX,
    ProjectionCounts,
    ProjectionReport,
    ProjectionState,
    ReportedHealth,
    ReportReader,
    ReportWriter,
)
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def streams(count: int, sequence: int = 7) -> list[tuple[bytes, int]]:
    return [(number.to_bytes(16, "big"), sequence) for number in range(count)]


def positions(report: ProjectionReport) -> list[tuple[bytes, int]]:
    return [(bytes.fromhex(stream), sequence) for stream, sequence in report.positions.items()]


def read(reader: ReportReader) -> list[ProjectionReport]:
    """Return the reports, but for those of findings."""
    return [report for report in reader.read() if isinstance(report, ProjectionReport)]


def test_a_report_is_read_as_written(pipe: tuple[int, int]) -> None:
    writer, reader = ReportWriter(pipe[1]), ReportReader(pipe[0])
    assert reader.read() == []
    state = ProjectionState(waits=True, failing=3, disk_size_bytes=2**40)
    writer.write(5.0, ProjectionCounts(records=3, drawing_failures=1), streams(2), state)
    (report,) = read(reader)
    assert (positions(report), report.state) == (streams(2), state)
    assert report.counts == ProjectionCounts(records=3, drawing_failures=1)


def test_a_report_is_written_once_a_second_with_the_changed_positions(pipe: tuple[int, int]) -> None:
    writer, reader = ReportWriter(pipe[1]), ReportReader(pipe[0])
    writer.write(0.0, ProjectionCounts(), streams(3), ProjectionState())
    reader.read()
    writer.write(REPORT_SECONDS / 2, ProjectionCounts(), streams(3, 9), ProjectionState())
    assert reader.read() == []
    moved = [*streams(2), (b"\0" * 15 + b"\2", 8)]
    writer.write(REPORT_SECONDS, ProjectionCounts(), moved, ProjectionState())
    (report,) = read(reader)
    assert positions(report) == [(b"\0" * 15 + b"\2", 8)]


def test_a_line_fits_into_the_pipe_at_once_however_large_its_numbers(pipe: tuple[int, int]) -> None:
    writer = ReportWriter(pipe[1])
    counts = ProjectionCounts(**{field.name: SEQUENCE_MAX for field in fields(ProjectionCounts)})
    writer.write(0.0, counts, streams(500, SEQUENCE_MAX), ProjectionState(True, False, *[SEQUENCE_MAX] * 4))
    lines = os.read(pipe[0], 2**20).split(b"\n")
    assert len(lines) > 10
    assert max(map(len, lines)) < select.PIPE_BUF


def test_a_full_pipe_does_not_block_and_loses_no_position(pipe: tuple[int, int]) -> None:
    writer, reader = ReportWriter(pipe[1]), ReportReader(pipe[0])
    everything = streams(5000)
    writer.write(0.0, ProjectionCounts(), everything, ProjectionState())
    told: dict[bytes, int] = {}
    now_seconds = 0.0
    while len(told) < len(everything):
        before = len(told)
        for report in read(reader):
            told.update(positions(report))
        now_seconds += REPORT_SECONDS
        writer.write(now_seconds, ProjectionCounts(), everything, ProjectionState())
        assert len(told) > before
    assert sorted(told.items()) == everything


def test_a_missing_reader_or_pipe_is_no_error() -> None:
    with Path(os.devnull).open("wb") as nothing:
        ReportWriter(nothing.fileno()).write(0.0, ProjectionCounts(), streams(1), ProjectionState())
    ends = os.pipe()
    writer = ReportWriter(ends[1])
    os.close(ends[0])
    writer.write(0.0, ProjectionCounts(), streams(1), ProjectionState())
    os.close(ends[1])


@pytest.mark.parametrize(
    "rubbish",
    [
        b"{}\n",
        b"warning: something printed\n",
        b'{"type":"projection","counts":{"records":-1},"positions":{},"state":{}}\n',
        b'{"type":"projection","counts":{},"positions":{"no stream":1},"state":{}}\n',
        b'{"type":"projection","counts":{},"positions":{},"state":{"waits":1}}\n',
        b"\xff\0\n",
    ],
)
def test_an_invalid_line_is_counted_and_dropped(pipe: tuple[int, int], rubbish: bytes) -> None:
    reader = ReportReader(pipe[0])
    os.write(pipe[1], rubbish)
    assert (reader.read(), reader.malformed) == ([], 1)
    ReportWriter(pipe[1]).write(0.0, ProjectionCounts(records=2), [], ProjectionState())
    (report,) = read(reader)
    assert (report.counts.records, report.positions) == (2, {})


def test_a_line_without_an_end_costs_no_memory(pipe: tuple[int, int]) -> None:
    reader = ReportReader(pipe[0])
    for _ in range(100):
        os.write(pipe[1], b"x" * 60_000)
        assert reader.read() == []
    assert len(reader._rest) <= select.PIPE_BUF


class Told:
    """The parent's view of a child whose reports the test makes."""

    def __init__(self) -> None:
        self.health = ReportedHealth()
        self.health.child_started(0.0)

    def trouble_after(
        self, now_seconds: float, counts: ProjectionCounts | None = None, state: ProjectionState | None = None
    ) -> str:
        """Hear one report; return the trouble that follows from all reports."""
        report = ProjectionReport(counts or ProjectionCounts(), {}, state or ProjectionState())
        self.health.hear(report, now_seconds)
        return self.health.trouble(now_seconds)


def test_a_projection_is_starting_until_its_first_report() -> None:
    told = Told()
    assert told.health.trouble(5.0) == "the projection is starting"
    assert told.health.trouble(6.0) == "the projection is starting"
    assert told.trouble_after(7.0) == ""


def test_pictures_that_all_fail_are_trouble_until_one_is_drawn() -> None:
    told = Told()
    assert told.trouble_after(1.0, ProjectionCounts(drawings=5, drawing_failures=100)) == "", "some of both"
    fewer = ProjectionCounts(drawings=5, drawing_failures=100 + UNDRAWN_MAX - 1)
    assert told.trouble_after(2.0, fewer) == ""
    failing = ProjectionCounts(drawings=5, drawing_failures=100 + UNDRAWN_MAX)
    assert told.trouble_after(3.0, failing) == f"nothing is drawn: the last {UNDRAWN_MAX} pictures failed"
    assert told.trouble_after(1000.0, failing), "it stays so while there is nothing to draw"
    assert told.trouble_after(1001.0, ProjectionCounts(drawings=6, drawing_failures=100 + UNDRAWN_MAX)) == ""


def test_pictures_that_never_were_drawn_are_trouble() -> None:
    told = Told()
    assert "nothing is drawn" in told.trouble_after(1.0, ProjectionCounts(drawing_failures=UNDRAWN_MAX))


def test_a_recording_that_cannot_be_shown_for_long_is_trouble_unless_it_is_damaged() -> None:
    told = Told()
    assert told.trouble_after(1.0, state=ProjectionState(failing=3, stuck=2)) == ""
    assert told.trouble_after(1.0 + STUCK_SECONDS / 2, state=ProjectionState(failing=3)) == "", "the recordings went on"
    stuck = ProjectionState(failing=3, stuck=2)
    assert told.trouble_after(100.0, state=stuck) == ""
    assert told.trouble_after(100.0 + STUCK_SECONDS, state=stuck) == "event files of 2 recordings cannot be written"
    assert told.trouble_after(101.0 + STUCK_SECONDS, state=ProjectionState(failing=1)) == "", "a damaged recording"


def test_counts_and_troubles_outlive_a_child() -> None:
    told = Told()
    stuck = ProjectionState(waits=True, failing=2, stuck=2)
    told.trouble_after(1.0, ProjectionCounts(records=5, drawings=1), stuck)
    told.health.child_ended()
    assert (told.health.counts.records, told.health.state.waits, told.health.state.failing) == (5, False, 0)
    assert told.health.trouble(1000.0) == "event files of 2 recordings cannot be written", "nobody is silent"
    told.health.child_started(1001.0)
    assert told.trouble_after(1002.0, ProjectionCounts(records=3)) == ""
    assert told.health.counts == ProjectionCounts(records=8, drawings=1)


def test_the_positions_of_the_streams_that_moved_last_are_kept() -> None:
    health = ReportedHealth()
    for start in range(0, 16_384 + 10, 10):
        moved = {number.to_bytes(16, "big").hex(): 7 for number in (0, *range(start, start + 10))}
        health.hear(ProjectionReport(ProjectionCounts(), moved, ProjectionState()), 0.0)
    assert len(health.positions) == 16_384
    assert bytes(16) in health.positions
    assert (1).to_bytes(16, "big") not in health.positions
