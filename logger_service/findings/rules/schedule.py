"""Rules on what a schedule or a clamp steers: the learning rate, and the temperature of a contrastive loss."""

from collections.abc import Iterable
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample

_LOWEST: Final = 0.01
_HIGHEST: Final = 1.0
# The end of a run, where a schedule may have come to zero.
_END_SHARE: Final = 0.98


def rate(facts: Facts) -> Measure:
    """Measure the learning rate over its highest value so far; 0.0 while it was never above zero."""
    highest = 0.0

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal highest
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        lowest, top, step = min(sample.values), max(sample.values), sample.steps[-1]
        highest = max(highest, top)
        if highest > 0 and lowest > LR_ZERO.clear * highest:
            return [Measured(sample.tag, step, lowest / highest, {})]
        total = facts.total_steps
        if total is not None and step >= facts.first_step + _END_SHARE * (total - facts.first_step):
            return []
        if (facts.learning_rate or 0.0) > LR_ZERO.clear * highest:
            return []  # another group of parameters learns: this one is frozen on purpose
        return [
            Measured(sample.tag, step, value / highest if highest > 0 else 0.0, {"lr": value, "highest": highest})
            for step, value in zip(sample.steps, sample.values, strict=True)
        ]

    return measure


def temperature(_facts: Facts) -> Measure:
    """Measure how near the temperature is to a bound of its range: 1.0 at a bound, more beyond."""
    begins_inside: bool | None = None

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal begins_inside
        assert isinstance(sample, Points)  # noqa: S101 - as above
        if begins_inside is None:
            begins_inside = 0 < sample.values[0] < TEMPERATURE.enter * _HIGHEST
        if not begins_inside:
            return []  # fixed at 1, or of another kind: of a GPU, of sampling
        tag, steps, values, _ = sample
        if TEMPERATURE.enter * min(values) > _LOWEST and max(values) < TEMPERATURE.enter * _HIGHEST:
            return [Measured(tag, steps[-1], _nearness(values[-1]), {})]  # nearly always: it is that on all
        return [
            Measured(tag, step, _nearness(value), {"temperature": value})
            for step, value in zip(steps, values, strict=True)
        ]

    return measure


def _nearness(value: float) -> float:
    return max(_LOWEST / value, value / _HIGHEST) if value > 0 else 2.0


LR_ZERO: Final = Rule(
    name="lr-zero",
    severity="warn",
    roles=frozenset({Role.LEARNING_RATE}),
    formula="learning rate / its highest value so far, before the last 2 % of the run, when every group's is as low",
    enter=1e-6,
    clear=1e-5,
    running=5,
    needs="a learning rate",
    advice="No weight changes any more: the rest of the run is for nothing. People compare the scheduler's number of "
    "steps with the run's, and look whether the scheduler is stepped too often.",
    source="float32 has 24 bits: an update a millionth of the usual one is rounded away",
    false_alarms="a pause of the training that is logged on purpose",
    measure=rate,
)

TEMPERATURE: Final = Rule(
    name="temperature-range",
    severity="warn",
    roles=frozenset({Role.TEMPERATURE}),
    formula="max(0.01 / temperature, temperature / 1.0), for a temperature that begins below 1",
    enter=0.999,
    clear=0.9,
    running=10,
    needs="the temperature of a contrastive loss that begins between 0 and 1",
    advice="The temperature lies at a bound or beyond: it says nothing about the data any more. At 0.01 people look "
    "for duplicates and leaks among the pairs; near 1 the embeddings do not separate: the learning rate is too high.",
    source="CLIP clips the scale of the logits at 100, a temperature of 0.01 (arXiv:2103.00020, section 2.5); "
    "above 1 cosine similarities are too near to each other to tell N pairs apart",
    false_alarms="long trainings with large batches, as CLIP's own, end at 0.01",
    measure=temperature,
)

RULES: Final = (LR_ZERO, TEMPERATURE)
