"""Rules on the norm of the gradient: whether it spikes, is large, and how often it is clipped."""

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.levels import Level
from tensorboard_sidecar.logger_service.findings.roles import Role, role_of_curve
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule, ratios
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample

_WINDOW: Final = 500
_LEAST: Final = 100
_SPIKES: Final = 3
_CLIPPING_WINDOW: Final = 100
_CLIPPING_LEAST: Final = 50
# Norms of one chunk that wait for the norms after clipping.
_WAITING_MAX: Final = 1_024
# clip_grad_norm_ divides by the norm plus 1e-6: a norm at its limit is not clipped.
_CLIPPED: Final = 0.999
_LIMITS: Final = ("clip_norm", "max_norm", "max_grad_norm", "gradient_clip_val", "grad_clip")


def spikes(_facts: Facts) -> Measure:
    """Measure the third highest, among the last 100 values, of the values over the usual level of 500 before."""
    level = Level(_WINDOW, _LEAST)
    high: deque[tuple[int, float]] = deque(maxlen=_LEAST)
    seen = 0

    def third(number: int) -> float:
        while high and high[0][0] <= number - _LEAST:
            high.popleft()
        return sorted(ratio for _, ratio in high)[-_SPIKES] if len(high) >= _SPIKES else 1.0

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal seen
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        tag, steps, values, _ = sample
        level.take(values)
        found = []
        for begin, end, usual in level.pieces:
            piece = values[begin:end]
            limit = NORM_SPIKE.enter * usual
            if usual > 0 and (highest := max(piece)) > limit:
                for number, (step, value) in enumerate(zip(steps[begin:end], piece, strict=True), seen + begin):
                    if value > limit:
                        high.append((number, value / usual))
                        found.append(Measured(tag, step, third(number), {"value": value, "usual": usual}))
            elif usual > 0:
                evidence = {"value": highest, "usual": usual}
                found.append(Measured(tag, steps[end - 1], third(seen + end - 1), evidence))
        seen += len(values)
        return found

    return measure


def size(facts: Facts) -> Measure:
    """Measure the norm; over the training loss, where that is above 1."""
    loss_tag: str | None = None

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal loss_tag
        assert isinstance(sample, Points)  # noqa: S101 - as above
        loss_tag = loss_tag or next((tag for tag in facts.last if role_of_curve(tag) is Role.LOSS), None)
        loss = facts.last[loss_tag].value if loss_tag else 1.0
        unit = max(1.0, abs(loss))
        return ratios(sample.tag, sample.steps, sample.values, unit, NORM_LARGE.enter, {"loss": loss})

    return measure


def clipping(facts: Facts) -> Measure:
    """Measure the share of clipped updates among the last 100."""
    clipped: deque[bool] = deque(maxlen=_CLIPPING_WINDOW)
    norms: dict[int, float] = {}

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Points)  # noqa: S101 - as above
        limit = facts.number(*_LIMITS)
        if role_of_curve(sample.tag) is Role.CLIPPED_NORM:
            if limit is not None:
                return []
            after = zip(sample.steps, sample.values, strict=True)
            clipped.extend(value < _CLIPPED * norms.pop(step) for step, value in after if step in norms)
        elif limit is not None:
            above = limit / _CLIPPED if limit > 0 else inf
            clipped.extend([value > above for value in sample.values])
        else:
            norms.update(zip(sample.steps, sample.values, strict=True))
            while len(norms) > _WAITING_MAX:
                norms.pop(next(iter(norms)))
            return []
        if len(clipped) < _CLIPPING_LEAST:
            return []
        share = sum(clipped) / len(clipped)
        return [Measured("", sample.steps[-1], share, {"share": share, "updates": float(len(clipped))})]

    return measure


NORM_SPIKE: Final = Rule(
    name="gradient-norm-spike",
    severity="warn",
    roles=frozenset({Role.GRADIENT_NORM}),
    formula="third highest, among the last 100 points, of value / usual level of the 500 points before",
    enter=10.0,
    clear=3.0,
    needs="100 points of a gradient norm",
    advice="Some batches push the weights far: the loss often spikes some steps later. "
    "People clip gradients, lower the learning rate or AdamW's beta2, or look at these batches.",
    source="arXiv:2204.02311, section 5.1, and arXiv:2304.13013 on spikes and beta2; thrice: one bad batch is no trend",
    false_alarms="rare and hard batches of very uneven data",
    measure=spikes,
)

NORM_LARGE: Final = Rule(
    name="gradient-norm-large",
    severity="warn",
    roles=frozenset({Role.GRADIENT_NORM}),
    formula="gradient norm; gradient norm / training loss, where that is above 1",
    enter=100.0,
    clear=50.0,
    running=10,
    needs="a gradient norm",
    advice="Look for exploding layers, a loss that is summed instead of averaged, and inputs that are not normalised. "
    "People clip gradients to a norm of 1.",
    source="threshold by experience; clipping is to 1 nearly everywhere (arXiv:1211.5063, section 3.2, for why)",
    false_alarms="models that are trained well with large gradients, since Adam divides by their size",
    measure=size,
)

CLIPPING: Final = Rule(
    name="clipping",
    severity="info",
    roles=frozenset({Role.GRADIENT_NORM}),
    also=frozenset({Role.CLIPPED_NORM}),
    formula="share of the last 100 updates whose norm is above the limit, or above the norm after clipping",
    enter=0.5,
    clear=0.3,
    needs="50 points of a gradient norm, and clip_norm, max_grad_norm or gradient_clip_val in the settings or a "
    "gradient norm after clipping",
    advice="The limit, not the gradient, sets the size of most updates. "
    "That is how many large models are trained; people raise the limit if the loss falls slowly.",
    source="threshold by experience",
    false_alarms="large models, on purpose: for this reason it is information alone",
    together=True,
    measure=clipping,
)

RULES: Final = (NORM_SPIKE, NORM_LARGE, CLIPPING)
