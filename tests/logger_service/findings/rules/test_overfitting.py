"""The rule on overfitting, with the training loss and the scores beside it."""

import pytest
from support.findings import Judge, watched

from tensorboard_sidecar.logger_service.findings.rules.overfitting import OVERFITTING

FALLING = [2.0, 1.6, 1.3, 1.1, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1]
RISING = [2.0, 1.7, 1.5, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0]


def trained(
    training: list[float], validation: list[float], scores: list[float] | None = None, *, tag: str = "val_loss"
) -> list[tuple[str, int]]:
    """Return what opens and clears in a run with ten steps and then an evaluation an epoch."""
    judge = Judge(OVERFITTING)
    found = []
    for epoch, (loss, value) in enumerate(zip(training, validation, strict=True)):
        judge.curve([loss] * 10, tag="train_loss", first=10 * epoch + 1)
        for score in scores[epoch : epoch + 1] if scores else []:
            judge.facts.note("val_acc", 10 * epoch + 10, score)
        found += judge.curve([value], tag=tag, first=10 * epoch + 10)
    return [(finding.state, finding.first_step) for finding in found]


def test_a_validation_loss_that_rises_while_the_training_loss_falls_is_overfitting() -> None:
    assert trained(FALLING, RISING) == [("open", 60)]


def test_a_validation_loss_that_falls_again_clears() -> None:
    assert trained([*FALLING, 0.09, 0.08, 0.07], [*RISING, 1.3, 1.2, 1.1]) == [("open", 60), ("cleared", 60)]


def test_a_validation_loss_whose_best_value_is_the_first_is_judged_when_the_past_has_become_coarse() -> None:
    judge = Judge(OVERFITTING)
    falling = [3.0 * 0.995**step for step in range(600)]  # more points than a past keeps
    judge.curve(falling, tag="train_loss", first=0)
    found = []
    for step in range(0, 600, 50):
        found += judge.curve([1.0 + step / 600], tag="val_loss", first=step)
    assert [(finding.state, finding.first_step) for finding in found] == [("open", 150)]


def test_a_score_that_rises_makes_up_for_it_and_one_that_stays_does_not() -> None:
    assert trained(FALLING, RISING, [0.1 * number for number in range(10)]) == []
    assert trained(FALLING, RISING, [0.5] * 10) == [("open", 60)]


def test_a_score_that_has_come_to_rest_makes_up_for_nothing_though_it_was_lower_at_the_minimum() -> None:
    """The minimum of a tiny training set comes before anything is learnt: its recall is that of chance."""
    assert trained(FALLING, RISING, [0.0, 0.0, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]) == [("open", 80)]


def test_a_training_loss_that_rises_too_is_no_overfitting() -> None:
    assert trained(RISING, RISING) == []
    assert trained([1.0] * 10, RISING) == []


@pytest.mark.parametrize("validation", [[1.0] * 10, FALLING, [*FALLING[:6], 0.74, 0.75, 0.74, 0.75], [0.0] * 10])
def test_a_validation_loss_that_does_not_rise_is_no_overfitting(validation: list[float]) -> None:
    assert trained(FALLING, validation) == []


def test_a_validation_loss_below_or_near_zero_is_not_judged() -> None:
    assert trained(FALLING, [value - 1.45 for value in RISING]) == []
    assert trained(FALLING, [2.0, 0.1, 0.001, 0.0001, *[0.01] * 6]) == []


def test_a_validation_loss_without_a_training_loss_is_not_judged() -> None:
    watch, found = watched({"val_loss": RISING})
    assert found == []
    assert ("overfitting", "no training loss") in watch.not_checked()


def test_the_reference_trainers_losses_are_compared_name_by_name() -> None:
    """The loss of one pair overfits; the training loss of the other pair rises."""
    judge = Judge(OVERFITTING)
    found = []
    for epoch, (falls, rises) in enumerate(zip(FALLING, RISING, strict=True)):
        step = 10 * (epoch + 1)
        judge.curve([rises], tag="loss/train/text_image", first=step)
        judge.curve([falls], tag="loss/train/text_audio", first=step)
        found += judge.curve([rises], tag="loss/val/text_image", first=step)
        found += judge.curve([rises], tag="loss/val/text_audio", first=step)
    assert [(one.tag, one.state) for one in found] == [("loss/val/text_audio", "open")]
