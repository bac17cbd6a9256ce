"""All rules, in the order in which they judge."""

from typing import Final

from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules import curves, embeddings, layers, retrieval

RULES: Final[tuple[Rule, ...]] = (*curves.RULES, *layers.RULES, *embeddings.RULES, *retrieval.RULES)
