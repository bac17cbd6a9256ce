import math
from typing import Any

import pytest

from tensorboard_sidecar.trainer.settings.setting import ConfigError, Setting


@pytest.mark.parametrize("value", [0, 11, math.nan, math.inf])
def test_numbers_outside_their_bounds_are_refused_with_both_bounds(value: float) -> None:
    with pytest.raises(ConfigError, match=r"epochs is .*; expected 1 to 10"):
        Setting("training", "", 1, 10).check("epochs", value)


def test_an_open_bound_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match="steps is -1; expected 0 or more"):
        Setting("training", "", 0).check("steps", -1)


@pytest.mark.parametrize("digits", [19, 400, 5000])
@pytest.mark.parametrize("maximum", [10, math.inf])
def test_an_int_that_no_float_could_hold_is_one_clear_error(digits: int, maximum: float) -> None:
    """One is too long even to be written out."""
    for value in (10**digits, -(10**digits)):
        with pytest.raises(ConfigError, match=r"steps is of more than 64 bits; expected 0 (to 10|or more)"):
            Setting("training", "", 0, maximum).check("steps", value)


@pytest.mark.parametrize("value", [1, 10, 5.5, True, "text", None])
def test_allowed_values_pass(value: Any) -> None:
    Setting("training", "", 1, 10).check("x", value)


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="precision is 'fp8'; expected one of fp32, bf16"):
        Setting("training", "", choices=("fp32", "bf16")).check("precision", "fp8")
