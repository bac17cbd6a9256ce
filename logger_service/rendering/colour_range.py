"""The value range of colours, round ticks, and number formatting."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from matplotlib.ticker import MaxNLocator

_STEPS: Final = (1, 2, 2.5, 5, 10)
_STEPS_MAX: Final = 10
_SAME: Final = 1e-6  # relative difference below which two values count as equal


@dataclass(frozen=True, slots=True)
class ColourRange:
    """The range from ``low`` to ``high``, with ``low < high``."""

    low: float
    high: float


def choose_range(given: tuple[float, float] | None, extent: tuple[float, float] | None) -> ColourRange:
    """Return the given range; without one, round limits around ``extent``, symmetric if zero lies inside.

    Round limits do not change while values change little: colours keep their meaning from step to step, and the cached
    background stays valid. ``extent`` is the smallest and largest finite value; None without finite values.
    """
    if given is not None:
        return ColourRange(float(given[0]), float(given[1]))
    if extent is None:
        return ColourRange(-1.0, 1.0)
    low, high = extent
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    elif high - low <= _SAME * max(abs(low), abs(high)):
        reach = abs(high) / 2 or 1.0
        low, high = low - reach, high + reach
    ticks = MaxNLocator(_STEPS_MAX, steps=_STEPS).tick_values(low, high)
    return ColourRange(float(ticks[0]), float(ticks[-1]))


def round_ticks(scale: ColourRange, ticks_max: int, *, whole: bool = False) -> list[float]:
    """Return round numbers inside the range, at most about ``ticks_max``; integers if ``whole``."""
    locator = MaxNLocator(max(1, ticks_max), steps=(1, 2, 5, 10), integer=whole, min_n_ticks=1)
    slack = (scale.high - scale.low) * _SAME
    ticks = (float(tick) for tick in locator.tick_values(scale.low, scale.high))
    return [tick for tick in ticks if scale.low - slack <= tick <= scale.high + slack]


def format_ticks(ticks: Sequence[float]) -> list[str]:
    """Return the ticks as texts, with enough digits to distinguish neighbours."""
    largest = max(map(abs, ticks), default=0.0)
    step = min((b - a for a, b in pairwise(ticks)), default=largest)
    digits = 4 if not step or not largest else min(max(math.ceil(math.log10(largest / step)) + 2, 4), 8)
    # A locator may return zero as 1e-17.
    return [format_number(tick if abs(tick) > step * _SAME else 0.0, digits) for tick in ticks]


def format_number(value: float, digits: int = 3) -> str:
    """Return the value with ``digits`` significant digits, a Unicode minus sign and, if needed, a short exponent."""
    rounded = float(f"{value:.{digits}g}")
    if not rounded or 1e-4 <= abs(rounded) < 1e6:
        number = f"{rounded:.12g}"
    else:
        significand, _, exponent = f"{rounded:e}".partition("e")
        number = f"{float(significand):.12g}e{int(exponent)}"
    return number.replace("-", "\N{MINUS SIGN}")


def format_range(low: float, high: float) -> str:
    """Return ``low … high``, or ``all low`` for equal ends."""
    if low == high:
        return f"all {format_number(low)}"
    return f"{format_number(low)} \N{HORIZONTAL ELLIPSIS} {format_number(high)}"
