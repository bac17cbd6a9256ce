"""The tests of each framework run where the framework is installed: ``make test-frameworks``."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from support.running.embedded import workplace

# What each file of tests imports. A file without its framework is not collected.
NEEDS: Final = {
    "test_accelerate.py": "accelerate",
    "test_compare.py": "lightning",
    "test_doctor.py": "lightning",
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


@pytest.fixture(scope="session", autouse=True)
def _one_helper() -> Iterator[None]:
    """Let all trainings share a helper of their own, in a runtime folder of their own."""
    with workplace() as place, pytest.MonkeyPatch.context() as patch:
        for name, value in place.variables.items():
            patch.setenv(name, value)
        yield
