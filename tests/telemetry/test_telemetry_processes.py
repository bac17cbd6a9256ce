"""Threads that log concurrently, and forked children that log to the parent's telemetry."""

import os
import threading
from collections import defaultdict
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Final

import pytest
import torch
from support.logger.fake_logger import FakeLogger
from support.machine.children import fork, start, wait_for
from support.running.ranks import log_as_a_rank
from support.running.spoken import read_said
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader, Dataset

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Message, RunEnd, RunStart, Scalars, TensorSummaries
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes

RECORDS: Final = 2000


def test_threads_that_log_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    """And each thread's records keep their order."""
    barrier = threading.Barrier(4)

    def log(thread: int) -> None:
        barrier.wait()
        for step in range(RECORDS):
            telemetry.scalars(step, {f"thread/{thread}": torch.tensor(float(step))})

    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    by_tag: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for step, message in read_said(tmp_path):
        if isinstance(message, Scalars):
            [(tag, value)] = message.values.items()
            by_tag[tag].append((step, value))
    assert by_tag == {f"thread/{n}": [(step, float(step)) for step in range(RECORDS)] for n in range(4)}


def test_a_forked_child_that_logs_is_told_once_and_harms_nobody(tmp_path: Path) -> None:
    with FakeLogger() as logger:
        telemetry = Telemetry("run", endpoint=logger.endpoint, record=tmp_path)
        tensors = {f"weights/{n}": torch.ones(1000) for n in range(8)}
        telemetry.summaries(1, tensors)  # on threads that the child will not have

        def child() -> None:
            for step in range(100):
                telemetry.scalars(step, {"child": 1.0})
                telemetry.summaries(step, {"child": torch.ones(3, device="meta")})
                telemetry.summaries(step, tensors)
            assert telemetry.faults.total == 300
            telemetry.health()
            repr(telemetry)
            telemetry.close()
            telemetry.close(5.0)

        assert fork(child) == 0
        telemetry.scalars(2, {"a": 2.0})
        assert telemetry.faults.total == 0
        telemetry.close()
        [records] = logger.records.values()
        assert len(records) == 4
    assert [said.message for said in read_said(tmp_path)][2:] == [Scalars({"a": 2.0}), RunEnd("completed")]


def test_a_strict_child_is_told_what_to_do(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:

        def child() -> None:
            with pytest.raises(RuntimeError, match="make a new Telemetry in the child process"):
                telemetry.scalars(1, {"a": 1.0})

        assert fork(child) == 0


def test_a_child_can_have_a_telemetry_of_its_own(tmp_path: Path) -> None:
    with Telemetry("parent", endpoint=None, record=tmp_path / "parent", strict=True) as telemetry:

        def child() -> None:
            with Telemetry("child", endpoint=None, record=tmp_path / "child", strict=True) as own:
                own.scalars(5, {"b": 1.0})

        assert fork(child) == 0
        telemetry.scalars(6, {"a": 1.0})
    for name, step in (("child", 5), ("parent", 6)):
        assert [said.step for said in read_said(tmp_path / name)] == [0, step, step]


def test_a_child_forked_in_the_middle_of_a_call_does_not_hang(tmp_path: Path) -> None:
    """A lock that another thread holds at the fork stays locked in the child forever."""
    stop = threading.Event()

    def child() -> None:
        telemetry.scalars(0, {"child": 1.0})
        telemetry.close()

    def log() -> None:
        step = 0
        while not stop.is_set():
            telemetry.scalars(step := step + 1, {"a": 1.0})

    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        thread = threading.Thread(target=log)
        thread.start()
        for _ in range(20):
            assert fork(child) == 0
        stop.set()
        thread.join()
    assert telemetry.faults.total == 0


def test_an_orphan_is_adopted_while_a_child_of_its_trainer_lives(outboxes: Path) -> None:
    """A worker that outlives a killed trainer holds none of its locks."""
    parked, leave, trainer_leaves = os.pipe(), os.pipe(), os.pipe()

    def trainer() -> None:
        telemetry = Telemetry("run", endpoint="tcp://127.0.0.1:1", strict=True)
        telemetry.scalars(1, {"a": 1.0})
        start(lambda: (os.write(parked[1], b"w"), os.read(leave[0], 1)))
        os.read(trainer_leaves[0], 1)

    process = start(trainer)
    os.read(parked[0], 1)
    [outbox] = find_outboxes(outboxes)
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(outbox)
    os.write(trainer_leaves[1], b"t")
    assert wait_for(process) == 0
    OrphanedOutbox(outbox).close(keep=False)
    os.write(leave[1], b"w")
    for descriptor in (*parked, *leave, *trainer_leaves):
        os.close(descriptor)


class LoggingDataset(Dataset[int]):
    """Logs in the worker that loads an item; returns how many faults that process has seen."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        self.telemetry.scalars(index, {"worker": 1.0})
        self.telemetry.summaries(index, {"worker": torch.ones(100)})
        return self.telemetry.faults.total


def test_workers_that_log_are_told_and_load_on(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.summaries(0, {"weights": torch.ones(100)})
        loader = DataLoader(LoggingDataset(telemetry), batch_size=4, num_workers=2, multiprocessing_context="fork")
        faults = torch.cat(list(loader))
        telemetry.scalars(1, {"a": 1.0})
    assert faults.tolist() != [0] * 40
    assert (faults > 0).all()
    assert telemetry.faults.total == 0
    assert [said.message for said in read_said(tmp_path)][2:] == [Scalars({"a": 1.0}), RunEnd("completed")]


def test_a_telemetry_does_not_travel_to_spawned_processes(tmp_path: Path) -> None:
    with (
        Telemetry("run", endpoint=None, record=tmp_path) as telemetry,
        pytest.raises(TypeError, match="make a new Telemetry there"),
    ):
        ForkingPickler.dumps(telemetry)


@pytest.mark.system
def test_spawned_processes_have_a_telemetry_each(tmp_path: Path, memory: Path) -> None:
    """As torch.multiprocessing starts the ranks of a job, here from a process that already logs."""
    with Telemetry("run", endpoint=None, record=tmp_path, outbox_dir=memory, rank=2, strict=True) as telemetry:
        telemetry.scalars(0, {"loss": 2.0})
        spawn(log_as_a_rank, (tmp_path, memory), nprocs=2)  # type: ignore[no-untyped-call]
        telemetry.scalars(1, {"loss": 2.0})
    said: dict[str, list[Message]] = {}
    for folder in sorted((tmp_path / "run").iterdir()):
        said[folder.name.split("-")[2]] = [one.message for one in read_said(folder)]
    assert list(said) == ["0000", "0001", "0002"]
    for rank in range(2):
        start, *scalars, summaries, end = said[f"000{rank}"]
        assert scalars == [Scalars({"loss": float(rank)})] * 100
        assert (start, type(summaries), end) == (RunStart(0, {}), TensorSummaries, RunEnd("completed"))
    assert said["0002"][1:-1] == [Scalars({"loss": 2.0})] * 2
    assert find_outboxes(memory) == []
