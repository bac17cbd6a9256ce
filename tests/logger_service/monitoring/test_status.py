"""The status of a logger whose parts are real; the projection is never started."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace, LowWater
from tensorboard_sidecar.logger_service.hooks.hooks import Hooks
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.orphan_intake import OrphanIntake
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.limits import STREAMS_MAX
from tensorboard_sidecar.logger_service.monitoring.status import (
    OBSERVE_SECONDS,
    RUNS_MAX,
    STALE_SECONDS,
    Collector,
    RunLag,
    RunLags,
    Status,
)
from tensorboard_sidecar.logger_service.projection.process import Supervisor


def test_an_old_status_is_a_trouble() -> None:
    assert Status(at_seconds=100.0).reasons(100.0 + STALE_SECONDS - 0.1) == []
    status = Status(at_seconds=100.0, troubles=("the disk is full",))
    assert status.reasons(101.0) == ["the disk is full"]
    assert status.reasons(100.0 + STALE_SECONDS) == [
        "the main loop of the logger has not run for 10 s",
        "the disk is full",
    ]


A, B = b"a" * 16, b"b" * 16


def test_a_run_lags_by_what_is_committed_and_not_projected() -> None:
    lags = RunLags()
    lags.committed(A, "run", 11, 100.0)
    lags.committed(A, "run", 21, 103.0)
    assert lags.lags({}, 105.0) == {"run": RunLag(20, 5.0)}
    assert lags.lags({A: 5}, 105.0) == {"run": RunLag(16, 5.0)}
    assert lags.lags({A: 11}, 105.0) == {"run": RunLag(10, 2.0)}
    assert lags.lags({A: 21}, 105.0) == {"run": RunLag(0, 0.0)}
    lags.committed(A, "run", 22, 110.0)
    assert lags.lags({A: 21}, 111.0) == {"run": RunLag(1, 1.0)}


def test_the_lags_of_the_streams_of_a_run_are_added() -> None:
    lags = RunLags()
    lags.committed(A, "run", 11, 100.0)
    lags.committed(B, "run", 6, 102.0)
    assert lags.lags({A: 1, B: 2}, 103.0) == {"run": RunLag(14, 3.0)}
    assert lags.lags({A: 11, B: 2}, 103.0) == {"run": RunLag(4, 1.0)}


def test_a_long_lag_costs_no_memory_and_is_never_reported_too_small() -> None:
    lags = RunLags()
    for commit in range(10_000):
        lags.committed(A, "run", commit + 2, float(commit))
    assert len(lags._streams[A][1]) < 64
    assert lags.lags({}, 10_000.0) == {"run": RunLag(10_000, 10_000.0)}
    for projected in (2, 5_000, 9_999):
        (lag,) = lags.lags({A: projected}, 10_000.0).values()
        waited_seconds = 10_000.0 - (projected - 1)
        assert lag.records == 10_001 - projected
        assert waited_seconds <= lag.seconds <= 10_000.0


def test_streams_are_remembered_up_to_a_bound() -> None:
    lags = RunLags()
    for number in range(STREAMS_MAX + 10):
        lags.committed(number.to_bytes(16, "big"), f"run{number}", 2, 0.0)
    told = lags.lags({}, 1.0)
    assert len(told) == STREAMS_MAX
    assert "run9" not in told
    assert "run10" in told


class Parts:
    """A logger's parts, and their observer."""

    def __init__(self, folder: Path) -> None:
        self.recordings = folder / "recordings"
        self.recordings.mkdir()
        self.journal = Journal(self.recordings, lambda: 10**18, commit_interval_seconds=0.05, commit_size_bytes=1000)
        self.receiver = Receiver(self.journal, "tcp://127.0.0.1:*", streams_max=16)
        self.projection = Supervisor(self.recordings, folder / "runs")
        self.projection.health._reported = True
        orphans = OrphanIntake([], self.receiver.dispatcher, [])
        self.observer = Collector(self.recordings, self.journal, self.receiver, self.projection, orphans, Hooks({}))

    def commit(self, runs: int) -> None:
        for number in range(runs):
            self.receiver.dispatcher.streams.progress[number.to_bytes(16, "big")] = (f"run{number:04d}", number + 2)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    yield parts
    parts.receiver.close()


def test_a_status_is_made_once_a_second(parts: Parts) -> None:
    status = parts.observer.observe(100.0)
    assert status is not None
    assert (status.at_seconds, status.reasons(100.0)) == (100.0, [])
    assert parts.observer.observe(100.0 + OBSERVE_SECONDS / 2) is None
    assert parts.observer.observe(100.0 + OBSERVE_SECONDS) is not None


def test_the_largest_lags_are_in_the_status_up_to_a_bound(parts: Parts) -> None:
    parts.commit(RUNS_MAX + 50)
    assert parts.observer.observe(100.0) is not None
    assert parts.receiver.dispatcher.streams.progress == {}
    parts.projection.health.positions |= {number.to_bytes(16, "big"): number + 2 for number in range(60)}
    status = parts.observer.observe(105.0)
    assert status is not None
    assert len(status.lags) == RUNS_MAX
    assert status.lags["run0060"] == RunLag(61, 5.0)
    assert "run0149" in status.lags
    assert status.lag_seconds_max == 5.0


def test_a_status_does_not_change_with_later_counts(parts: Parts) -> None:
    status = parts.observer.observe(100.0)
    assert status is not None
    parts.receiver.dispatcher.counts.records += 1
    assert status.received.records == 0


def test_a_disk_that_is_nearly_full_and_a_folder_that_is_gone_are_troubles(parts: Parts) -> None:
    parts.journal.low_water = LowWater(lambda: DiskSpace(5, 2**40))
    parts.journal.low_water.look(0.0)
    parts.recordings.rmdir()
    status = parts.observer.observe(100.0)
    assert status is not None
    gone, full = status.reasons(100.0)
    assert gone == f"--recordings {parts.recordings} cannot be written"
    assert full.startswith("the disk of the recordings is nearly full: 5 bytes free")
    assert status.disks == {"recordings": DiskSpace(5, 2**40)}
