"""All rules, in the order in which they judge."""

from typing import Final

from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules import (
    curves,
    embeddings,
    finite,
    gradients,
    layers,
    overfitting,
    pace,
    retrieval,
    schedule,
    telemetry,
)

RULES: Final[tuple[Rule, ...]] = (
    *finite.RULES,
    *curves.RULES,
    *overfitting.RULES,
    *gradients.RULES,
    *layers.RULES,
    *embeddings.RULES,
    *retrieval.RULES,
    *schedule.RULES,
    *pace.RULES,
    *telemetry.RULES,
)
