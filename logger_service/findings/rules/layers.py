"""Rules on the tensors of a model: gradients that vanish, explode or are zero, and parameters that do not change.

Biases and small tensors are not judged. The gradient of a bias before a normalisation, or of the keys of an attention,
is zero by construction; a bias at the output sums over all positions.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from math import inf
from statistics import median
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role, role_of_summary
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Layer, Layers, Sample

VALUES_MIN: Final = 64
# A median of fewer layers is no measure of the others.
LAYERS_MIN: Final = 4
# Blocks of neighbouring tensors that are described, each as one finding.
BLOCKS_MAX: Final = 8
_WORD: Final = re.compile(r"[A-Za-z]+|\d+")
_KIND_WORDS: Final = frozenset({"grad", "grads", "gradient", "gradients", "weights", "param", "params", "parameters"})


@lru_cache(maxsize=8192)
def parameter_of(tag: str) -> str:
    """Return the name of the parameter that a summary's tag is about, the same for its values and its gradient.

    >>> parameter_of("weights/encoder/0/weight"), parameter_of("encoder.0.weight.grad")
    ('encoder.0.weight', 'encoder.0.weight')
    """
    return ".".join(word for word in _WORD.findall(tag.lower()) if word not in _KIND_WORDS)


def judged(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers without biases and small tensors."""
    return {tag: one for tag, one in layers.items() if one.values >= VALUES_MIN and not _is_bias(tag)}


@lru_cache(maxsize=8192)
def _is_bias(tag: str) -> bool:
    return any(word.startswith("bias") for word in _WORD.findall(tag.lower()))


def relative_size(_facts: Facts) -> Measure:
    """Measure the RMS of the gradient of each layer, without its zeros, over that of the median layer.

    A row of an embedding table that no token of the batch uses has a gradient of zero, and says nothing.
    """

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Layers)  # noqa: S101 - the roles of the rule say so
        sizes = {tag: active_rms(one) for tag, one in judged(sample.layers).items()}
        sizes = {tag: size for tag, size in sizes.items() if 0 < size < inf}
        if len(sizes) < LAYERS_MIN:
            return []
        usual = median(sizes.values())
        return [
            Measured(tag, sample.step, size / usual, {"rms": size, "median_rms": usual}) for tag, size in sizes.items()
        ]

    return measure


def active_rms(layer: Layer) -> float:
    """Return the root mean square of the values that are not zero; 0 without such values.

    >>> active_rms(Layer(values=100, zeros=75, rms=1.0, minimum=-2.0, maximum=2.0, fingerprint=0))
    2.0
    """
    active = layer.values - layer.zeros
    return float(layer.rms * (layer.values / active) ** 0.5) if active > 0 else 0.0


def zero_gradient(_facts: Facts) -> Measure:
    """Measure the number of neighbouring layers whose gradient is zero."""
    blocks = _Blocks()

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Layers)  # noqa: S101 - the roles of the rule say so
        return blocks.measure(sample.step, {tag: is_zero(one) for tag, one in judged(sample.layers).items()})

    return measure


def is_zero(layer: Layer) -> bool:
    """Tell whether all values are zero."""
    return layer.zeros == layer.values


class _Blocks:
    """Measures runs of neighbouring tensors, under the tag of their first one, and 0 under tags of the time before."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}

    def measure(self, step: int, affected: Mapping[str, bool]) -> list[Measured]:
        """Return a measure for each block of affected tensors, in the order of the record."""
        if not affected:
            return []
        runs = ([tag for tag, _ in run] for bad, run in groupby(affected.items(), key=lambda one: one[1]) if bad)
        sizes = {run[0]: len(run) for run, _ in zip(runs, range(BLOCKS_MAX), strict=False)}
        before, self._known = self._known, dict.fromkeys(sizes)
        tags = [*sizes, *(tag for tag in before if tag not in sizes)] or [""]
        return [
            Measured(tag, step, float(sizes.get(tag, 0)), {"tensors": float(sizes.get(tag, 0)), "of": len(affected)})
            for tag in tags
        ]


class _Changes:
    """What changed between the last two summaries of the weights, if the run learnt at both.

    ``gradients`` tells for each parameter whether its last gradient was other than zero; ``step_before`` is the step of
    the first of the two summaries.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._last: dict[str, Layer] = {}
        self._last_step: int | None = None
        self.step_before = 0
        self.gradients: dict[str, bool] = {}

    def take(self, sample: Layers) -> dict[str, bool] | None:
        """Take a sample; return for each tensor whether it is unchanged, or None when nothing can be compared."""
        if role_of_summary(next(iter(sample.layers), "")) is Role.GRADIENTS:
            self.gradients = {parameter_of(tag): not is_zero(one) for tag, one in sample.layers.items()}
            return None
        if not _learns(self._facts):
            self._last_step = None
            return None
        last, last_step = self._last, self._last_step
        self._last = {tag: one for tag, one in judged(sample.layers).items() if _is_finite(one)}
        self._last_step = sample.step
        if last_step is None or sample.step <= last_step:
            return None
        self.step_before = last_step
        both = [(tag, one, last[tag]) for tag, one in self._last.items() if tag in last]
        return {tag: one.fingerprint == before.fingerprint for tag, one, before in both} or None


def _is_finite(layer: Layer) -> bool:
    """Tell whether the layer has finite values: without them, all statistics are 0 and no zeros are counted."""
    return layer.rms > 0 or is_zero(layer)


def _learns(facts: Facts) -> bool:
    """Tell whether a learning rate is above zero: the last points of its curves, else the setting."""
    rate = facts.learning_rate
    if rate is None:
        rate = facts.number("lr", "learning_rate")
    return rate is not None and rate > 0


def frozen(facts: Facts) -> Measure:
    """Measure the number of neighbouring tensors that do not change although others do, and have a gradient."""
    changes, blocks = _Changes(facts), _Blocks()

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Layers)  # noqa: S101 - the roles of the rule say so
        unchanged = changes.take(sample)
        if unchanged is None or not changes.gradients or all(unchanged.values()):
            return []
        known = {tag: same for tag, same in unchanged.items() if parameter_of(tag) in changes.gradients}
        return blocks.measure(
            sample.step, {tag: same and changes.gradients[parameter_of(tag)] for tag, same in known.items()}
        )

    return measure


def no_gradient(facts: Facts) -> Measure:
    """Measure the number of neighbouring tensors that do not change although others do, and have no gradient."""
    changes, blocks = _Changes(facts), _Blocks()

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Layers)  # noqa: S101 - the roles of the rule say so
        unchanged = changes.take(sample)
        if unchanged is None or all(unchanged.values()):
            return []
        return blocks.measure(
            sample.step, {tag: same and not changes.gradients.get(parameter_of(tag)) for tag, same in unchanged.items()}
        )

    return measure


def no_update(facts: Facts) -> Measure:
    """Measure for how many steps no tensor at all has changed; 0 until three summaries in a row are equal."""
    changes = _Changes(facts)
    since, equal = 0, 1

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal since, equal
        assert isinstance(sample, Layers)  # noqa: S101 - the roles of the rule say so
        unchanged = changes.take(sample)
        if unchanged is None:
            return []
        if not all(unchanged.values()):
            since, equal = sample.step, 1
        elif equal == 1:
            since = changes.step_before
            equal = 2
        else:
            equal += 1
        steps = float(sample.step - since) if equal > 2 else 0.0
        return [Measured("", sample.step, steps, {"steps": steps, "tensors": float(len(unchanged))})]

    return measure


VANISHING_LAYER: Final = Rule(
    name="vanishing-layer",
    severity="warn",
    roles=frozenset({Role.GRADIENTS}),
    formula="RMS of a layer's gradient, without its zeros / that of the median layer; no biases, 64 values at least",
    enter=1e-3,
    clear=1e-2,
    running=3,
    together=True,
    needs="summaries of the gradients of 4 layers",
    advice="This layer learns far more slowly than the others: look at the activations before it. "
    "People change the initialisation, add normalisation or residual connections, or replace saturating activations.",
    source="Glorot & Bengio 2010 (gradients by layer); threshold by experience; "
    "three healthy runs of the trainer: above 0.03",
    false_alarms="layers whose output is scaled by a small learned factor, as in LayerScale",
    measure=relative_size,
)

EXPLODING_LAYER: Final = Rule(
    name="exploding-layer",
    severity="warn",
    roles=frozenset({Role.GRADIENTS}),
    formula="RMS of a layer's gradient, without its zeros / that of the median layer; no biases, 64 values at least",
    enter=70.0,
    clear=35.0,
    running=3,
    together=True,
    needs="summaries of the gradients of 4 layers",
    advice="This layer takes most of the gradient: clipping by the total norm then stops all other layers. "
    "People change the initialisation or normalise the layer's input.",
    source="Glorot & Bengio 2010 (gradients by layer); threshold by experience; "
    "three healthy runs of the trainer: below 33",
    false_alarms="a scale or position that all positions share: its gradient is a sum over them",
    measure=relative_size,
)

ZERO_GRADIENT: Final = Rule(
    name="zero-gradient",
    severity="warn",
    roles=frozenset({Role.GRADIENTS}),
    formula="neighbouring layers whose gradient is zero everywhere (tag: the first); no biases, 64 values at least",
    enter=0.5,
    clear=0.4,
    running=2,
    together=True,
    needs="summaries of gradients",
    advice="No gradient reaches these layers: look for dead activations, a detach, or an output that the loss ignores. "
    "If all layers are affected, the gradients were logged after zero_grad.",
    source="by definition; twice, since an expert without tokens has a zero gradient for a step",
    false_alarms="a head or an expert whose data never came up; the first factor of LoRA in the first steps",
    measure=zero_gradient,
)

FROZEN_PARAMETER: Final = Rule(
    name="frozen-parameter",
    severity="warn",
    roles=frozenset({Role.WEIGHTS}),
    also=frozenset({Role.GRADIENTS}),
    formula="neighbouring tensors that equal their last summary (tag: the first), with a gradient that is not zero and "
    "a learning rate above 0, while others change; no biases, 64 values at least",
    enter=0.5,
    clear=0.4,
    running=2,
    together=True,
    needs="three summaries of weights and of gradients, and a learning rate above 0",
    advice="These parameters have a gradient and are not updated: look whether the optimizer knows them. "
    "People build the optimizer after the model is complete, and from model.parameters().",
    source="by definition",
    false_alarms="layers left out of the optimizer on purpose, without requires_grad=False",
    measure=frozen,
)

FROZEN_LAYERS: Final = Rule(
    name="frozen-layers",
    severity="info",
    roles=frozenset({Role.WEIGHTS}),
    also=frozenset({Role.GRADIENTS}),
    formula="neighbouring tensors that equal their last summary (tag: the first), without a gradient, with a learning "
    "rate above 0, while others change; no biases, 64 values at least",
    enter=0.5,
    clear=0.4,
    running=2,
    together=True,
    needs="three summaries of weights, and a learning rate above 0",
    advice="These layers are not trained. This is as it should be if they are frozen on purpose, as in fine-tuning.",
    source="by definition",
    false_alarms="every fine-tuning of a part of a model: for this reason it is information alone",
    measure=no_gradient,
)

NO_UPDATE: Final = Rule(
    name="no-update",
    severity="warn",
    roles=frozenset({Role.WEIGHTS}),
    also=frozenset({Role.GRADIENTS}),
    formula="steps in which no tensor changes, over three equal summaries, with a learning rate above 0",
    enter=64.0,
    clear=1.0,
    together=True,
    needs="three summaries of weights, and a learning rate above 0",
    advice="The model does not learn at all: look whether optimizer.step() is called, and on this model's parameters. "
    "With mixed precision, look whether the scaler skips every step.",
    source="by definition; 64 steps, since gradients are accumulated over some steps",
    false_alarms="gradients accumulated over more than 64 steps, with summaries in between",
    measure=no_update,
)

RULES: Final = (VANISHING_LAYER, EXPLODING_LAYER, ZERO_GRADIENT, FROZEN_PARAMETER, FROZEN_LAYERS, NO_UPDATE)
