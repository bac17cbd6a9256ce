"""What a run's records say about its length, its warm-up, and the past of its curves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.findings.facts import (
    PARTS_MAX,
    PASTS_MAX,
    SETTINGS_MAX,
    WARM_UP_STEPS_MAX,
    Facts,
    Past,
)
from tensorboard_sidecar.logger_service.findings.roles import Role

EPOCHS = {"epochs": 10}


def after_epochs(points: list[tuple[int, float]], *, first_step: int = 0) -> Facts:
    facts = Facts(dict(EPOCHS), first_step=first_step)
    for step, epoch in points:
        facts.note("epoch", step, epoch)
    return facts


@pytest.mark.parametrize(
    "name", ["total_steps", "max_steps", "trainer/max_steps", "cfg.max_iters", "max_train_steps", "total_timesteps"]
)
def test_a_setting_says_the_length_of_the_run(name: str) -> None:
    assert Facts({name: 5_000}).total_steps == 5_000


def test_settings_that_say_nothing_of_the_length() -> None:
    """Transformers: max_steps is -1 when the epochs count. The steps of a diffusion are no steps of a training."""
    settings = {"max_steps": -1, "num_train_epochs": 3.0, "num_steps": 1_000, "steps": 50, "epochs": True}
    assert Facts(settings).total_steps is None
    assert Facts({"total_steps": float("nan"), "max_steps": float("inf")}).total_steps is None
    assert Facts({"total_steps": 10**400}).total_steps is None


def test_the_reference_trainer_logs_the_epoch_at_its_end_from_1_on() -> None:
    assert after_epochs([(200, 1.0)]).total_steps is None  # a single point: it may as well be one of each step
    assert after_epochs([(200, 1.0), (400, 2.0), (600, 3.0)]).total_steps == 2_000


def test_lightning_logs_the_epoch_at_each_point_from_0_on() -> None:
    points = [(step, float(step // 200)) for step in range(49, 1_000, 50)]
    facts = after_epochs([point for point in points if point[0] < 300])
    assert facts.total_steps == pytest.approx(2_000, rel=0.26)  # between two logged points
    assert after_epochs(points).total_steps == pytest.approx(2_000, rel=0.07)


def test_transformers_logs_a_fraction() -> None:
    assert after_epochs([(10, 0.05), (20, 0.1)]).total_steps == 2_000


def test_accelerate_logs_the_epoch_as_the_step() -> None:
    assert after_epochs([(0, 0.0), (1, 1.0), (2, 2.0)]).total_steps == 10


def test_an_epoch_at_each_point_from_1_on() -> None:
    points = [(step, float(1 + step // 200)) for step in range(0, 1_000, 10)]
    assert after_epochs(points).total_steps == 2_000


def test_a_resumed_run_has_the_length_of_its_epochs_too() -> None:
    points = [(step, float(step // 200)) for step in range(1_110, 1_900, 10)]
    assert after_epochs(points, first_step=1_100).total_steps == 2_000


def test_the_first_curve_of_the_epoch_counts() -> None:
    facts = Facts(dict(EPOCHS))
    for number in range(1, 4):
        facts.note("epoch", 200 * number, number)
        facts.note("eval/epoch", 200 * number, 7.0 * number)
    assert facts.total_steps == 2_000


@given(
    st.lists(st.tuples(st.integers(0, 2**62), st.floats(allow_nan=False, allow_infinity=False)), max_size=30),
    st.integers(0, 2**62),
)
def test_no_curve_of_an_epoch_is_too_strange(points: list[tuple[int, float]], first_step: int) -> None:
    facts = after_epochs(points, first_step=first_step)
    assert facts.total_steps is None or facts.total_steps >= 1


def test_the_warm_up_is_a_part_of_the_run_or_a_hundred_steps() -> None:
    assert Facts().warm_up_end == 100
    assert Facts(first_step=1_000).warm_up_end == 1_100
    assert Facts({"total_steps": 400}).warm_up_end == 20
    assert Facts({"total_steps": 10**9}).warm_up_end == WARM_UP_STEPS_MAX


def test_settings_are_bounded_and_later_ones_count() -> None:
    facts = Facts({"batch_size": 32})
    facts.learn_settings({"data/batch_size": 64})
    facts.learn_settings({f"setting {number}": number for number in range(2 * SETTINGS_MAX)})
    assert facts.number("batch_size") == 64
    assert len(facts.settings) == SETTINGS_MAX


def test_the_learning_rate_is_that_of_the_group_that_learns_most() -> None:
    facts = Facts()
    assert facts.learning_rate is None
    facts.note("lr-SGD/pg1", 1, 0.0)
    facts.note("lr-SGD/pg2", 1, 0.1)
    assert facts.learning_rate == 0.1


def test_a_past_has_the_mean_between_two_steps() -> None:
    past = Past()
    past.add(range(1, 11), [float(number) for number in range(1, 11)])
    assert past.mean(5, 8) == 7
    assert past.mean(20, 30) == 10, "no point: the one before"
    assert past.mean(-5, 0) is None


def test_a_past_of_any_length_is_bounded_and_keeps_its_means() -> None:
    past = Past()
    past.add(range(100_000), [float(number) for number in range(100_000)])
    assert len(past._steps) < PARTS_MAX
    assert past.mean(40_000, 60_000) == pytest.approx(50_000, rel=0.02)


def test_the_training_loss_of_a_validation_loss_has_the_same_subject() -> None:
    facts = Facts()
    facts.note("loss/train/total", 1, 4.0)
    facts.note("loss/train/text_image", 1, 1.0)
    of_pair, of_other = facts.training_loss("loss/val/text_image"), facts.training_loss("val/loss")
    assert of_pair is not None
    assert of_pair.mean(0, 1) == 1.0
    assert of_other is not None
    assert of_other.mean(0, 1) == 4.0
    assert Facts().training_loss("val/loss") is None


def test_a_program_that_makes_up_tags_fills_no_memory() -> None:
    facts = Facts()
    for number in range(10_000):
        facts.note(f"loss/{number}", number, 1.0)
        facts.note(f"lr/{number}", number, 1.0)
    assert len(facts.last) == 1_024
    assert len(facts._pasts[Role.LOSS]) == len(facts._rates) == PASTS_MAX
