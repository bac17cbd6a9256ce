"""A finding: what the logger says is wrong with a run, since when, on what evidence, and what people do about it."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from tensorboard_sidecar.protocol import limits

Severity: TypeAlias = Literal["info", "warn", "error"]
_Name: TypeAlias = Annotated[str, Meta(max_length=limits.EVIDENCE_NAME_MAX_CHARACTERS)]
Evidence: TypeAlias = Annotated[dict[_Name, float], Meta(max_length=limits.EVIDENCE_MAX)]
_Text: TypeAlias = Annotated[str, Meta(max_length=limits.FINDING_TEXT_MAX_CHARACTERS)]


class Finding(msgspec.Struct, frozen=True):
    """One rule that holds, or held, for one tag.

    ``first_step`` is the step of the first sample that broke the rule, ``last_step`` that of the last such sample,
    ``count`` the number of such samples, ``peak`` the worst value of the rule's measure, and ``evidence`` the numbers
    at the sample that opened the finding. A finding is "cleared" when the rule's clear threshold is met.

    >>> one = Finding("loss-spike", "warn", "loss", "open", 40, 44, 5, 3.2, {"value": 6.4, "median": 2.0}, "Look.")
    >>> str(one)
    'warn: loss-spike of loss, steps 40 to 44 (value 6.4, median 2)'
    """

    rule: _Text
    severity: Severity
    tag: _Text
    state: Literal["open", "cleared"]
    first_step: int
    last_step: int
    count: int
    peak: float
    evidence: Evidence
    advice: _Text

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.evidence.items())
        place = f"step {self.first_step:,}"
        if self.last_step != self.first_step:
            place = f"steps {self.first_step:,} to {self.last_step:,}"
        cleared = ", cleared" if self.state == "cleared" else ""
        of = f" of {self.tag}" if self.tag else ""
        return f"{self.severity}: {self.rule}{of}, {place}{cleared} ({numbers})"


_GRAVITY: Final = {"error": 0, "warn": 1, "info": 2}


def by_gravity(finding: Finding) -> tuple[bool, int, int, str, str]:
    """Sort key: open findings first, the gravest first, then the earliest: where a trouble began; then rule and tag."""
    return finding.state == "cleared", _GRAVITY[finding.severity], finding.first_step, finding.rule, finding.tag
