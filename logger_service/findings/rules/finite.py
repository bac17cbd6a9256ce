"""Rules on values that are not finite: NaN and infinity in scalars, weights and gradients."""

from collections.abc import Callable, Iterable
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role, is_metric, role_of_curve
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import NonFinite, Points, Sample

# Tensors that are followed until they are finite again.
_TOGETHER_MAX: Final = 64


def counting(kind: str) -> Callable[[Facts], Measure]:
    """Return what makes a measure of the number of values that are not finite in samples of this kind.

    A tag is shown as :class:`NonFinite` only when it has such values. The first sample of another type tells that there
    were values to check.
    """

    def make(_facts: Facts) -> Measure:
        checked = False

        def measure(sample: Sample) -> Iterable[Measured]:
            nonlocal checked
            if isinstance(sample, NonFinite):
                if kind_of(sample) != kind:
                    return []
                count = float(sample.non_finite)
                return [Measured(sample.tag, sample.step, count, {"not finite": count, "values": float(sample.values)})]
            if checked:
                return []
            checked = True
            return [Measured("", sample.steps[0] if isinstance(sample, Points) else sample.step, 0.0, {})]

        return measure

    return make


def counting_together(kind: str) -> Callable[[Facts], Measure]:
    """Return what makes a measure as :func:`counting`, of all tensors of this kind together.

    A NaN in one layer is in all layers at the next step. The finding has the tag of the first tensor, counts steps, and
    clears when no tensor has such values any more.
    """

    def make(facts: Facts) -> Measure:
        count_alone = counting(kind)(facts)
        bad: dict[str, None] = {}
        first = ""
        counted_step = -1

        def measure(sample: Sample) -> Iterable[Measured]:
            nonlocal first, counted_step
            if not isinstance(sample, NonFinite):
                return count_alone(sample)
            if kind_of(sample) != kind:
                return []
            if sample.non_finite:
                first = first if bad else sample.tag
                if len(bad) < _TOGETHER_MAX:
                    bad[sample.tag] = None
                if sample.step == counted_step:
                    return []
                counted_step = sample.step
            else:
                bad.pop(sample.tag, None)
                if bad:
                    return []
            return [measured._replace(tag=first or sample.tag) for measured in count_alone(sample)]

        return measure

    return make


def kind_of(sample: NonFinite) -> str:
    """Return "scalar", "metric", "weight" or "gradient": a scalar that is a gradient norm counts as a gradient."""
    if sample.kind != "scalar":
        return sample.kind
    if role_of_curve(sample.tag) in (Role.GRADIENT_NORM, Role.CLIPPED_NORM):
        return "gradient"
    return "metric" if is_metric(sample.tag) else "scalar"


SCALAR: Final = Rule(
    name="non-finite-scalar",
    severity="error",
    roles=frozenset({Role.ANY_VALUE}),
    formula="values of a scalar that are NaN or infinite; metrics and gradient norms have rules of their own",
    enter=0.5,
    clear=0.5,
    needs="a scalar",
    advice="Stop: with a loss of NaN every later step is lost. People go back to a checkpoint from before, look at "
    "the batch of this step, and turn on torch.autograd.set_detect_anomaly.",
    source="IEEE 754: no later value of a sum with NaN is a number",
    false_alarms="a number that is undefined by its nature, such as the mean of an empty group, not called a metric",
    warm_up=False,
    measure=counting("scalar"),
)

METRIC: Final = Rule(
    name="non-finite-metric",
    severity="warn",
    roles=frozenset({Role.ANY_VALUE}),
    also=frozenset({Role.QUALITY, Role.RECALL}),
    formula="values of a metric (accuracy, AUROC, perplexity, correlation ...) that are NaN or infinite",
    enter=0.5,
    clear=0.5,
    running=2,
    needs="a metric: accuracy, recall, AUROC, perplexity ...",
    advice="The metric is undefined for these data, for example the AUROC of one class, or it overflows. "
    "People guard its denominator, or compute it over the whole split instead of a batch.",
    source="as non-finite-scalar; twice running, since a single undefined value is common",
    false_alarms="a metric that the first epochs leave undefined",
    warm_up=False,
    measure=counting("metric"),
)

WEIGHT: Final = Rule(
    name="non-finite-weight",
    severity="error",
    roles=frozenset({Role.ANY_VALUE}),
    also=frozenset({Role.WEIGHTS}),
    formula="steps at which values of weights are NaN or infinite (tag: the first tensor)",
    enter=0.5,
    clear=0.5,
    needs="summaries or histograms of weights",
    advice="Stop: the model is lost from this step on. Go back to a checkpoint from before, and clip gradients or "
    "lower the learning rate.",
    source="as non-finite-scalar",
    false_alarms="a mask of -inf that is registered as a parameter",
    warm_up=False,
    measure=counting_together("weight"),
)

GRADIENT: Final = Rule(
    name="non-finite-gradient",
    severity="error",
    roles=frozenset({Role.ANY_VALUE}),
    also=frozenset({Role.GRADIENTS, Role.GRADIENT_NORM}),
    formula="steps at which values of gradients, or a gradient norm, are NaN or infinite (tag: the first)",
    enter=0.5,
    clear=0.5,
    running=3,
    needs="gradient norms, or summaries or histograms of gradients",
    advice="A few steps are normal with fp16, whose scaler skips them; this many are not. "
    "People lower the scale or the learning rate, or train in bf16.",
    source="three running: torch.amp.GradScaler halves its scale at each step that it skips",
    false_alarms="the first steps with fp16 and a very high initial scale",
    warm_up=False,
    measure=counting_together("gradient"),
)

RULES: Final = (SCALAR, METRIC, WEIGHT, GRADIENT)
