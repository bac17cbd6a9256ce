"""A few short trainings, each found sick or healthy; ``make sick`` makes all of them, longer, with five seeds."""

from pathlib import Path

import pytest
from findings.confusion import BEGIN, END, Job, found_at, jobs, table, write
from findings.judging import Opened, Verdict, judge
from findings.sicknesses import SICKNESSES
from findings.training import data_set, train_once

from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k

pytestmark = pytest.mark.xdist_group("short trainings")

# Enough for the sicknesses below. A healthy run needs all its ten epochs: at first, nothing is aligned.
SHORT = {"epochs": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Flickr8k:
    """Return the data set of 640 scenes that ``make sick`` trains on."""
    return data_set(tmp_path_factory.mktemp("scenes"))


def test_a_healthy_training_has_neither_warning_nor_error(data: Flickr8k, tmp_path: Path) -> None:
    train_once("batches-of-16", 0, data, tmp_path / "healthy")
    verdict = judge(tmp_path / "healthy")
    assert [str(one.finding) for one in verdict.opened if one.finding.severity != "info"] == []
    assert {"nothing-learnt", "diverging", "no-diagonal"} <= verdict.nearest.keys()


@pytest.mark.parametrize("name", ["zero-learning-rate", "constant-encoder", "temperature-pinned"])
def test_a_sick_training_has_the_finding_that_its_sickness_promises(name: str, data: Flickr8k, tmp_path: Path) -> None:
    train_once(name, 0, data, tmp_path / name, **SHORT)
    verdict = judge(tmp_path / name)
    [sickness] = [one for one in SICKNESSES if one.name == name]
    assert found_at(sickness, verdict) is not None, sorted(verdict.by_rule())


def test_each_sickness_is_found_by_rules_that_there_are() -> None:
    """Sicknesses that no rule finds say so with an empty tuple."""
    names = {rule.name for rule in RULES}
    assert [(one.name, rule) for one in SICKNESSES for rule in one.finds if rule not in names] == []


def test_twenty_healthy_runs_and_five_seeds_of_each_sickness_are_made() -> None:
    sick = {one.name for one in SICKNESSES}
    made = jobs(5)
    assert len(made) == len(set(made))
    assert sum(job.name in sick for job in made) == 5 * len(SICKNESSES) == 55
    assert sum(job.name not in sick for job in made) == 20


def test_the_table_counts_a_finding_before_the_sickness_begins_as_no_finding() -> None:
    [sickness] = [one for one in SICKNESSES if one.name == "nan-in-a-batch"]
    finding = Finding("non-finite-scalar", "error", "loss", "open", 1, 1, 1, 1.0, {}, "Stop.")
    early = Verdict([Opened(sickness.begins - 1, finding)], {}, {})
    in_time = Verdict([Opened(sickness.by, finding)], {}, {})
    assert found_at(sickness, early) is None
    text = table({Job(sickness.name, 0): early, Job(sickness.name, 1): in_time})
    assert f"| `non-finite-scalar` | 1 of 2 | {sickness.by} to {sickness.by} |" in text


def test_only_what_is_between_the_markers_of_the_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="has no lines"):
        write(page, "new")
