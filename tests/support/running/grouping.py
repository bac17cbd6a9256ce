"""How the tests are shared by several processes: one test at a time, but for files that share costly fixtures."""

from typing import Final

from xdist.scheduler import LoadScopeScheduling

# The shared fixtures of these files train a model, build wheels, or start TensorBoard or many programs with torch: one
# process runs each group.
GROUPS: Final = {
    "tests/system/test_browser.py": "main_job",
    "tests/system/test_main_job.py": "main_job",
    "tests/system/test_installed.py": "installed",
    "tests/system/test_projection_tensorboard.py": "projection",
    "tests/network/test_fuzz.py": "fuzz",
    "tests/network/test_two_boxes.py": "two_boxes",
    "tests/telemetry/test_telemetry_end.py": "endings",
    "tests/trainer/test_two_processes.py": "two_processes",
}


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] - pytest-xdist has no types
    """Sends each group of files to one process, and every other test to the next free process."""

    def _split_scope(self, nodeid: str) -> str:
        return GROUPS.get(nodeid.partition("::")[0], nodeid)
