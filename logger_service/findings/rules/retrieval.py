"""Rules on retrieval: whether matching pairs are closer than others, and whether both directions work."""

import re
from collections.abc import Iterable
from typing import Final

from tensorboard_sidecar.logger_service.findings import geometry
from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.rules.embeddings import is_early, remember
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample, Similarity

# A diagonal of fewer pairs is too short to stand out: its height grows with the root of their number.
PAIRS_MIN: Final = 32
# Below this recall of the better direction, both are taken to be near chance: their ratio says nothing.
_RECALL_MIN: Final = 0.2
_DIRECTION: Final = re.compile(r"([A-Za-z0-9]+)_to_([A-Za-z0-9]+)")


def diagonal(facts: Facts) -> Measure:
    """Measure by how many standard errors the diagonal exceeds a random assignment."""

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Similarity)  # noqa: S101 - the roles of the rule say so
        if len(sample.values) < PAIRS_MIN or is_early(facts, sample.step):
            return []
        value = geometry.diagonal_z(sample.values)
        evidence = {"standard_errors": value, "diagonal_margin": geometry.diagonal_margin(sample.values)}
        return [Measured(sample.tag, sample.step, value, evidence)]

    return measure


def reverse_of(tag: str) -> str | None:
    """Return the tag of the other direction of retrieval, or None.

    >>> reverse_of("retrieval/text_to_image/recall_at_1")
    'retrieval/image_to_text/recall_at_1'
    """
    turned, count = _DIRECTION.subn(r"\2_to_\1", tag, count=1)
    return turned if count and turned != tag else None


def one_way(facts: Facts) -> Measure:
    """Measure the recall of a direction over that of its reverse at the same step."""
    recalls: dict[str, dict[int, float]] = {}

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Points)  # noqa: S101 - the roles of the rule say so
        values = recalls.setdefault(sample.tag, {})
        remember(values, sample)
        reverse = reverse_of(sample.tag)
        if reverse is None:
            return []
        others = recalls.get(reverse, {})
        found = []
        for step in (step for step in sample.steps if step in others and not is_early(facts, step)):
            both = (sample.tag, values[step], others[step]), (reverse, others[step], values[step])
            for tag, one, against in both:
                if max(one, against) >= _RECALL_MIN:
                    ratio = one / against if against > 0 else 1.0
                    found.append(Measured(tag, step, ratio, {"recall": one, "reverse": against}))
        return found

    return measure


NO_DIAGONAL: Final = Rule(
    name="no-diagonal",
    severity="warn",
    roles=frozenset({Role.SIMILARITY}),
    formula="(mean of the diagonal - mean of the matrix) / its standard error under random assignment",
    enter=2.0,
    clear=4.0,
    running=3,
    needs="a square matrix of similarities of 32 pairs after a fifth of the run",
    advice="Matching pairs are no closer than others: check that rows and columns are in the same order, and that the "
    "pairs of the data match. People look at a batch's pairs by eye first.",
    source="variance: Hoeffding 1951; three standard errors told a slow encoder of a healthy run; "
    "three healthy runs of the trainer: above 3 after a fifth of the run, above 6 an evaluation later",
    false_alarms="a square matrix that compares anything but matching pairs",
    measure=diagonal,
)

ONE_WAY_RETRIEVAL: Final = Rule(
    name="one-way-retrieval",
    severity="warn",
    roles=frozenset({Role.RECALL}),
    formula="recall of one direction / recall of its reverse, where the larger is 0.2 or more",
    enter=0.25,
    clear=0.5,
    running=3,
    together=True,
    needs="recalls of both directions (.../a_to_b/recall..., .../b_to_a/recall...), one of 0.2 or more",
    advice="One direction of retrieval works, the other does not: the loss may be taken over rows only, or hubs answer "
    "every query. People make the loss symmetric and look at hubness.",
    source="threshold by experience; three healthy runs of the trainer: above 0.4",
    false_alarms="directions with very different numbers of candidates",
    measure=one_way,
)

RULES: Final = (NO_DIAGONAL, ONE_WAY_RETRIEVAL)
