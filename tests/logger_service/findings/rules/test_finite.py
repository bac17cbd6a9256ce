"""The rules on NaN and infinity."""

from math import inf, nan

import pytest
from support.findings import Judge, states, watched

from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules.finite import GRADIENT, METRIC, RULES, SCALAR, WEIGHT
from tensorboard_sidecar.logger_service.findings.samples import Layer, NonFinite


def counts(tag: str, kind: str, *numbers: int) -> list[NonFinite]:
    return [NonFinite(tag, kind, step, 10, number) for step, number in enumerate(numbers, 1)]


@pytest.mark.parametrize(
    ("rule", "tag", "kind", "running"),
    [
        (SCALAR, "train/loss", "scalar", 1),
        (SCALAR, "anything", "scalar", 1),
        (METRIC, "val/auroc", "scalar", 2),
        (WEIGHT, "weights/fc", "weight", 1),
        (GRADIENT, "gradients/fc", "gradient", 3),
        (GRADIENT, "optimization/grad_norm", "scalar", 3),
    ],
)
def test_a_value_that_is_not_finite_opens_one_rule_and_clears_it(rule: Rule, tag: str, kind: str, running: int) -> None:
    judges = [Judge(one) for one in RULES]
    found = [
        (judge.rule, one)
        for sample in counts(tag, kind, *[4] * running, 0)
        for judge in judges
        for one in judge.feed(sample)
    ]
    assert [(one, finding.state) for one, finding in found] == [(rule, "open"), (rule, "cleared")]
    opened = found[0][1]
    assert (opened.first_step, opened.last_step, opened.evidence["not finite"]) == (1, running, 4)


def test_gradients_of_steps_that_a_scaler_skips_are_normal() -> None:
    judge = Judge(GRADIENT)
    assert [one for sample in counts("gradients/fc", "gradient", 1, 1, 0, 1, 1, 0) for one in judge.feed(sample)] == []


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_is_seen_in_a_run(bad: float) -> None:
    _, found = watched({"loss": [1.0] * 30 + [bad] + [1.0] * 30, "lr": [0.1] * 61})
    assert [(one.rule, one.state, one.tag, one.first_step) for one in found] == [
        ("non-finite-scalar", "open", "loss", 31),
        ("non-finite-scalar", "cleared", "loss", 31),
    ]


def test_the_inf_of_a_skipped_step_in_a_gradient_norm_is_no_finding() -> None:
    norms = [inf if number % 50 < 2 else 1.0 for number in range(500)]
    _, found = watched({"loss": [1.0] * 500, "grad_norm": norms})
    assert found == []
    _, found = watched({"loss": [1.0] * 500, "grad_norm": [1.0] * 400 + [inf] * 100})
    assert [(one.rule, one.first_step, one.last_step) for one in found] == [("non-finite-gradient", 401, 403)]
    assert states(found) == ["open"]


def test_finite_values_of_each_kind_were_checked() -> None:
    names = {rule.name for rule in RULES}
    watch, _ = watched({"loss": [1.0]})
    assert names & {one.rule for one in watch.not_checked()} == names - {"non-finite-scalar"}
    watch, _ = watched({"loss": [1.0], "grad_norm": [1.0], "val_acc": [0.5]})
    watch.layer(1, "weights/fc", Layer(10, 0, 1.0, -1.0, 1.0, 0), 0)
    watch.flush()
    assert names & {one.rule for one in watch.not_checked()} == set()


@pytest.mark.parametrize(("rule", "kind"), [(WEIGHT, "weight"), (GRADIENT, "gradient")])
def test_a_nan_that_spreads_over_the_layers_is_one_finding(rule: Rule, kind: str) -> None:
    judge = Judge(rule)
    found = []
    for step, number in enumerate((1, 1, 1, 1, 0), 1):
        for layer in range(100):
            found += judge.feed(NonFinite(f"layer{layer}", kind, step, 10, number))
    assert states(found) == ["open", "cleared"]
    assert {(finding.tag, finding.count) for finding in found[1:]} == {("layer0", 4)}


def test_a_nan_in_many_layers_of_one_step_is_a_single_step_to_a_scaler() -> None:
    judge = Judge(GRADIENT)
    for layer in range(100):
        assert not judge.feed(NonFinite(f"layer{layer}", "gradient", 1, 10, 1))


def test_weights_stay_bad_until_the_last_layer_is_finite() -> None:
    judge = Judge(WEIGHT)
    judge.feed(NonFinite("a", "weight", 1, 10, 1))
    judge.feed(NonFinite("b", "weight", 1, 10, 1))
    assert not judge.feed(NonFinite("a", "weight", 2, 10, 0))
    assert [finding.state for finding in judge.feed(NonFinite("b", "weight", 2, 10, 0))] == ["cleared"]
