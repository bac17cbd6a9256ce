"""The rules on retrieval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules.retrieval import NO_DIAGONAL, ONE_WAY_RETRIEVAL, reverse_of
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.finding import Finding

TO, BACK = "retrieval/text_to_image/recall_at_1", "retrieval/image_to_text/recall_at_1"


def run(rule: Rule) -> Watch:
    """Return a watch of a run of 100 steps."""
    watch = Watch([rule])
    watch.start(0, {"total_steps": 100})
    return watch


def evaluations(watch: Watch, there: list[float], back: list[float]) -> list[Finding]:
    found = []
    for step, (a, b) in enumerate(zip(there, back, strict=True), 20):
        found += watch.scalars(step, step * 60 * 10**9, {TO: a, BACK: b})
    return found + watch.flush()


def test_a_matrix_without_diagonal_is_told_at_the_third_evaluation() -> None:
    watch, chance = run(NO_DIAGONAL), np.random.default_rng(0)
    matrices = [chance.uniform(-0.2, 0.2, (64, 64)) for _ in range(4)]
    (found,) = [one for step, m in enumerate(matrices, 20) for one in watch.matrix(step, "similarity/a_vs_b", m)]
    assert (found.rule, found.first_step, found.last_step) == ("no-diagonal", 20, 22)
    (cleared,) = watch.matrix(30, "similarity/a_vs_b", matrices[0] + 0.1 * np.eye(64))
    assert cleared.state == "cleared"


def test_a_constant_encoder_has_no_diagonal() -> None:
    watch = run(NO_DIAGONAL)
    found = [one for step in range(20, 25) for one in watch.matrix(step, "similarity/a_vs_b", np.full((64, 64), 0.5))]
    assert [one.rule for one in found] == ["no-diagonal"]


def test_a_weak_diagonal_a_matrix_of_itself_and_small_matrices_are_no_finding() -> None:
    watch, chance = run(NO_DIAGONAL), np.random.default_rng(0)
    for step in range(20, 30):
        noise = chance.uniform(-0.2, 0.2, (64, 64))
        assert watch.matrix(step, "similarity/a_vs_b", noise + 0.1 * np.eye(64)) == []
        assert watch.matrix(step, "similarity/a_vs_a", noise @ noise.T) == []
        assert watch.matrix(step, "similarity/classes", noise[:31, :31]) == []
        assert watch.matrix(step, "confusion", noise) == []


def test_a_direction_far_behind_its_reverse_is_told_and_cleared() -> None:
    found = evaluations(run(ONE_WAY_RETRIEVAL), [0.5] * 5 + [0.5], [0.05] * 5 + [0.4])
    assert [(one.rule, one.tag, one.state) for one in found] == [
        ("one-way-retrieval", BACK, "open"),
        ("one-way-retrieval", BACK, "cleared"),
    ]
    assert (found[0].first_step, found[0].evidence) == (20, {"recall": 0.05, "reverse": 0.5})


def test_either_direction_may_be_the_worse_one() -> None:
    found = evaluations(run(ONE_WAY_RETRIEVAL), [0.0] * 5, [0.5] * 5)
    assert [(one.tag, one.state) for one in found] == [(TO, "open")]


def test_both_directions_at_chance_are_not_judged() -> None:
    watch = run(ONE_WAY_RETRIEVAL)
    assert evaluations(watch, [0.0, 0.02, 0.0, 0.01, 0.0] * 4, [0.1] * 20) == []
    assert [one.rule for one in watch.not_checked()] == ["one-way-retrieval"]


def test_recalls_of_different_steps_are_not_compared() -> None:
    watch = run(ONE_WAY_RETRIEVAL)
    for step in range(20, 60, 2):
        assert watch.scalars(step, step * 10**9, {TO: 0.9}) == []
        assert watch.scalars(step + 1, step * 10**9, {BACK: 0.01}) == []
    assert watch.flush() == []


@pytest.mark.parametrize("seconds", [0.1, 60])
def test_one_record_a_tag_is_judged_as_one_record_for_all(seconds: float) -> None:
    watch, found = run(ONE_WAY_RETRIEVAL), list[Finding]()
    for step in range(20, 30):
        found += watch.scalars(step, int(step * seconds * 1e9), {TO: 0.9})
        found += watch.scalars(step, int(step * seconds * 1e9), {BACK: 0.01})
    found += watch.flush()
    assert [(one.tag, one.first_step) for one in found] == [(BACK, 20)]


def test_names_without_a_direction_have_no_reverse() -> None:
    assert reverse_of("val/recall_at_1") is None
    assert reverse_of("val/text_to_text/recall") is None
    assert reverse_of("val_image_to_text_recall_at_1") == "val_text_to_image_recall_at_1"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_equal_recalls_are_no_finding(values: list[float]) -> None:
    assert evaluations(run(ONE_WAY_RETRIEVAL), values, values) == []
