"""The usual level of a curve: what it is, and that the arrival of its points does not matter."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.findings import noisy

from tensorboard_sidecar.logger_service.findings.levels import Level


def after(values: list[float], *, chunk: int = 16, size: int = 100, least: int = 20) -> tuple[Level, list[float]]:
    """Return the level, and for each value the usual level before it."""
    level, before = Level(size, least), list[float]()
    for at in range(0, len(values), chunk):
        level.take(values[at : at + chunk])
        for begin, end, usual in level.pieces:
            before += [usual] * (end - begin)
    return level, before


def test_the_level_of_a_quiet_curve_is_its_median() -> None:
    values = noisy(400, spread=0.1)
    level, _ = after(values)
    assert level.usual == pytest.approx(median(values[300:]), rel=0.02)


def test_the_level_of_a_noisy_curve_lies_above_its_median() -> None:
    """At 2/3 of the level that one value in ten exceeds."""
    level, _ = after(noisy(400, spread=1.0))
    assert 1.5 < level.usual < 4.0


def test_a_curve_that_has_come_to_nearly_zero_keeps_a_level() -> None:
    level, _ = after([2.0] * 200 + [1e-6] * 400)
    assert level.usual == pytest.approx(0.1)


def test_there_is_no_level_before_enough_values_and_of_zeros() -> None:
    _, before = after([1.0] * 60)
    assert before == [0.0] * 20 + [1.0] * 40
    assert set(after([0.0] * 200)[1]) == {0.0}


def test_a_negative_value_ends_the_level_for_good() -> None:
    level, _ = after([1.0] * 100)
    level.take([1.0, -1.0])
    assert (level.turned, level.signed, level.pieces) == (True, True, [])
    level.take([1.0] * 50)
    assert (level.turned, level.signed, level.pieces) == (False, True, [])


@given(st.integers(1, 200), st.integers(0, 5))
def test_the_size_of_the_chunks_does_not_matter(chunk: int, seed: int) -> None:
    values = noisy(700, seed=seed, spread=0.5)
    assert after(values, chunk=chunk)[1] == after(values, chunk=1)[1]
