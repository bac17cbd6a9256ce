"""Both ends of the pipe between the projection and its parent."""

import os
import select
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.projection.report import (
    REPORT_SECONDS,
    ProjectionCounts,
    ProjectionReport,
    ProjectionState,
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


def test_a_report_is_read_as_written(pipe: tuple[int, int]) -> None:
    writer, reader = ReportWriter(pipe[1]), ReportReader(pipe[0])
    assert reader.read() == []
    state = ProjectionState(waits=True, failing=3, disk_size_bytes=2**40)
    writer.write(5.0, ProjectionCounts(records=3, drawing_failures=1), streams(2), state)
    (report,) = reader.read()
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
    (report,) = reader.read()
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
        for report in reader.read():
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
        b'{"counts":{"records":-1},"positions":{},"state":{}}\n',
        b'{"counts":{},"positions":{"no stream":1},"state":{}}\n',
        b'{"counts":{},"positions":{},"state":{"waits":1}}\n',
        b"\xff\0\n",
    ],
)
def test_an_invalid_line_is_counted_and_dropped(pipe: tuple[int, int], rubbish: bytes) -> None:
    reader = ReportReader(pipe[0])
    os.write(pipe[1], rubbish)
    assert (reader.read(), reader.malformed) == ([], 1)
    ReportWriter(pipe[1]).write(0.0, ProjectionCounts(records=2), [], ProjectionState())
    (report,) = reader.read()
    assert (report.counts.records, report.positions) == (2, {})


def test_a_line_without_an_end_costs_no_memory(pipe: tuple[int, int]) -> None:
    reader = ReportReader(pipe[0])
    for _ in range(100):
        os.write(pipe[1], b"x" * 60_000)
        assert reader.read() == []
    assert len(reader._rest) <= select.PIPE_BUF
