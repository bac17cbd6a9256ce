"""The tests of each framework run where the framework is installed: ``make test-frameworks``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tensorboard_sidecar import SummaryWriter
from tensorboard_sidecar.protocol.names import RECORDING_NAME

# What each file of tests imports. A file without its framework is not collected.
NEEDS: Final = {
    "test_accelerate.py": "accelerate",
    "test_ignite.py": "ignite",
    "test_lightning.py": "lightning",
    "test_programs.py": "stable_baselines3",
    "test_transformers.py": "transformers",
}

collect_ignore = [name for name, framework in NEEDS.items() if find_spec(framework) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder. Frameworks warn of their own use of torch: a warning is no error here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("frameworks")
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture
def whole_writer(tmp_path_factory: pytest.TempPathFactory, outboxes: Path) -> None:  # noqa: ARG001 - the outbox lies there
    """Expect a failure while ``SummaryWriter`` keeps no finished summaries or does not open again after ``close``."""
    folder = tmp_path_factory.mktemp("writer")
    writer = SummaryWriter(log_dir=folder)
    writer.close()
    before = _recorded_bytes(folder)
    writer.add_scalar("again", 1.0, 0)
    writer.close()
    if _recorded_bytes(folder) == before:
        pytest.xfail("SummaryWriter does not open again after close")
    if not hasattr(writer, "_get_file_writer"):
        pytest.xfail("SummaryWriter has no _get_file_writer")


def _recorded_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / RECORDING_NAME).rglob("*.segment"))
