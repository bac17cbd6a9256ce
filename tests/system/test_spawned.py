"""A program with a Telemetry at module level, whose spawned children import that module again."""

from pathlib import Path

import pytest
from support.running.main_programs import run_main
from support.running.spoken import read_said

from tensorboard_sidecar.protocol.messages import RunEnd, RunStart, Scalars

pytestmark = pytest.mark.system

CHILDREN = 2
PROGRAM = '''
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset

from tensorboard_sidecar import Telemetry

RECORD, WAY, METHOD = Path(sys.argv[1]), *sys.argv[2:]
telemetry = Telemetry("run", endpoint=None, record=RECORD, config={"lr": 0.1})


def work(index):
    """Log to the telemetry of the module, which is silent, and to one of this function, which is not."""
    telemetry.scalars(index, {"lost": 1.0})
    assert telemetry.faults.total > 0
    with Telemetry(f"child-{index}", endpoint=None, record=RECORD) as own:
        own.writer.add_scalar("kept", 1.0, index)
    return index


class Items(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return work(index)


def run_children():
    if WAY == "DataLoader":
        assert sorted(map(int, DataLoader(Items(), num_workers=2, multiprocessing_context=METHOD))) == [0, 1]
    elif WAY == "ProcessPoolExecutor":
        with ProcessPoolExecutor(2, multiprocessing.get_context(METHOD)) as pool:
            assert list(pool.map(work, range(2))) == [0, 1]
    elif WAY == "Process":
        children = [multiprocessing.get_context(METHOD).Process(target=work, args=(index,)) for index in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0]
    else:
        torch.multiprocessing.spawn(work, nprocs=2)


if __name__ == "__main__":
    telemetry.scalars(1, {"loss": 1.0})
    run_children()
    telemetry.scalars(2, {"loss": 0.5})
    assert telemetry.faults.total == 0
    telemetry.close()
'''


@pytest.mark.parametrize(
    ("way", "method"),
    [
        ("DataLoader", "spawn"),
        ("DataLoader", "forkserver"),
        ("Process", "spawn"),
        ("Process", "forkserver"),
        ("ProcessPoolExecutor", "spawn"),
        ("torch.multiprocessing.spawn", "spawn"),
    ],
)
def test_children_leave_the_run_of_their_parent_alone(tmp_path: Path, way: str, method: str) -> None:
    """And each child says once, per process that imports the module, what to do."""
    program, record = tmp_path / "program.py", tmp_path / "recordings"
    program.write_text(PROGRAM)
    ended = run_main(tmp_path / "said", program, record, way, method, seconds=240)
    assert ended.returncode == 0, ended.stderr
    assert len(list((record / "run").iterdir())) == 1
    assert [said.message for said in read_said(record / "run")] == [
        RunStart(0, {"lr": 0.1}),
        Scalars({"loss": 1.0}),
        Scalars({"loss": 0.5}),
        RunEnd("completed"),
    ]
    for index in range(CHILDREN):
        assert read_said(record / f"child-{index}")[1].message == Scalars({"kept": 1.0})
    warnings = ended.stderr.count("run run: a Telemetry that is made while a spawned process imports the main module")
    assert 1 <= warnings <= CHILDREN + 1
