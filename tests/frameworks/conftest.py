"""The tests of each framework run where the framework is installed: ``make test-frameworks``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tensorboard_sidecar import SummaryWriter

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
def whole_writer() -> None:
    """Expect a failure while the methods of ``SummaryWriter`` are not those of torch's writer."""
    if not hasattr(SummaryWriter, "_get_file_writer"):
        pytest.xfail("SummaryWriter keeps no finished summaries")
