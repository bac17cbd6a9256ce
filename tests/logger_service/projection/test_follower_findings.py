"""What a follower knows of its runs beside their event files: findings to tell, and runs that became silent."""

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from support.records.events import load_folder
from support.records.recordings import (
    START_NS,
    STREAM_ID,
    Said,
    append_records,
    make_records,
    make_stream,
    write_recording,
)

from tensorboard_sidecar.logger_service.findings.silence import GONE_SECONDS, SILENT_MIN_SECONDS
from tensorboard_sidecar.logger_service.projection import stream_findings
from tensorboard_sidecar.logger_service.projection.follower import TURN_SECONDS, Follower
from tensorboard_sidecar.protocol.messages import Message, RunEnd, RunStart, Scalars
from tensorboard_sidecar.protocol.record import Record

NAN = float("nan")
HEALTHY: list[Message] = [RunStart(), *(Scalars({"loss": 1.0}) for _ in range(9))]


class Run:
    """A run that grows while a follower follows it; each turn comes at a time that the test gives."""

    def __init__(self, root: Path) -> None:
        self.follower = Follower(root / "recordings", root / "log")
        self._folder = root / "recordings" / "demo"
        self._sequence = count(1)

    def turn(self, now_seconds: float, *messages: Message, step_seconds: int = 1) -> None:
        """Record messages, a step each; then give the follower its turns."""
        append_records(self._folder, make_stream(), [self._record(each, step_seconds) for each in messages])
        while self.follower.turn(now_seconds):
            pass

    def _record(self, message: Message, step_seconds: int) -> Record:
        number = next(self._sequence)
        (record,) = make_records([Said(number, message)], first_sequence=number)
        return record._replace(wall_time_ns=START_NS + number * step_seconds * 10**9)

    @property
    def silent(self) -> int:
        return self.follower.state().silent

    @property
    def findings(self) -> list[tuple[str, str, str]]:
        return [(one.rule, one.tag, one.state) for _, findings in self.follower.findings() for one in findings]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.follower.close()


def test_a_run_that_becomes_silent_is_said_once_and_so_is_its_return(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run.turn(0.0, *HEALTHY)
    for now_seconds, silent in ((SILENT_MIN_SECONDS - 1, 0), (SILENT_MIN_SECONDS, 1), (2 * SILENT_MIN_SECONDS, 1)):
        run.turn(now_seconds)
        assert run.silent == silent
    run.turn(1_000.0, Scalars({"loss": 1.0}))
    run.turn(1_001.0)
    assert run.silent == 0
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "run demo, rank 0: no record for 300 s, and no end of the run: it hangs or was killed"),
        ("INFO", "run demo, rank 0: no longer silent"),
    ]


def test_a_run_whose_steps_take_minutes_may_be_silent_for_longer(run: Run) -> None:
    run.turn(0.0, *HEALTHY, step_seconds=120)
    run.turn(1_199.0)
    assert run.silent == 0
    run.turn(1_200.0)
    assert run.silent == 1


@pytest.mark.parametrize("end", [RunEnd("completed"), RunEnd("exited", plain=True)])
def test_a_run_that_has_ended_is_not_silent(run: Run, end: RunEnd) -> None:
    run.turn(0.0, *HEALTHY, end)
    run.turn(1e4)
    assert run.silent == 0


def test_a_recording_that_did_not_grow_under_this_logger_is_not_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody wants to hear of all runs of last month that were killed."""
    write_recording(tmp_path / "recordings", [Said(step, message) for step, message in enumerate(HEALTHY)])
    for now_seconds in (0.0, 1e4):
        follower = Follower(tmp_path / "recordings", tmp_path / "log")
        while follower.turn(now_seconds):
            pass
        follower.close()
    follower = Follower(tmp_path / "recordings", tmp_path / "log")
    for now_seconds in (2e4, 3e4):
        while follower.turn(now_seconds):
            pass
    assert follower.state().silent == 0
    assert not caplog.records


def test_a_run_that_is_gone_for_a_day_is_no_longer_silent_and_its_findings_rest_until_it_comes_back(run: Run) -> None:
    run.turn(0.0, *HEALTHY, Scalars({"loss": NAN}))
    run.turn(GONE_SECONDS - 1.0)
    assert (run.silent, len(list(run.follower.findings()))) == (1, 1)
    run.turn(GONE_SECONDS)
    assert (run.silent, len(list(run.follower.findings()))) == (0, 0)
    run.turn(GONE_SECONDS + 1, Scalars({"loss": NAN}))
    assert [len(findings) for _, findings in run.follower.findings()] == [1]


def test_the_findings_of_a_run_are_known_as_they_are_now(run: Run) -> None:
    run.turn(0.0, *HEALTHY)
    assert run.findings == []
    run.turn(1.0, Scalars({"loss": NAN}))
    assert run.findings == [("non-finite-scalar", "loss", "open")]
    run.turn(3.0, Scalars({"loss": 1.0}))
    assert run.findings == [("non-finite-scalar", "loss", "cleared")]
    assert [stream for stream, _ in run.follower.findings()] == [STREAM_ID]


def test_the_findings_of_a_run_that_ended_are_kept_until_its_recording_is_parked(run: Run) -> None:
    run.turn(0.0, *HEALTHY, Scalars({"loss": NAN}), RunEnd("failed"))
    assert run.findings == [("non-finite-scalar", "loss", "open")]
    run.turn(59.0)
    assert len(list(run.follower.findings())) == 1
    run.turn(1e3)
    assert list(run.follower.findings()) == []


def test_a_long_recording_that_is_read_again_leaves_other_runs_their_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn of a run is bounded in time, and the report goes out meanwhile: the parent's patience is a minute."""
    monkeypatch.setattr(stream_findings, "_LOOK_RECORDS", 10)
    said = [Said(0, RunStart()), *(Said(step, Scalars({"loss": 1.0})) for step in range(100))]
    long = make_stream("long", stream_id=b"\1" * 16)
    folder = write_recording(tmp_path / "recordings", said, long)
    follower = Follower(tmp_path / "recordings", tmp_path / "log")
    while follower.turn(0.0):
        pass
    follower.close()
    append_records(folder, long, make_records([Said(100, Scalars({"loss": NAN}))], first_sequence=len(said) + 1))
    small = make_stream("small", stream_id=b"\2" * 16)
    clock, reports = count(step=TURN_SECONDS), list[float]()
    follower = Follower(
        tmp_path / "recordings",
        tmp_path / "log",
        after_each=lambda: reports.append(len(reports)),
        clock=lambda: next(clock),
    )
    turns = 0
    while follower.turn(float(turns)):
        turns += 1
        records = make_records([Said(turns, Scalars({"a": 1.0}))], first_sequence=turns) if turns < 4 else []
        append_records(tmp_path / "recordings" / "small", small, records)
    assert turns > 5
    assert len(reports) > 2 * turns
    assert len(load_folder(tmp_path / "log" / "small")) == 3
    assert [len(findings) for _, findings in follower.findings()] == [1]
    assert len(load_folder(tmp_path / "log" / "long")) == len(said) + 2
    follower.close()
