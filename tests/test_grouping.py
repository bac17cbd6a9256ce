from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.running.grouping import GROUPS, GroupScheduling
from support.source import ROOT


def scope(nodeid: str) -> str:
    return GroupScheduling._split_scope(object.__new__(GroupScheduling), nodeid)


def test_files_that_share_a_trained_run_go_to_one_process() -> None:
    """Otherwise each process would train the run once more."""
    browser = scope("tests/system/test_browser.py::test_tab_shows_the_run[scalars]")
    assert browser == scope("tests/system/test_main_job.py::test_every_tag[fast]") == "main_job"


def test_every_other_test_is_a_group_of_its_own() -> None:
    first, second = "tests/protocol/test_wire.py::test_a[1]", "tests/protocol/test_wire.py::test_a[2]"
    assert (scope(first), scope(second)) == (first, second)


def test_the_files_of_groups_exist() -> None:
    assert [name for name in GROUPS if not Path(ROOT, name).is_file()] == []


@pytest.mark.parametrize(("dist", "ours"), [("loadgroup", True), ("worksteal", False), ("load", False)])
def test_only_loadgroup_is_shared_in_groups(
    dist: str, ours: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.running.grouping.GroupScheduling.__init__", lambda *_: None)
    config: Any = SimpleNamespace(getvalue=lambda _name: dist)
    results = request.config.hook.pytest_xdist_make_scheduler(config=config, log=None)
    assert isinstance(results, GroupScheduling) == ours
