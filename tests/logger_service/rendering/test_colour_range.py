import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.rendering.colour_range import (
    ColourRange,
    choose_range,
    format_number,
    format_range,
    format_ticks,
    round_ticks,
)

MINUS = "\N{MINUS SIGN}"
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_a_given_range_is_taken_as_it_is() -> None:
    assert choose_range((-1, 1), (-0.2, 7.0)) == ColourRange(-1.0, 1.0)


@pytest.mark.parametrize(
    ("extent", "expected"),
    [
        (None, ColourRange(-1.0, 1.0)),
        ((0.0, 0.0), ColourRange(-1.0, 1.0)),
        ((-0.3, 0.94), ColourRange(-1.0, 1.0)),
        ((0.02, 0.97), ColourRange(0.0, 1.0)),
        ((5.0, 5.0), ColourRange(2.5, 7.5)),
        ((-5.0, -5.0), ColourRange(-7.5, -2.5)),
    ],
)
def test_limits_are_round(extent: tuple[float, float] | None, expected: ColourRange) -> None:
    chosen = choose_range(None, extent)
    assert (chosen.low, chosen.high) == pytest.approx((expected.low, expected.high))


@given(first=numbers, second=numbers)
def test_chosen_limits_hold_the_values_and_are_symmetric_around_zero(first: float, second: float) -> None:
    low, high = min(first, second), max(first, second)
    chosen = choose_range(None, (low, high))
    slack = 1e-6 * (chosen.high - chosen.low)
    assert chosen.low < chosen.high
    assert chosen.low - slack <= low <= high <= chosen.high + slack
    if low < 0 < high:
        assert chosen.low == pytest.approx(-chosen.high)


def test_limits_stay_while_values_move_a_little() -> None:
    assert choose_range(None, (-0.31, 0.913)) == choose_range(None, (-0.28, 0.958))


@given(low=numbers, width=st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_read_differently(low: float, width: float) -> None:
    assume(abs(low) < 1e3 * width)
    scale = ColourRange(low, low + width)
    ticks = round_ticks(scale, 8)
    assert 1 <= len(ticks) <= 11
    assert all(scale.low - width / 100 <= tick <= scale.high + width / 100 for tick in ticks)
    labels = format_ticks(ticks)
    assert len(set(labels)) == len(labels)


def test_whole_ticks_are_whole() -> None:
    assert round_ticks(ColourRange(0, 3), 10, whole=True) == [0, 1, 2, 3]
    assert round_ticks(ColourRange(0, 1e-3), 10, whole=True) == [0]
    assert all(tick == math.floor(tick) for tick in round_ticks(ColourRange(0, 63), 8, whole=True))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.5, f"{MINUS}0.5"),
        (1234.5, "1230"),
        (1e-7, f"1e{MINUS}7"),
        (-3.4e38, f"{MINUS}3.4e38"),
        (1e-45, f"1e{MINUS}45"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_number(value) == text


def test_an_extent_of_one_value_is_said_once() -> None:
    assert format_range(0.5, 0.5) == "all 0.5"
    assert format_range(-1.0, 0.5) == f"{MINUS}1 … 0.5"


def test_ticks_far_from_zero_keep_the_digits_that_differ() -> None:
    assert format_ticks([1000.0, 1000.5, 1001.0]) == ["1000", "1000.5", "1001"]
    assert format_ticks([-0.1, 1.4e-17, 0.1]) == [f"{MINUS}0.1", "0", "0.1"]
    assert format_ticks([]) == []
