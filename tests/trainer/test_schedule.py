from itertools import pairwise

import pytest

from tensorboard_sidecar.trainer.schedule import warmup_cosine


def factors(warmup_steps: int, total_steps: int) -> list[float]:
    return [warmup_cosine(step, warmup_steps=warmup_steps, total_steps=total_steps) for step in range(total_steps + 1)]


def test_rises_in_a_line_to_one_and_falls_to_zero() -> None:
    found = factors(4, 20)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert found[12] == pytest.approx(0.5)
    assert found[20] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(found[4:]))


def test_a_short_run_warms_up_for_half_of_it() -> None:
    assert max(factors(1000, 10)) == 1.0


@pytest.mark.parametrize("total_steps", [0, 1, 2])
def test_shortest_runs_have_factors_in_range(total_steps: int) -> None:
    assert all(0 <= factor <= 1 for factor in factors(16, total_steps))


def test_stays_at_zero_beyond_the_end() -> None:
    assert warmup_cosine(99, warmup_steps=2, total_steps=10) == pytest.approx(0.0)
