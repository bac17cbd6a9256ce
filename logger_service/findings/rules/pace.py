"""The rule on the time of a training step: whether steps become slower."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample

_WINDOW: Final = 50
_EVERY: Final = 25
# Steps that are faster depend on the machine's other work alone.
_SECONDS_MIN: Final = 0.005


def slowness(facts: Facts) -> Measure:
    """Measure, every 25 points, the median of the last 50 step times over that of the first 50 after the warm-up."""
    first: list[float] = []
    recent: deque[float] = deque(maxlen=_WINDOW)
    left = _WINDOW
    usual = 0.0

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal left, usual
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        tag, steps, values, _ = sample
        begin, count, found = 0, len(values), list[Measured]()
        if len(first) < _WINDOW:
            begin = bisect_left(steps, facts.warm_up_end)
            missing = _WINDOW - len(first)
            first.extend(values[begin : begin + missing])
            begin += missing
            usual = median(first) if len(first) == _WINDOW else 0.0
        while begin < count:
            end = min(begin + left, count)
            recent.extend(values[begin:end])
            left -= end - begin
            if left == 0:
                left, now = _EVERY, sorted(recent)[len(recent) // 2]
                slower = now / usual if min(now, usual) > 0 and now >= _SECONDS_MIN else 1.0
                found.append(Measured(tag, steps[end - 1], slower, {"seconds": now, "usual": usual}))
            begin = end
        return found

    return measure


SLOWER: Final = Rule(
    name="slower-steps",
    severity="warn",
    roles=frozenset({Role.PACE}),
    formula="median of the last 50 times of a step / median of the first 50 after the warm-up, every 25 points",
    enter=1.5,
    clear=1.2,
    running=2,
    needs="100 logged steps after the warm-up",
    advice="Look at the loader's workers, the disk, memory that grows, and the clock and temperature of the device. "
    "A slow rank slows all of them.",
    source="threshold by experience; the median leaves out the steps that evaluate or save",
    false_alarms="a machine that others use too; sequences or pictures that become longer on purpose",
    measure=slowness,
)

RULES: Final = (SLOWER,)
