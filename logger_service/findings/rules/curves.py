"""Rules on the curve of the training loss: where it begins, whether it spikes, diverges, or learns nothing."""

from collections import deque
from collections.abc import Iterable
from math import inf, log
from statistics import median
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role, subject
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule, ratios
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample

_WINDOW: Final = 100
_RECENT: Final = 20
# InfoNCE losses of the reference trainer, and the number of them in each.
_CONTRASTIVE: Final = {
    **{f"loss/train/{pair}": 1 for pair in ("text_image", "text_audio", "image_audio", "global_modal")},
    "loss/train/total": 4,
}
# Below, the loss of one batch of random guesses is often far from its mean.
_CLASSES_MIN: Final = 8
# The words of a loss that is, by its name, a plain cross-entropy.
_PLAIN: Final = frozenset({"loss", "batchloss", "trainloss", "ce", "cross", "entropy", "nll", "total"})
_FIRST: Final = 5
# Whether a run has learnt is judged from this part of it on: later, if it has logged few points by then.
_JUDGED_SHARE: Final = 0.2
_JUDGED_POINTS: Final = 100
_LATE_SHARE: Final = 0.5


def initial(facts: Facts) -> Measure:
    """Measure the first value over the loss of a uniform guess; later, a value below that loss."""
    guess = 0.0
    is_high: bool | None = None

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal guess, is_high
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        tag, step, value = sample.tag, sample.steps[0], sample.values[0]
        if is_high is None:
            guess = 0.0 if facts.resumed else _loss_of_a_guess(facts, tag)
            is_high = guess > 0 and value > LOSS_INITIAL.enter * guess
            return [Measured(tag, step, value / guess, {"value": value, "guess": guess})] if guess > 0 else []
        if is_high and (lowest := min(sample.values)) < guess:
            is_high = False
            return [Measured(tag, sample.steps[-1], lowest / guess, {})]
        return []

    return measure


def _loss_of_a_guess(facts: Facts, tag: str) -> float:
    """Return the loss of a uniform guess among N; 0.0 if N is not known, or too small."""
    terms = _CONTRASTIVE.get(tag, 1)
    if tag in _CONTRASTIVE:
        choices = facts.number("batch_size")
    elif subject(tag) <= _PLAIN:
        choices = facts.number("num_classes", "n_classes", "num_labels", "vocab_size")
    else:
        choices = None
    return terms * log(choices) if choices is not None and choices >= _CLASSES_MIN else 0.0


def spike(facts: Facts) -> Measure:
    """Measure each value over the usual level of the values before it."""
    seen = 0

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal seen
        assert isinstance(sample, Points)  # noqa: S101 - as above
        tag, steps, values, _ = sample
        level = facts.levels.get(tag)
        if facts.game or level is None:
            return []
        before, seen = seen, seen + len(values)
        if level.turned:
            return [_clearing(sample)]
        found = list[Measured]()
        for begin, end, usual in level.pieces:
            if usual <= 0 or before + begin < _WINDOW:
                continue
            found += ratios(tag, steps[begin:end], values[begin:end], usual, LOSS_SPIKE.enter, {"usual": usual})
        return found

    return measure


def divergence(facts: Facts) -> Measure:
    """Measure, whenever the level is taken anew, the median of the last 20 points over the lowest level."""
    lowest = inf

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal lowest
        assert isinstance(sample, Points)  # noqa: S101 - as above
        level = facts.levels.get(sample.tag)
        if facts.game or level is None:
            return []
        if level.turned:
            return [_clearing(sample)]
        found = []
        for last, usual, recent in level.renewals:
            if usual > 0:
                lowest = min(lowest, usual)
                numbers = {"median": recent, "lowest": lowest}
                found.append(Measured(sample.tag, sample.steps[last], recent / lowest, numbers))
        return found

    return measure


def _clearing(points: Points) -> Measured:
    """Return the measure of a curve that comes below zero: a finding that is open clears, and none opens any more."""
    return Measured(points.tag, points.steps[-1], 0.0, {})


def gain(facts: Facts) -> Measure:
    """Measure, from 20 % of the run on, the part of the first values by which the loss has fallen."""
    first: list[float] = []
    recent: deque[float] = deque(maxlen=_RECENT)
    end_of_first = count = 0
    verdict: bool | None = None

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal end_of_first, count, verdict
        assert isinstance(sample, Points)  # noqa: S101 - as above
        if verdict is False or facts.game:
            return []
        if min(sample.values) < 0:
            verdict = False  # a curve that has no ratios
            return []
        if len(first) < _FIRST:
            end_of_first = sample.steps[min(_FIRST - len(first), len(sample.steps)) - 1]
            first.extend(sample.values[: _FIRST - len(first)])
        recent.extend(sample.values)
        count += len(sample.values)
        total, step = facts.total_steps, sample.steps[-1]
        if total is None or facts.resumed or end_of_first > _JUDGED_SHARE / 2 * total:
            return []
        begin = median(first)
        needed = _JUDGED_POINTS if step < _LATE_SHARE * total else _RECENT + _FIRST
        if begin <= 0 or step < _JUDGED_SHARE * total or count < needed:
            return []
        now = median(recent)
        share = 1 - now / begin
        verdict = share < NOTHING_LEARNT.clear  # a run that has learnt is the matter of other rules
        return [Measured(sample.tag, step, share, {"first": begin, "now": now})]

    return measure


LOSS_INITIAL: Final = Rule(
    name="initial-loss",
    severity="warn",
    roles=frozenset({Role.LOSS}),
    formula="first value / ln N, the loss of a uniform guess; N is the number of classes, or of pairs in a batch",
    enter=2.0,
    clear=1.0,
    needs="a run from its first step, and in its settings num_classes, vocab_size or the reference trainer's "
    "batch_size",
    advice="A model that is surer than a guess before it has learnt anything begins with too large weights or logits. "
    "People look at the initialisation of the last layer, at the temperature, and at the reduction of the loss.",
    source="ln N: A. Karpathy, A Recipe for Training Neural Networks (2019), 'verify loss @ init'. Twice: "
    "healthy runs of the reference trainer begin at up to 1.5 with batches of 8, whose ln N is small (make sick). "
    "A first loss below ln N is not judged: a pretrained model has it",
    false_alarms="a loss with large penalties beside the cross-entropy, or summed over a batch",
    warm_up=False,
    measure=initial,
)

LOSS_SPIKE: Final = Rule(
    name="loss-spike",
    severity="warn",
    roles=frozenset({Role.LOSS}),
    formula="value / usual level of the 100 points before",
    enter=2.0,
    clear=1.2,
    running=5,
    needs="100 points of a training loss that stays above 0",
    advice="Look at the batches and the gradient norm of these steps. "
    "People lower the learning rate, clip gradients, or skip the batch.",
    source="spikes of large models: PaLM (arXiv:2204.02311), section 5.1. "
    "Twice the median for five points: single points of small batches are noise",
    false_alarms="a change of the data, or of the weights of a sum of losses, in the middle of a run; a loss that "
    "wanders: whose neighbouring points are alike, and which doubles for a while",
    measure=spike,
)

DIVERGING: Final = Rule(
    name="diverging",
    severity="error",
    roles=frozenset({Role.LOSS}),
    formula="median of 20 points / lowest usual level of 100 points so far, every 20 to 100 points",
    enter=1.5,
    clear=1.2,
    running=3,
    for_steps=200,
    needs="80 points of a training loss that stays above 0",
    advice="Stop, go back to a checkpoint from before the rise, and lower the learning rate. "
    "People also clip gradients, lengthen the warm-up, or compute the loss in float32.",
    source="thresholds by experience, thrice: none of 128 made-up noisy curves (lognormal noise of 0.1 to 1.0, each "
    "point by itself) opened it, nor loss-spike; the level keeps the minimum of a noisy curve from being mere luck",
    false_alarms="a curriculum that makes the data harder, a new term of the loss, warm restarts of the learning rate, "
    "a loss that wanders",
    measure=divergence,
)

NOTHING_LEARNT: Final = Rule(
    name="nothing-learnt",
    severity="warn",
    roles=frozenset({Role.LOSS}),
    formula="1 - median of the last 20 points / median of the first 5, from 20 % of the run and 100 points on, or from "
    "50 % and 25 points on",
    enter=0.05,
    clear=0.1,
    needs="a run from its first step whose settings say its length, 5 points in its first tenth, a loss above 0",
    advice="Check that labels belong to their inputs, that the learning rate is not far too small or too large, and "
    "that gradients reach the weights. People first make a model overfit a single batch.",
    source="A. Karpathy, A Recipe for Training Neural Networks (2019), 'overfit one batch'; 5 % by 20 %: by "
    "experience. A healthy run of 192 steps had gained 3 % at step 39",
    false_alarms="fine-tuning of a model that is good already: its loss falls by a few hundredths",
    measure=gain,
)

RULES: Final = (LOSS_INITIAL, LOSS_SPIKE, DIVERGING, NOTHING_LEARNT)
