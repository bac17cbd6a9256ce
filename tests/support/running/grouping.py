"""How the tests are shared by several processes: one test at a time, but for files that share costly fixtures."""

from typing import Final

from xdist.scheduler import LoadScopeScheduling

# The session fixtures of these files train a model, or build wheels: each group is run by one process.
GROUPS: Final = {
    "tests/system/test_browser.py": "main_job",
    "tests/system/test_main_job.py": "main_job",
    "tests/system/test_installed.py": "installed",
}


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] - pytest-xdist has no types
    """Sends each group of files to one process, and every other test to the next free process."""

    def _split_scope(self, nodeid: str) -> str:
        return GROUPS.get(nodeid.partition("::")[0], nodeid)
