"""Real processes to break: a logger on its own port and folders, trainers with memory of their own, a printed seed."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.harness.effort import SOAK_TIMEOUT_SECONDS, SOAKING, new_seed
from faults.harness.oracle import Verdict, check
from faults.harness.trainers import Trainers
from support.running.programs import LoggerProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test in here the time that its full numbers take; the longest of a soak comes first."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
            if SOAKING:
                item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT_SECONDS))
    if SOAKING:
        items.sort(key=lambda item: "random_mix" not in item.path.name)


@pytest.fixture
def trainers(memory: Path, tmp_path: Path) -> Iterator[Trainers]:
    """Return where trainers are started; what still runs at the end is killed."""
    trainers = Trainers(memory, tmp_path / "diaries")
    yield trainers
    trainers.close()


@pytest.fixture
def judge(logger: LoggerProcess, trainers: Trainers) -> Callable[..., Verdict]:
    """Return what calls the oracle on all that was promised and kept, and prints what it says; options are check's."""

    def judge(**options: Any) -> Verdict:
        verdict = check(trainers.returned, logger.recordings, logger.logdir, **options)
        print(verdict)
        return verdict

    return judge


@pytest.fixture(autouse=True)
def _seed_or_none(request: pytest.FixtureRequest) -> None:
    """Say it where nothing is left to chance but what the machine does by itself."""
    if "chance" not in request.fixturenames:
        print("no seed: nothing is chosen at random")


@pytest.fixture
def chance() -> random.Random:
    """Return random numbers; the seed is printed, and shown when the test fails. FAULTS_SEED repeats one."""
    seed = new_seed()
    print(f"seed {seed}")
    return random.Random(seed)
