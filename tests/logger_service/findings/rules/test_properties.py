"""What holds for all rules on curves, for any numbers."""

from math import inf, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.findings import Judge, falling, noisy, watched

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.ledger import EPISODES_MAX
from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules import (
    curves,
    finite,
    gradients,
    overfitting,
    pace,
    schedule,
    telemetry,
)
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.watch import TAGS_PER_ROLE_MAX, Watch

OWN = [rule for family in (curves, finite, gradients, overfitting, pace, schedule, telemetry) for rule in family.RULES]
# A curve of each rule that opens a finding; these rules are about ratios alone, so that the unit does not matter.
SICK = {
    "loss-spike": ("loss", falling(600) + [9.0] * 30 + [0.2] * 100),
    "diverging": ("loss", falling(600) + [2.0 * factor for factor in noisy(400)]),
    "nothing-learnt": ("loss", [2.0 * factor for factor in noisy(1_000, spread=0.05)]),
    "gradient-norm-spike": ("grad_norm", [(90.0 if n in (400, 420, 440) else 1.0) for n in range(700)]),
    "lr-zero": ("lr", [1.0] * 300 + [0.0] * 100),
    "slower-steps": ("", [1.0] * 300 + [2.0] * 300),
    "temperature-range": ("temperature", [0.07] * 300 + [0.01] * 100),
    "gradient-norm-large": ("grad_norm", [1.0] * 300 + [200.0] * 100),
    "telemetry-lag": ("telemetry/lag_seconds", [1.0] * 30 + [100.0] * 10),
}
SCALE_FREE = ("loss-spike", "diverging", "nothing-learnt", "gradient-norm-spike", "lr-zero")
BY_NAME = {rule.name: rule for rule in RULES}
any_number = st.floats(allow_nan=False, allow_infinity=False)


def outcome(rule: Rule, tag: str, values: list[float], *, chunk: int = 16) -> list[tuple[str, int, int]]:
    found = Judge(rule, Facts({"total_steps": 1_000})).curve(values, tag=tag, chunk=chunk)
    return [(finding.state, finding.first_step, finding.last_step) for finding in found]


@pytest.mark.parametrize("name", SICK)
def test_the_size_of_the_chunks_does_not_change_what_is_found(name: str) -> None:
    """The steps at which a finding opens and clears differ by a chunk at most."""
    one = outcome(BY_NAME[name], *SICK[name], chunk=1)
    assert one[0][0] == "open"
    for chunk in (16, 100):
        other = outcome(BY_NAME[name], *SICK[name], chunk=chunk)
        assert [state for state, _, _ in other] == [state for state, _, _ in one]
        assert all(abs(a[1] - b[1]) <= chunk for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", SCALE_FREE)
@given(st.integers(-60, 60))
@settings(max_examples=10)
def test_the_unit_of_a_curve_does_not_matter(name: str, exponent: int) -> None:
    tag, values = SICK[name]
    assert outcome(BY_NAME[name], tag, [value * 2.0**exponent for value in values]) == outcome(
        BY_NAME[name], tag, values
    )


@given(st.integers(-40, 40))
@settings(max_examples=10)
def test_the_unit_of_the_losses_does_not_matter_to_overfitting(exponent: int) -> None:
    """Ratios alone: the training loss is compared with itself."""
    unit = 2.0**exponent
    losses = [unit * (2.0 - 0.15 * number) for number in range(10)]
    validation = [unit * (1.0 + abs(number - 4) / 5) for number in range(10)]
    _, found = watched({"train_loss": losses, "val_loss": validation})
    assert [(one.rule, one.first_step) for one in found] == [("overfitting", 6)]


@given(st.floats(0, 0.9), st.integers(0, 400))
@settings(max_examples=20, deadline=None)
def test_a_constant_or_empty_run_has_no_finding(value: float, count: int) -> None:
    """The learning rate is above 0, or else its rule is right."""
    names = ("train_loss", "val_loss", "grad_norm", "temperature", "epoch", "val_acc", "other")
    _, found = watched({**dict.fromkeys(names, [value] * count), "lr": [0.1] * count})
    assert found == [] or (value < 0.0101 and {one.rule for one in found} == {"temperature-range"})


@given(st.lists(st.one_of(any_number, st.sampled_from([nan, inf, -inf])), max_size=300), st.integers(0, 2**62))
@settings(max_examples=40, deadline=None)
def test_no_number_makes_a_rule_fail(values: list[float], first: int) -> None:
    tags = ("train_loss", "val_loss", "grad_norm", "grad_norm_clipped", "lr", "temperature", "epoch", "val_acc")
    shuffled = {tag: Random(tag).sample(values, len(values)) for tag in tags}
    settings_of_a_run = {"num_classes": 10, "epochs": 3, "clip_norm": -1.0, "batch_size": 2**60}
    watch, _ = watched({**shuffled, "telemetry/lag_seconds": values}, settings=settings_of_a_run, first=first)
    assert [one for one in watch.not_checked() if "failed" in one.reason] == []


def test_the_state_is_bounded_whatever_a_program_logs() -> None:
    watch = Watch(RULES)
    for number in range(10_000):
        watch.scalars(number, number, {f"loss/{number}": nan, f"grad_norm/{number}": 1.0, f"lr/{number}": 0.0})
        watch.missing(number, 1, f"reason {number}")
    assert len(watch.ledger._episodes) <= EPISODES_MAX
    assert len(watch._measures) <= len(RULES) * (TAGS_PER_ROLE_MAX + 1)
    assert len(watch.ledger.findings) <= 256


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("every", [1, 10])
def test_a_healthy_run_has_no_finding(seed: int, every: int) -> None:
    """A noisy training with a schedule, evaluations and gradient norms, as the reference trainer logs it."""
    count = 2_000
    chance = Random(seed)
    steps = {
        **{f"loss/train/{name}": falling(count, seed=seed, spread=0.4, first=3.5) for name in ("text_image", "other")},
        "optimization/lr": [1e-3 * min(1.0, (n + 1) / 50) * (1 - n / count) for n in range(count)],
        "optimization/grad_norm": noisy(count, seed=seed, spread=0.6),
        "optimization/temperature": [0.07 - 0.04 * n / count for n in range(count)],
    }
    evaluations = {
        "loss/val/text_image": [3.5 * 0.9**n + 0.5 + chance.gauss(0, 0.05) for n in range(20)],
        "retrieval/text_to_image/recall_at_1": [n / 20 for n in range(20)],
        "progress/epoch": [float(n) for n in range(1, 21)],
        "telemetry/lag_seconds": [chance.random() for _ in range(20)],
    }
    for name in ("text_image", "other"):
        steps[f"loss/train/{name}"][0] = 3.5  # of an untrained model, every batch has nearly the same loss
    watch, found = Watch(RULES), []
    found += watch.start(0, {"batch_size": 32, "epochs": 20, "clip_norm": 10.0})
    for step in range(1, count + 1):
        now_ns = step * every * 50_000_000
        found += watch.scalars(step * every, now_ns, {tag: values[step - 1] for tag, values in steps.items()})
        if step % 100 == 0:
            row = {tag: values[step // 100 - 1] for tag, values in evaluations.items()}
            found += watch.scalars(step * every, now_ns, row)
    found += watch.end(count * every)
    assert found == []
    assert {rule.name for rule in OWN} & {one.rule for one in watch.not_checked()} == {"non-finite-weight"}
