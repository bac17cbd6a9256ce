"""Workers of a DataLoader that log after they were forked: no hang, and no loss that nobody is told of."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.harness.diary import TAG, Diary, read_diaries
from faults.harness.oracle import check
from faults.harness.stopwatch import Stopwatch
from support.running.programs import LoggerProcess
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.__main__ import main

ITEMS, WORKERS, BATCH = 200, 2, 4


class Writer:
    """A telemetry, and a diary of each of its calls that came back."""

    def __init__(self, run: str, endpoint: str, memory: Path, **options: Any) -> None:
        self._watch, started = Stopwatch(), []
        seconds = self._watch.time(
            lambda: started.append(Telemetry(run, endpoint=endpoint, outbox_dir=memory, **options))
        )
        [self.telemetry] = started
        self._sequence = 1
        self._diary = Diary(memory / f"{run}-{os.getpid()}.diary")
        self._diary.begin(self.telemetry._pipeline.outbox.stream.id)
        self._diary.line(1, seconds)

    def log(self) -> None:
        """Make one call."""
        self._sequence += 1
        said = self._sequence, {TAG: float(self._sequence)}
        self._diary.line(self._sequence, self._watch.time(lambda: self.telemetry.scalars(*said)))


class LoggingDataset(Dataset[int]):
    """Logs with its parent's telemetry, which is refused, and with one of its own, which is kept.

    An item is the number of faults that the call with the parent's telemetry made.
    """

    def __init__(self, parents: Telemetry, endpoint: str, memory: Path) -> None:
        self._parents, self._endpoint, self._memory = parents, endpoint, memory
        self._own: Writer | None = None

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> int:
        if self._own is None:
            rank = get_worker_info().id + 1
            self._own = Writer(f"worker-{rank}", self._endpoint, self._memory, rank=rank, strict=True)
        self._own.log()
        before = self._parents.faults.total
        self._parents.scalars(index, {"worker": 1.0})
        return self._parents.faults.total - before


@pytest.fixture
def parent(logger: LoggerProcess, memory: Path) -> Iterator[Writer]:
    logger.start()
    parent = Writer("parent", logger.endpoint, memory, drain_seconds=60.0)
    yield parent
    parent.telemetry.close(0.0)


def test_workers_that_log_are_told_and_what_they_keep_is_kept(
    logger: LoggerProcess, parent: Writer, memory: Path
) -> None:
    dataset = LoggingDataset(parent.telemetry, logger.endpoint, memory)
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, multiprocessing_context="fork", timeout=120)
    for faults in loader:
        parent.log()
        assert faults.tolist() == [1] * BATCH, "each call with the parent's telemetry is a fault, and counted"
    assert parent.telemetry.faults.total == 0, "and none of the parent's"
    parent.telemetry.close()
    assert main(["drain", str(memory), "--endpoint", logger.endpoint]) == 0
    assert logger.stop() == 0
    verdict = check(read_diaries(memory.glob("*.diary")), logger.recordings, logger.logdir)
    print(verdict)
    assert verdict.streams == 1 + WORKERS
    assert verdict.replayed >= ITEMS + ITEMS / BATCH
