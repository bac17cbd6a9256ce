import pytest

from tensorboard_sidecar.telemetry.step_cost import StepCost


def test_calls_of_a_step_are_summed_and_the_running_step_is_not_counted() -> None:
    cost = StepCost()
    assert (cost.step, cost.percentile_us(50)) == (-1, 0.0)
    cost.add(0, 1_000)
    cost.add(0, 2_000)
    assert cost.percentile_us(50) == 0.0
    cost.add(1, 9_000)
    assert cost.percentile_us(50) == cost.percentile_us(99) == 3.0
    assert cost.step == 1


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 51.0), (99, 100.0), (100, 100.0)])
def test_percentiles_are_nearest_ranks(percent: float, expected: float) -> None:
    cost = StepCost()
    for step in range(101):
        cost.add(step, (step + 1) * 1_000)
    assert cost.percentile_us(percent) == expected


def test_only_the_last_steps_count() -> None:
    cost = StepCost()
    for step in range(3000):
        cost.add(step, 1_000_000 if step < 1500 else 1_000)
    assert cost.percentile_us(100) == 1.0


def test_the_highest_step_is_remembered() -> None:
    cost = StepCost()
    assert cost.highest_step == -1
    for step in (3, 7, 7, 0, 5):
        cost.add(step, 1_000)
    assert (cost.step, cost.highest_step) == (5, 7)
