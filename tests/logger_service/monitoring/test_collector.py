"""The status of a logger whose parts are real; the projection is never started."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.folders.low_water import LowWater
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.monitoring.collector import OBSERVE_SECONDS, RUNS_MAX, Collector
from tensorboard_sidecar.logger_service.monitoring.run_lag import RunLag
from tensorboard_sidecar.logger_service.projection.process import Supervisor


class Parts:
    """A logger's parts, and their observer."""

    def __init__(self, folder: Path) -> None:
        self.recordings = folder / "recordings"
        self.recordings.mkdir()
        self.journal = Journal(self.recordings, lambda: 10**18, commit_interval_seconds=0.05, commit_size_bytes=1000)
        self.receiver = Receiver(self.journal, "tcp://127.0.0.1:*", streams_max=16)
        self.projection = Supervisor(self.recordings, folder / "runs")
        self.projection.health._reported = True
        self.observer = Collector(self.recordings, self.journal, self.receiver, self.projection, None)

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
