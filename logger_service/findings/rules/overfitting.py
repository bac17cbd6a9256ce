"""The rule on overfitting: the validation loss rises, the training loss falls, and no score makes up for it."""

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts, Past
from tensorboard_sidecar.logger_service.findings.roles import Role, role_of_curve
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample

_EVALUATIONS_MIN: Final = 4
_RUNNING: Final = 3
# The best validation loss counts as this part of the first at least: near zero there are no ratios.
_FLOOR: Final = 0.05
# A curve that changes by less neither falls nor rises.
_CHANGE: Final = 0.01


def overfitting(facts: Facts) -> Measure:
    """Measure the validation loss over its minimum; 1.0 while the training loss does not fall or scores rise."""
    evaluations = 0
    first = 0.0
    best = inf
    before = best_step = best_before = -1
    recent: deque[int] = deque(maxlen=_RUNNING)

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal evaluations, first, best, before, best_step, best_before
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        found: list[Measured] = []
        if role_of_curve(sample.tag) is Role.LOSS:
            return found  # the facts keep the training loss
        past = facts.training_loss(sample.tag)
        for step, value in zip(sample.steps, sample.values, strict=True):
            evaluations += 1
            first = first if evaluations > 1 else value
            if value < best:
                best, best_step, best_before = value, step, before
            lowest = max(best, _FLOOR * first)
            if past is not None and best >= 0 < lowest and evaluations >= _EVALUATIONS_MIN:
                then, now = past.mean(best_before, best_step), past.mean(before, step)
                if then is not None and now is not None:
                    rise = _rise(facts.scores(), max(best_step, recent[0]), before, step)
                    falls = now < then * (1 - _CHANGE) and not rise
                    numbers = {"value": value, "lowest": lowest, "training": now, "training then": then}
                    found.append(Measured(sample.tag, step, value / lowest if falls else 1.0, numbers))
            before = step
            recent.append(step)
        return found

    return measure


def _rise(scores: Iterable[Past], then: int, before: int, now: int) -> bool:
    """Tell whether most scores are higher than they were at the step ``then``."""
    pairs = [(past.mean(then - 1, then), past.mean(before, now)) for past in scores]
    known = [(old, new) for old, new in pairs if old is not None and new is not None]
    return 2 * sum(new > old + _CHANGE * abs(old) for old, new in known) > len(known)


OVERFITTING: Final = Rule(
    name="overfitting",
    severity="warn",
    roles=frozenset({Role.VALIDATION_LOSS, Role.LOSS}),
    formula="validation loss / its minimum, while the training loss is below its value at that minimum, and not more "
    "than half of the scores (accuracy, recall ...) have risen since, or within three evaluations",
    enter=1.1,
    clear=1.05,
    running=_RUNNING,
    clear_running=_RUNNING,
    needs="4 evaluations of a validation loss above 0, and a training loss",
    advice="The model memorises its training data: the checkpoint at the minimum is the one to keep. "
    "People stop here, or add data, augmentation, weight decay or dropout.",
    source="L. Prechelt, Early Stopping - But When? (1998): a generalization loss of 5 to 10 %, in "
    "several evaluations running",
    false_alarms="a confident classifier whose loss rises and whose accuracy stays, when that is accepted",
    warm_up=False,
    measure=overfitting,
)

RULES: Final = (OVERFITTING,)
