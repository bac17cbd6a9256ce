"""Findings on their way from the projection's process to its parent, and the findings that the parent has to tell.

The child compares the findings of its streams with those that it has written to the pipe (:class:`Unsent`), and writes
the difference: a line that the full pipe refuses is written again later. A child that is started again sends the
findings of its streams again; the parent (:class:`ReportedFindings`) takes up those that it does not know.

A finding is sent when it opens and when it clears, without its advice, which belongs to the rule. A change that is
undone before it is sent is not sent.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, isnan
from select import PIPE_BUF
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from tensorboard_sidecar.logger_service.findings.ledger import FINDINGS_MAX
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.protocol.finding import Finding, Severity
from tensorboard_sidecar.protocol.limits import EVIDENCE_MAX, SEQUENCE_MAX

# Streams whose findings the parent knows. LRU: at the cap, forget the stream without a change for longest; its findings
# count as new when a child sends them again.
STREAMS_MAX: Final = 1_024
# Changes that wait for the parent's caller. At the cap the oldest change is dropped.
CHANGES_MAX: Final = 4_096

_Number = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
_StreamId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
# JSON has no word for these.
_Float: TypeAlias = float | Literal["nan", "inf", "-inf"]
_Key: TypeAlias = tuple[str, str]

_ADVICE: Final = {rule.name: rule.advice for rule in RULES}
_SEVERITIES: Final[Mapping[str, Severity]] = {rule.name: rule.severity for rule in RULES}


class FindingReport(msgspec.Struct, frozen=True, tag="finding"):
    """A finding of the stream with a hexadecimal id that opened or cleared. ``numbers`` holds its peak and evidence."""

    stream: _StreamId
    finding: Finding
    peak: _Float
    evidence: Annotated[dict[str, _Float], Meta(max_length=EVIDENCE_MAX)]

    @classmethod
    def of(cls, stream: bytes, finding: Finding) -> "FindingReport":
        """Return the report of a finding, whose line fits into the pipe at once: a long tag is cut."""
        bare = replace(finding, peak=0.0, evidence={}, advice="")
        report = cls(stream.hex(), bare, _sent(finding.peak), {k: _sent(v) for k, v in finding.evidence.items()})
        while len(msgspec.json.encode(report)) >= PIPE_BUF - 1 and bare.tag:
            bare = replace(bare, tag=bare.tag[: len(bare.tag) // 2])
            report = replace(report, finding=bare)
        return report

    def whole(self) -> tuple[bytes, Finding]:
        """Return the id of the stream and the finding, with its advice."""
        evidence = {name: float(number) for name, number in self.evidence.items()}
        advice = _ADVICE.get(self.finding.rule, "")
        return bytes.fromhex(self.stream), replace(
            self.finding, peak=float(self.peak), evidence=evidence, advice=advice
        )


class OpenReport(msgspec.Struct, frozen=True, tag="open"):
    """The number of open findings by rule, of all streams that go on."""

    findings: dict[str, _Number]


class Unsent:
    """What the receiver of findings has not been told: a stream's findings that opened or cleared since."""

    def __init__(self) -> None:
        self._sent: dict[bytes, dict[_Key, str]] = {}

    def changes(self, findings: Iterable[tuple[bytes, Collection[Finding]]]) -> Iterator[tuple[bytes, Finding]]:
        """Yield what has changed; :meth:`sent` must follow each. A stream that is not among ``findings`` is forgotten.

        ``findings`` are the findings of each stream, FINDINGS_MAX at most.
        """
        there = dict(findings)
        for gone in self._sent.keys() - there:
            del self._sent[gone]
        for stream, several in there.items():
            known = self._sent.get(stream, {})
            for finding in list(several)[:FINDINGS_MAX]:
                if known.get((finding.rule, finding.tag)) != finding.state:
                    yield stream, finding

    def sent(self, stream: bytes, finding: Finding) -> None:
        """Note that a change was sent."""
        self._sent.setdefault(stream, {})[finding.rule, finding.tag] = finding.state


@dataclass(slots=True)
class ReportedFindings:
    """The findings of all streams as the children reported them. ``dropped`` counts changes that nobody took.

    ``open_counts`` holds the number of open findings by rule, 0 for a rule without one.
    """

    open_counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ADVICE, 0))
    dropped: int = 0
    _states: OrderedDict[bytes, dict[_Key, str]] = field(default_factory=OrderedDict)
    _changes: OrderedDict[tuple[bytes, str, str], Finding] = field(default_factory=OrderedDict)

    def hear(self, report: FindingReport | OpenReport) -> None:
        """Take a report of the present child."""
        if isinstance(report, OpenReport):
            self.open_counts = {rule: report.findings.get(rule, 0) for rule in _ADVICE}
        else:
            self._take(*report.whole())

    def take(self) -> list[tuple[bytes, Finding]]:
        """Return what changed since the last call: each finding that opened or cleared, with the id of its stream."""
        found = [(stream, finding) for (stream, _, _), finding in self._changes.items()]
        self._changes.clear()
        return found

    def open_by_severity(self) -> dict[tuple[str, str], int]:
        """Return the number of open findings by rule and severity, all rules included."""
        return {(rule, _SEVERITIES[rule]): count for rule, count in self.open_counts.items()}

    def _take(self, stream: bytes, finding: Finding) -> None:
        states = self._states.setdefault(stream, {})
        self._states.move_to_end(stream)
        if len(self._states) > STREAMS_MAX:
            self._states.popitem(last=False)
        key = finding.rule, finding.tag
        if states.get(key) == finding.state:
            return
        if key not in states and len(states) >= 2 * FINDINGS_MAX:
            states.pop(next(iter(states)))
        states[key] = finding.state
        change = stream, *key
        self._changes.pop(change, None)  # the latest state alone
        self._changes[change] = finding
        if len(self._changes) > CHANGES_MAX:
            self._changes.popitem(last=False)
            self.dropped += 1


def _sent(number: float) -> _Float:
    if isfinite(number):
        return number
    if isnan(number):
        return "nan"
    return "inf" if number > 0 else "-inf"
