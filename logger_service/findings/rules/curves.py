"""Rules on the curve of the training loss: where it begins, whether it spikes, diverges, or learns nothing."""

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample

_WINDOW: Final = 100


def spike(_facts: Facts) -> Measure:
    """Measure each value over the median of the 100 values before its chunk."""
    window: deque[float] = deque(maxlen=_WINDOW)

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        found = []
        if len(window) >= _WINDOW:
            usual = median(window)
            if usual > 0:
                numbers = list(zip(sample.steps, sample.values, strict=True))
                if max(sample.values) <= LOSS_SPIKE.clear * usual:  # nine chunks in ten: one verdict is enough
                    numbers = [(sample.steps[-1], max(sample.values))]
                found = [
                    Measured(sample.tag, step, value / usual, {"value": value, "median": usual})
                    for step, value in numbers
                ]
        window.extend(sample.values)
        return found

    return measure


LOSS_SPIKE: Final = Rule(
    name="loss-spike",
    severity="warn",
    roles=frozenset({Role.LOSS}),
    formula="value / median of the 100 points before",
    enter=2.0,
    clear=1.2,
    running=5,
    needs="100 points of a training loss",
    advice="Look at the batches and the gradient norm of these steps. "
    "People lower the learning rate, clip gradients, or skip the batch.",
    source="to be written",
    measure=spike,
)

RULES: Final = (LOSS_SPIKE,)
