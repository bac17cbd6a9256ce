"""The rules on the learning rate and the temperature."""

from math import cos, pi

import pytest
from support.findings import Judge, states

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.rules.schedule import LR_ZERO, TEMPERATURE

COSINE = [0.5e-3 * (1 + cos(pi * number / 999)) for number in range(1_000)]


def test_a_learning_rate_that_is_zero_before_the_end_opens_and_clears() -> None:
    judge = Judge(LR_ZERO, Facts({"total_steps": 2_000}))
    (opened,) = judge.curve(COSINE[:-1] + [0.0] * 100, tag="lr")
    assert (opened.first_step, opened.last_step) == (1_000, 1_004)
    assert states(judge.curve([1e-3], tag="lr", first=1_100)) == ["cleared"]


def test_a_learning_rate_that_was_never_above_zero_opens() -> None:
    assert states(Judge(LR_ZERO).curve([0.0] * 300, tag="lr")) == ["open"]


@pytest.mark.parametrize("curve", [COSINE, [0.0] * 20 + COSINE, [number / 200 for number in range(200)]])
def test_a_schedule_from_zero_or_to_zero_is_no_finding(curve: list[float]) -> None:
    assert Judge(LR_ZERO).curve(curve, tag="lr") == []


def test_a_learning_rate_of_zero_at_the_end_of_the_run_is_no_finding() -> None:
    assert Judge(LR_ZERO, Facts({"total_steps": 1_015})).curve([*COSINE, *[0.0] * 15], tag="lr") == []


def test_a_group_that_is_frozen_beside_one_that_learns_is_no_finding() -> None:
    judge = Judge(LR_ZERO)
    judge.facts.note("lr-SGD/pg2", 1, 0.1)
    assert judge.curve([0.0] * 300, tag="lr-SGD/pg1") == []
    judge.facts.note("lr-SGD/pg2", 301, 0.0)
    assert states(judge.curve([0.0] * 300, tag="lr-SGD/pg1", first=301)) == ["open"]


@pytest.mark.parametrize("end", [0.01, 0.0099999998, 0.001, 0.0, -1.0, 1.0, 5.0])
def test_a_temperature_that_comes_to_a_bound_opens_and_clears(end: float) -> None:
    found = Judge(TEMPERATURE).curve([0.07] * 200 + [end] * 50 + [0.05] * 5, tag="temperature")
    assert states(found) == ["open", "cleared"]
    assert found[0].first_step == 201


def test_a_temperature_that_is_fixed_at_its_lower_bound_opens() -> None:
    assert states(Judge(TEMPERATURE).curve([0.01] * 200, tag="temperature")) == ["open"]


@pytest.mark.parametrize("curve", [[0.07] * 300, [1.0] * 300, [65.0, 70.0] * 150, [5.0 - n / 60 for n in range(300)]])
def test_a_temperature_inside_or_of_another_kind_is_no_finding(curve: list[float]) -> None:
    assert Judge(TEMPERATURE).curve(curve, tag="temperature") == []
