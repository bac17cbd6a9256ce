"""Rules on embeddings: whether vectors differ at all, fill their space, and gather in hubs or by modality."""

import re
from collections.abc import Iterable
from math import nan
from typing import Final

import numpy as np

from tensorboard_sidecar.logger_service.findings import geometry
from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role, role_of_curve
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample, Similarity, Space

# A contrastive run begins with all vectors in a narrow cone (Liang et al. 2022, section 3), and takes a part of the run
# to leave it: rules on the shape of a space judge after this share.
EARLY_SHARE: Final = 0.2
# Fewer vectors have no shape.
VECTORS_MIN: Final = 16
NEIGHBOURS: Final = 10
# With fewer vectors, ten neighbours are most of them.
HUB_VECTORS_MIN: Final = 50
_REMEMBERED_MAX: Final = 64
# A space whose uniformity falls by this from one evaluation to the next is on its way.
_FALL_MIN: Final = 0.02
_COSINE_MAX: Final = 1.01
_MARGIN_MIN: Final = 0.05
# Components of a healthy space deviate by 1 / sqrt(D) of the norm: 0.011 with 8,192 dimensions.
_SPREAD_START_MIN: Final = 0.01
# A score has fallen when it is below this share of its best.
_FALLEN: Final = 0.8
_CURVE_NAME: Final = re.compile(r"(dimension_?std|norm)$", re.IGNORECASE)
_SCORES: Final = frozenset({Role.RECALL, Role.QUALITY})


def is_early(facts: Facts, step: int) -> bool:
    """Tell whether a step lies in the first fifth of a run whose length is known.

    >>> is_early(Facts(settings={"total_steps": 100}), 19), is_early(Facts(), 19)
    (True, False)
    """
    total = facts.total_steps
    return total is not None and step < EARLY_SHARE * total


def remember(known: dict[int, float], points: Points) -> None:
    """Add points to the values by step of a curve, and keep the last ones, which wait for those of another curve."""
    for step, value in zip(points.steps, points.values, strict=True):
        known.pop(step, None)  # a step that comes again moves to the end
        known[step] = value
    while len(known) > _REMEMBERED_MAX:
        del known[next(iter(known))]


def cosine_collapse(facts: Facts) -> Measure:
    """Measure the mean cosine of pairs that do not match; 0 where matching pairs are closer by a margin."""

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Similarity)  # noqa: S101 - the roles of the rule say so
        values = sample.values
        if is_early(facts, sample.step) or np.abs(values).max() > _COSINE_MAX:
            return []
        mean, margin = geometry.off_diagonal_mean(values), geometry.diagonal_margin(values)
        evidence = {"off_diagonal_mean": mean, "diagonal_margin": margin}
        return [Measured(sample.tag, sample.step, mean if margin < _MARGIN_MIN else 0.0, evidence)]

    return measure


def spread(facts: Facts) -> Measure:
    """Measure the relative spread of vectors: of a space, or of curves as a share of their start.

    The curves are ``.../dimension_std`` and ``.../norm``, matched by step.
    """
    starts: dict[str, float] = {}
    deviations: dict[str, dict[int, float]] = {}

    def of_curves(points: Points) -> Iterable[Measured]:
        name = _CURVE_NAME.sub("", points.tag)
        if role_of_curve(points.tag) is Role.DIMENSION_STD:
            remember(deviations.setdefault(name, {}), points)
            return []
        known = deviations.get(name, {})
        norms = zip(points.steps, points.values, strict=True)
        shares = {step: known[step] / norm for step, norm in norms if step in known and norm > 0}
        if not shares:
            return []
        start = starts.setdefault(name, max(next(iter(shares.values())), _SPREAD_START_MIN))
        step, share = list(shares.items())[-1]
        evidence = {"std_over_norm": share, "at_start": start}
        return [Measured(f"{name}dimension_std", step, share / start, evidence)]

    def measure(sample: Sample) -> Iterable[Measured]:
        if isinstance(sample, Points):
            found = of_curves(sample)
        else:
            assert isinstance(sample, Space)  # noqa: S101 - the roles of the rule say so
            value = geometry.relative_spread(sample.vectors)
            found = [Measured(sample.tag, sample.step, value, {"spread": value, "vectors": float(len(sample.vectors))})]
        return [one for one in found if not is_early(facts, one.step)]

    return measure


def low_rank(facts: Facts) -> Measure:
    """Measure the effective rank as a share of the possible rank; 1 while no score of validation falls."""
    best: dict[str, float] = {}

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Space)  # noqa: S101 - the roles of the rule say so
        scores = {tag: last.value for tag, last in facts.last.items() if role_of_curve(tag) in _SCORES}
        for tag, score in scores.items():
            best[tag] = max(score, best.get(tag, 0.0))
        kept = [score / best[tag] for tag, score in scores.items() if best[tag] > 0]
        if len(sample.vectors) < VECTORS_MIN or not kept:
            return []
        share_of_best, possible = sum(kept) / len(kept), min(sample.vectors.shape)
        if share_of_best >= _FALLEN:
            return [Measured(sample.tag, sample.step, 1.0, {"score_over_best": share_of_best})]
        rank = geometry.effective_rank(sample.vectors)
        evidence = {"effective_rank": rank, "possible_rank": float(possible), "score_over_best": share_of_best}
        return [Measured(sample.tag, sample.step, rank / possible, evidence)]

    return measure


def crowding(facts: Facts) -> Measure:
    """Measure the uniformity of a space of a contrastive run; NaN, which is no verdict, while it still falls."""
    lowest: float | None = None

    def measure(sample: Sample) -> Iterable[Measured]:
        nonlocal lowest
        assert isinstance(sample, Space)  # noqa: S101 - the roles of the rule say so
        contrastive = any(role_of_curve(tag) in (Role.RECALL, Role.TEMPERATURE) for tag in facts.last)
        if not contrastive or is_early(facts, sample.step) or len(sample.vectors) < VECTORS_MIN:
            return []
        value = geometry.uniformity(sample.vectors)
        falls = lowest is not None and UNIFORMITY.clear < value < lowest - _FALL_MIN
        lowest = value if lowest is None else min(lowest, value)
        return [Measured(sample.tag, sample.step, nan if falls else value, {"uniformity": value})]

    return measure


def gap(facts: Facts) -> Measure:
    """Measure the distance between the centres of modalities in a joint space."""

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Space)  # noqa: S101 - the roles of the rule say so
        sizes = [sample.groups.count(name) for name in set(sample.groups)]
        if len(sizes) < 2 or min(sizes) < VECTORS_MIN or is_early(facts, sample.step):
            return []
        value = geometry.modality_gap(sample.vectors, sample.groups)
        return [Measured(sample.tag, sample.step, value, {"gap": value, "modalities": float(len(sizes))})]

    return measure


def hubs(facts: Facts) -> Measure:
    """Measure the skewness of the k-occurrences of a space, or of a matrix in its worse direction."""

    def measure(sample: Sample) -> Iterable[Measured]:
        if isinstance(sample, Similarity):
            directions = [sample.values, sample.values.T]
        else:
            assert isinstance(sample, Space)  # noqa: S101 - the roles of the rule say so
            units = geometry.unit_rows(sample.vectors)
            neighbours = units @ units.T
            np.fill_diagonal(neighbours, -np.inf)
            directions = [neighbours]
        count = len(directions[0])
        if count < HUB_VECTORS_MIN or is_early(facts, sample.step):
            return []
        value = max(geometry.k_occurrence_skewness(one, NEIGHBOURS) for one in directions)
        return [Measured(sample.tag, sample.step, value, {"skewness": value, "vectors": float(count)})]

    return measure


EMBEDDING_COLLAPSE: Final = Rule(
    name="embedding-collapse",
    severity="warn",
    roles=frozenset({Role.SIMILARITY}),
    formula="mean cosine of pairs that do not match, where matching pairs are closer by less than 0.05",
    enter=0.9,
    clear=0.8,
    running=2,
    needs="a square matrix of cosine similarities after a fifth of the run",
    advice="All vectors are nearly equal: look at the learning rate, the temperature and the negatives of the loss. "
    "People lower the learning rate, check that negatives are in the batch, or stop the gradient of one branch.",
    source="threshold by experience; three healthy runs of the trainer: below 0.12",
    false_alarms="one encoder for both sides, slow to leave its first narrow cone, in a run of unknown length",
    measure=cosine_collapse,
)

CONSTANT_EMBEDDING: Final = Rule(
    name="constant-embedding",
    severity="warn",
    roles=frozenset({Role.EMBEDDING, Role.DIMENSION_STD}),
    also=frozenset({Role.EMBEDDING_NORM}),
    formula="sqrt(total variance / mean squared norm) of a space; "
    "dimension_std / norm of curves, over its start or 0.01, whichever is larger",
    enter=0.02,
    clear=0.05,
    running=2,
    together=True,
    needs="embeddings, or curves .../dimension_std and .../norm, after a fifth of the run",
    advice="The encoder gives almost the same vector for every input: look for a dead layer, a frozen or unused input, "
    "or a learning rate that is too high. People check the encoder's inputs and its gradients layer by layer.",
    source="deviation of normalised outputs: Chen & He 2021 (SimSiam), figure 2; "
    "three healthy runs of the trainer: above 0.24 after a fifth of the run, and 0.04 in the first epoch",
    false_alarms="spaces with a constant component far larger than the others",
    measure=spread,
)

LOW_EFFECTIVE_RANK: Final = Rule(
    name="low-effective-rank",
    severity="warn",
    roles=frozenset({Role.EMBEDDING}),
    formula="exp(entropy of the normalised singular values of the centred embeddings) / min(N, D), "
    "while scores of validation are below 0.8 of their best",
    enter=0.1,
    clear=0.2,
    running=2,
    needs="16 embeddings and a recall or another score of validation",
    advice="The vectors use few of their dimensions, and retrieval gets worse. "
    "People lower the learning rate or weight decay, use larger batches, or add a term against correlated dimensions.",
    source="Roy & Vetterli 2007 (effective rank); dimensional collapse: Jing et al. 2022; three "
    "healthy runs of the trainer: 0.21 to 0.62",
    false_alarms="a score that falls for another reason in a space that is narrow by design",
    measure=low_rank,
)

UNIFORMITY: Final = Rule(
    name="uniformity",
    severity="warn",
    roles=frozenset({Role.EMBEDDING}),
    formula="log of the mean of exp(-2 distance^2) over pairs of unit vectors, where it is not 0.02 below its lowest "
    "value so far",
    enter=-0.5,
    clear=-0.8,
    running=3,
    needs="16 embeddings after a fifth of a run with a recall of retrieval or a temperature",
    advice="The vectors crowd in a small part of the sphere, so that nearest neighbours mean little. "
    "People lower the temperature, enlarge the batch, or check that negatives reach the loss.",
    source="Wang & Isola 2020; threshold by experience; three healthy runs of the trainer: above -0.5 in one "
    "evaluation at most after a fifth of the run, and -2.4 to -3.4 at the end",
    false_alarms="a large learned temperature; few classes, on which the vectors gather by design",
    measure=crowding,
)

MODALITY_GAP: Final = Rule(
    name="modality-gap",
    severity="info",
    roles=frozenset({Role.EMBEDDING}),
    formula="largest distance between the mean unit vectors of two modalities",
    enter=0.8,
    clear=0.6,
    running=2,
    needs="embeddings of several modalities in one space (metadata column modality), 16 of each",
    advice="The modalities lie in separate regions of the joint space, as CLIP's do; retrieval across them can still "
    "be good. People subtract each modality's mean, or leave it.",
    source="Liang et al. 2022: CLIP has 0.82",
    false_alarms="most healthy runs of the kind of CLIP: for this reason it is information alone",
    measure=gap,
)

HUBNESS: Final = Rule(
    name="hubness",
    severity="info",
    roles=frozenset({Role.SIMILARITY, Role.EMBEDDING}),
    formula="skewness of the 10-occurrences: how often a vector is among the 10 nearest of others",
    enter=3.0,
    clear=2.0,
    running=2,
    needs="50 embeddings, or a 50 x 50 matrix of similarities, after a fifth of the run",
    advice="Few vectors are the nearest neighbours of many: they answer most queries, mostly wrongly. "
    "People centre the vectors, or rank with cross-domain local scaling or inverted softmax.",
    source="Radovanovic et al. 2010; random vectors on a sphere: 0.2 to 0.8; "
    "three healthy runs of the trainer: up to 1.9",
    false_alarms="a few vectors far from all others, as empty captions are",
    measure=hubs,
)

RULES: Final = (EMBEDDING_COLLAPSE, CONSTANT_EMBEDDING, LOW_EFFECTIVE_RANK, UNIFORMITY, MODALITY_GAP, HUBNESS)
