"""The findings of a run as TensorBoard shows them: a card among the texts, and the number of open findings as a curve.

Pure. Tags are texts of strangers: every cell is escaped, long ones are cut, and the card has a bound.
"""

from collections.abc import Sequence
from typing import Final

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events import values
from tensorboard_sidecar.logger_service.events.identity import EventId, name_event
from tensorboard_sidecar.protocol.finding import Finding

FINDINGS_TAG: Final = "findings"
OPEN_TAG: Final = "findings/open"
# Characters of the table of findings, and of the table of what was not checked: some fifty rows, more than people read.
_TABLE_MAX_CHARACTERS: Final = 30_000
_CELL_MAX_CHARACTERS: Final = 200
_HEAD: Final = ("", "rule", "tag", "steps (samples)", "evidence")
_WORDS: Final = {"error": "error", "warn": "warning", "info": "information"}


def findings_card(findings: Sequence[Finding], not_checked: Sequence[tuple[str, str]]) -> str:
    r"""Return the card in Markdown: the findings in the given order, and the rules that gave no verdict, with reasons.

    >>> print(findings_card([], [("loss-spike", "no training loss"), ("diverging", "no training loss")]))
    Nothing was found.
    <BLANKLINE>
    Not checked:
    <BLANKLINE>
    | rules | because |
    | --- | --- |
    | loss\-spike, diverging | no training loss |
    """
    parts = [_head(findings)]
    if findings:
        rows = [_row(finding) for finding in findings]
        parts.append(values.markdown_table(_HEAD, rows, _TABLE_MAX_CHARACTERS))
        advice = {finding.rule: finding.advice for finding in findings}
        parts.append(values.markdown_table(("rule", "what people do"), list(advice.items()), _TABLE_MAX_CHARACTERS))
    if not_checked:
        rules: dict[str, list[str]] = {}
        for rule, reason in not_checked:
            rules.setdefault(reason, []).append(rule)
        reasons = [(", ".join(several), _cut(reason)) for reason, several in rules.items()]
        parts += ["Not checked:", values.markdown_table(("rules", "because"), reasons, _TABLE_MAX_CHARACTERS)]
    return "\n\n".join(parts)


def findings_event(card: str | None, open_count: int, wall_time_ns: int, step: int, identity: EventId) -> bytes:
    """Return the serialised event with the number of open findings, and with a card unless it is None."""
    shown = [values.scalar_value(OPEN_TAG, open_count)]
    if card is not None:
        shown.append(values.text_value(FINDINGS_TAG, card))
    event = Event(wall_time=wall_time_ns / 1e9, step=step, summary=Summary(value=shown))
    name_event(event, identity)
    serialised: bytes = event.SerializeToString()
    return serialised


def _head(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing was found."
    still = sum(finding.state == "open" for finding in findings)
    return f"**{still:,} open**, {len(findings) - still:,} cleared."


def _row(finding: Finding) -> tuple[str, ...]:
    steps = f"{finding.first_step:,}"
    if finding.last_step != finding.first_step:
        steps += f" to {finding.last_step:,}"
    evidence = ", ".join(f"{name} {number:.4g}" for name, number in finding.evidence.items())
    word = _WORDS[finding.severity] + (", cleared" if finding.state == "cleared" else "")
    return word, finding.rule, _cut(finding.tag), f"{steps} ({finding.count:,})", _cut(evidence)


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_MAX_CHARACTERS else text[: _CELL_MAX_CHARACTERS - 3] + "..."
