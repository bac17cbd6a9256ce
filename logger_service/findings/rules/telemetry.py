"""Rules on telemetry itself: what the stream lacks, and how late it comes."""

from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule, ratios
from tensorboard_sidecar.logger_service.findings.samples import Ended, Missing, Points, Sample

# The reason of a gap whose records the trainer refused.
_FULL: Final = "full"


def missing(*, refused: bool) -> Callable[[Facts], Measure]:
    """Return a measure of the records that a gap lacks: those the trainer refused, or those that were lost later."""

    def measure(sample: Sample) -> Iterable[Measured]:
        if isinstance(sample, Ended):
            return [Measured("", sample.step, 0.0, {})]
        assert isinstance(sample, Missing)  # noqa: S101 - the roles of the rule say so
        if sample.records > 0 and (_FULL in sample.reason) != refused:
            return []
        records = float(sample.records)
        return [Measured(sample.reason, sample.step, records, {"records": records})]

    return lambda _facts: measure


def lag(_facts: Facts) -> Measure:
    """Measure the lag in seconds."""

    def measure(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Points)  # noqa: S101 - as above
        return ratios(sample.tag, sample.steps, sample.values, 1.0, LAG.enter, {})

    return measure


GAPS: Final = Rule(
    name="telemetry-gaps",
    severity="warn",
    roles=frozenset({Role.STREAM}),
    formula="records missing, by reason",
    enter=0.5,
    clear=-inf,
    needs="a stream that has ended, or a gap",
    advice="Curves have holes here, and rules may have missed what was in them. The trainer's log tells more, and "
    "`tensorboard-sidecar inspect` lists the gaps.",
    source="a gap is told by the trainer or seen in the sequence numbers: there is no threshold",
    false_alarms="none known",
    warm_up=False,
    measure=missing(refused=False),
)

REFUSALS: Final = Rule(
    name="telemetry-refusals",
    severity="warn",
    roles=frozenset({Role.STREAM}),
    formula="records that the trainer refused since its memory for them was full, by reason",
    enter=0.5,
    clear=-inf,
    needs="a stream that has ended, or a gap",
    advice="The logger was away for longer than the outbox lasts, or the loop logs more than the network carries. "
    "People raise outbox_bytes or spill_bytes, or log pictures and histograms less often.",
    source="as telemetry-gaps",
    false_alarms="none known",
    warm_up=False,
    measure=missing(refused=True),
)

LAG: Final = Rule(
    name="telemetry-lag",
    severity="warn",
    roles=frozenset({Role.LAG}),
    formula="seconds for which the oldest record has waited to be on the logger's disk",
    enter=30.0,
    clear=5.0,
    running=2,
    needs="telemetry.health() among the scalars",
    advice="The logger is away or too slow, and what TensorBoard shows is old. The training does not wait; people look "
    "whether the logger runs, and at its disk.",
    source="a trainer connects to a restarted logger within some seconds; half a minute is no restart",
    false_alarms="a run that records for later, without a logger at its address",
    warm_up=False,
    measure=lag,
)

RULES: Final = (GAPS, REFUSALS, LAG)
