"""The rules on the curve of the training loss."""

from math import log

import pytest
from support.findings import Judge, falling, noisy, states

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules.curves import (
    DIVERGING,
    LOSS_INITIAL,
    LOSS_SPIKE,
    NOTHING_LEARNT,
)

GUESS = log(10)
CLASSES = {"model/num_classes": 10}


def test_a_first_loss_far_above_a_guess_opens_and_clears_below_the_guess() -> None:
    judge = Judge(LOSS_INITIAL, Facts(CLASSES))
    (opened,) = judge.curve([5.0, 3.5, 3.0])
    assert (opened.first_step, opened.evidence) == (1, {"value": 5.0, "guess": 2.303})
    assert states(judge.curve([2.5, 2.2, 2.0], first=4)) == ["cleared"]
    assert judge.curve([40.0] * 20, first=7) == [], "a later loss is not the first"


@pytest.mark.parametrize("first", [2.3, 3.4, 0.5])
def test_a_first_loss_near_a_guess_or_below_is_no_finding(first: float) -> None:
    """A pretrained model begins below."""
    assert Judge(LOSS_INITIAL, Facts(CLASSES)).curve([first, 40.0]) == []


def test_the_reference_trainers_losses_guess_among_the_pairs_of_a_batch() -> None:
    facts = Facts({"batch_size": 32})
    guess = log(32)
    for tag, terms in (("loss/train/text_image", 1), ("loss/train/total", 4)):
        assert states(Judge(LOSS_INITIAL, facts).curve([2.1 * terms * guess], tag=tag)) == ["open"]
        assert Judge(LOSS_INITIAL, facts).curve([1.9 * terms * guess], tag=tag) == []


@pytest.mark.parametrize(
    ("facts", "tag"),
    [
        (Facts(), "loss"),  # the number of classes is not known
        (Facts({"batch_size": 32}), "loss"),
        (Facts(CLASSES, first_step=100), "loss"),  # resumed
        (Facts(CLASSES, continues=True), "loss"),
        (Facts(CLASSES), "loss/boxes"),  # no cross-entropy by its name
        (Facts({"num_classes": 2}), "loss"),
        (Facts({"num_classes": -5}), "loss"),
    ],
)
def test_a_first_loss_without_a_known_guess_is_not_judged(facts: Facts, tag: str) -> None:
    judge = Judge(LOSS_INITIAL, facts)
    assert judge.curve([50.0, 0.1], tag=tag) == []
    assert judge.episodes == {}


def test_a_spike_of_five_points_opens_and_clears() -> None:
    curve = falling(1_000)
    curve[600:610] = [3 * value for value in curve[600:610]]
    opened, cleared = Judge(LOSS_SPIKE).curve(curve)
    assert 600 <= opened.first_step <= 606
    assert (opened.tag, opened.severity, cleared.state) == ("loss", "warn", "cleared")
    assert cleared.peak > 2.0


def test_four_high_points_are_no_spike() -> None:
    curve = falling(1_000, spread=0.1)
    for begin in range(300, 1_000, 50):
        curve[begin : begin + 4] = [9.0] * 4
    assert Judge(LOSS_SPIKE).curve(curve) == []


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rule", [LOSS_SPIKE, DIVERGING], ids=lambda rule: rule.name)
def test_the_noise_of_small_batches_is_no_finding(rule: Rule, spread: float) -> None:
    for seed in range(5):
        assert Judge(rule).curve(falling(4_000, seed=seed, spread=spread), every=10) == []


@pytest.mark.parametrize("rule", [LOSS_SPIKE, DIVERGING], ids=lambda rule: rule.name)
def test_a_loss_near_zero_has_no_ratios(rule: Rule) -> None:
    """A model that has learnt all but for rare hard batches: each is a hundred times the median."""
    curve = [value if number % 7 else 100 * value for number, value in enumerate(falling(2_000, last=1e-5))]
    assert Judge(rule).curve(curve) == []
    flat = falling(1_000, last=1e-4) + [3e-3 * factor for factor in noisy(1_000)]
    assert Judge(rule).curve(flat) == []


@pytest.mark.parametrize("rule", [LOSS_SPIKE, DIVERGING, NOTHING_LEARNT], ids=lambda rule: rule.name)
def test_a_loss_that_changes_its_sign_is_not_judged(rule: Rule) -> None:
    """Log-likelihoods of densities, and variational bounds."""
    judge = Judge(rule, Facts({"total_steps": 2_000}))
    below = [3 - 0.01 * number + 0.2 * factor for number, factor in enumerate(noisy(1_000))]
    assert judge.curve(below + [20.0] * 1_000) == []
    assert Judge(rule, Facts({"total_steps": 2_000})).curve([-5.0 + 0.01 * number for number in range(1_000)]) == []


def test_a_spike_is_cleared_when_the_loss_changes_its_sign() -> None:
    judge = Judge(LOSS_SPIKE)
    judge.curve([1.0] * 400 + [5.0] * 8)
    assert states(judge.curve([0.9, 0.5, -0.1], first=409)) == ["cleared"]


def test_a_loss_that_rises_and_stays_diverges() -> None:
    curve = falling(1_000) + [0.2 * (1 + number / 100) * factor for number, factor in enumerate(noisy(1_000, seed=1))]
    (opened,) = Judge(DIVERGING).curve(curve)
    assert 1_040 < opened.first_step < 1_300
    assert 200 <= opened.last_step - opened.first_step <= 300
    assert opened.severity == "error"


def test_a_divergence_of_less_than_200_steps_is_no_finding_and_one_that_ends_is_cleared() -> None:
    assert Judge(DIVERGING).curve([1.0] * 500 + [3.0] * 180 + [1.0] * 500) == []
    assert states(Judge(DIVERGING).curve([1.0] * 500 + [3.0] * 300 + [1.0] * 500)) == ["open", "cleared"]


def test_a_loss_that_does_not_fall_in_a_fifth_of_the_run_learns_nothing() -> None:
    judge = Judge(NOTHING_LEARNT, Facts({"max_steps": 1_000}))
    assert judge.curve([2.3 * factor for factor in noisy(190, spread=0.02)]) == []
    (opened,) = judge.curve([2.3] * 30, first=191)
    assert (opened.first_step, opened.evidence["now"]) == (206, 2.3)
    assert states(judge.curve(falling(100), first=221)) == ["cleared"]


def test_a_short_run_is_judged_at_half_of_its_steps() -> None:
    """The reference trainer, 192 steps: of a fifth of them the loss had fallen by 3 %, at the end by 80 %."""
    slow = [2.85 - 0.002 * number for number in range(40)] + falling(152, first=2.8, spread=0.1)
    assert Judge(NOTHING_LEARNT, Facts({"total_steps": 192})).curve(slow) == []
    (opened,) = Judge(NOTHING_LEARNT, Facts({"total_steps": 192})).curve([2.85] * 192, chunk=1)
    assert opened.first_step == 96


def test_a_loss_that_falls_has_learnt_and_is_not_judged_again() -> None:
    judge = Judge(NOTHING_LEARNT, Facts({"max_steps": 1_000}))
    assert judge.curve(falling(1_000) + [9.0] * 100) == []


@pytest.mark.parametrize(
    ("facts", "every"),
    [
        (Facts(), 1),  # the length is not known
        (Facts({"max_steps": 1_000}, first_step=500), 1),  # resumed
        (Facts({"max_steps": 1_000}), 50),  # the first points are late
    ],
)
def test_a_run_whose_beginning_or_length_is_not_known_is_not_judged(facts: Facts, every: int) -> None:
    assert Judge(NOTHING_LEARNT, facts).curve([2.3] * 400, first=facts.first_step + 1, every=every) == []


@pytest.mark.parametrize("rule", [LOSS_SPIKE, DIVERGING, NOTHING_LEARNT], ids=lambda rule: rule.name)
def test_the_losses_of_reinforcement_learning_are_not_judged(rule: Rule) -> None:
    """Stable-Baselines3 logs train/loss too: it rises with the rewards."""
    judge = Judge(rule, Facts({"total_timesteps": 1_000}))
    judge.facts.note("train/value_loss", 1, 100.0)
    assert judge.curve([1.0 + number for number in range(1_000)], tag="train/loss") == []
    assert judge.episodes == {}
