"""Findings on their way to the parent: each change is told once, whatever the pipe and the processes do."""

import os
import select
from collections.abc import Iterator
from dataclasses import replace as changed
from math import inf, isnan, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tensorboard_sidecar.logger_service.findings.ledger import FINDINGS_MAX
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.projection.findings_report import (
    CHANGES_MAX,
    STREAMS_MAX,
    FindingReport,
    OpenReport,
    ReportedFindings,
    Unsent,
)
from tensorboard_sidecar.logger_service.projection.report import (
    REPORT_SECONDS,
    ProjectionCounts,
    ProjectionReport,
    ProjectionState,
    ReportedHealth,
    ReportReader,
    ReportWriter,
)
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import EVIDENCE_MAX, SEQUENCE_MAX, TAG_MAX_CHARACTERS

RULE = RULES[0]
OPEN = Finding(RULE.name, RULE.severity, "loss", "open", 40, 44, 5, 3.2, {"value": 6.4, "median": 2.0}, RULE.advice)
CLEARED = replace(OPEN, state="cleared")
ONE, OTHER = b"\1" * 16, b"\2" * 16


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class Child:
    """The end of a pipe that writes, once a second, what a follower has."""

    def __init__(self, file: int) -> None:
        self._writer = ReportWriter(file)
        self._now_seconds = 0.0

    def report(self, findings: dict[bytes, list[Finding]]) -> None:
        self._writer.write(self._now_seconds, ProjectionCounts(), [], ProjectionState(), findings.items())
        self._now_seconds += REPORT_SECONDS


def hear(health: ReportedHealth, reader: ReportReader) -> list[tuple[bytes, Finding]]:
    for report in reader.read():
        health.hear(report, 0.0)
    assert reader.malformed == 0
    return health.findings.take()


def test_a_finding_is_told_once_when_it_opens_and_once_when_it_clears(pipe: tuple[int, int]) -> None:
    child, reader, health = Child(pipe[1]), ReportReader(pipe[0]), ReportedHealth()
    child.report({ONE: [OPEN], OTHER: []})
    assert hear(health, reader) == [(ONE, OPEN)], "with the advice of its rule"
    child.report({ONE: [replace(OPEN, count=9)], OTHER: [CLEARED]})
    assert hear(health, reader) == [(OTHER, CLEARED)]
    child.report({ONE: [CLEARED]})
    child.report({ONE: [CLEARED]})
    assert hear(health, reader) == [(ONE, CLEARED)]


def test_the_parent_knows_the_open_findings_by_rule(pipe: tuple[int, int]) -> None:
    child, reader, health = Child(pipe[1]), ReportReader(pipe[0]), ReportedHealth()
    assert set(health.findings.open_by_severity().values()) == {0}
    child.report({ONE: [OPEN, replace(CLEARED, tag="b")], OTHER: [replace(OPEN, tag="c")]})
    hear(health, reader)
    assert health.findings.open_by_severity()[RULE.name, RULE.severity] == 2
    assert set(health.findings.open_by_severity()) == {(rule.name, rule.severity) for rule in RULES}
    child.report({ONE: [CLEARED]})
    hear(health, reader)
    assert health.findings.open_by_severity()[RULE.name, RULE.severity] == 0


def test_a_child_that_is_started_again_tells_everything_and_the_parent_what_is_new(pipe: tuple[int, int]) -> None:
    reader, health = ReportReader(pipe[0]), ReportedHealth()
    Child(pipe[1]).report({ONE: [OPEN], OTHER: [OPEN]})
    hear(health, reader)
    health.child_ended()
    Child(pipe[1]).report({ONE: [OPEN], OTHER: [CLEARED]})
    assert hear(health, reader) == [(OTHER, CLEARED)]


def test_a_stream_that_is_not_watched_for_a_while_is_not_told_twice_by_the_parent(pipe: tuple[int, int]) -> None:
    child, reader, health = Child(pipe[1]), ReportReader(pipe[0]), ReportedHealth()
    for findings in ({ONE: [OPEN]}, {}, {ONE: [OPEN]}):
        child.report(findings)
    assert hear(health, reader) == [(ONE, OPEN)]


def test_a_full_pipe_loses_no_change(pipe: tuple[int, int]) -> None:
    child, reader, health = Child(pipe[1]), ReportReader(pipe[0]), ReportedHealth()
    findings = {number.to_bytes(16, "big"): [replace(OPEN, tag=f"tag {number}")] for number in range(600)}
    told: list[tuple[bytes, Finding]] = []
    child.report(findings)
    child.report(findings)
    while len(told) < len(findings):
        before = len(told)
        told += hear(health, reader)
        child.report(findings)
        assert len(told) > before
    assert told == [(stream, several[0]) for stream, several in findings.items()]


def test_numbers_that_json_does_not_know_arrive(pipe: tuple[int, int]) -> None:
    child, reader, health = Child(pipe[1]), ReportReader(pipe[0]), ReportedHealth()
    child.report({ONE: [replace(OPEN, peak=inf, evidence={"a": -inf, "b": nan, "c": 0.1})]})
    ((_, finding),) = hear(health, reader)
    assert (finding.peak, finding.evidence["a"], finding.evidence["c"]) == (inf, -inf, 0.1)
    assert isnan(finding.evidence["b"])


@given(st.text(max_size=TAG_MAX_CHARACTERS) | st.text('\0\U0001f600\\"', min_size=TAG_MAX_CHARACTERS, max_size=1_024))
def test_a_line_fits_into_the_pipe_at_once_whatever_the_tag(tag: str) -> None:
    evidence = {f"{'x' * 30}{number}": -1.2345678901234567e-300 for number in range(EVIDENCE_MAX)}
    finding = replace(OPEN, tag=tag, first_step=-SEQUENCE_MAX, count=SEQUENCE_MAX, evidence=evidence)
    report = FindingReport.of(ONE, finding)
    assert len(msgspec.json.encode(report)) + 1 <= select.PIPE_BUF
    stream, arrived = report.whole()
    assert (stream, replace(arrived, tag="")) == (ONE, replace(finding, tag=""))
    assert tag.startswith(arrived.tag)
    assert arrived.tag == tag or len(tag) > 200


def test_the_open_findings_of_all_rules_fit_into_a_line() -> None:
    report = OpenReport({rule.name: SEQUENCE_MAX for rule in RULES})
    assert len(msgspec.json.encode(report)) + 1 <= select.PIPE_BUF


@pytest.mark.parametrize(
    "rubbish",
    [
        b'{"type":"finding"}\n',
        b'{"type":"open","findings":{"a":-1}}\n',
        b'{"type":"strange"}\n',
        msgspec.json.encode(FindingReport.of(ONE, OPEN)).replace(b'"open"', b'"ajar"') + b"\n",
        msgspec.json.encode(FindingReport.of(ONE, OPEN)).replace(b"3.2", b'"much"') + b"\n",
        msgspec.json.encode(FindingReport.of(ONE, OPEN)).replace(ONE.hex().encode(), b"one") + b"\n",
    ],
)
def test_an_invalid_finding_is_counted_and_dropped(pipe: tuple[int, int], rubbish: bytes) -> None:
    reader = ReportReader(pipe[0])
    os.write(pipe[1], rubbish)
    assert (reader.read(), reader.malformed) == ([], 1)


def test_a_rule_that_the_parent_does_not_know_has_no_advice_and_no_gauge() -> None:
    reported = ReportedFindings()
    strange = replace(OPEN, rule="strange", advice="")
    reported.hear(FindingReport.of(ONE, strange))
    reported.hear(OpenReport({"strange": 3}))
    assert reported.take() == [(ONE, strange)]
    assert ("strange", "warn") not in reported.open_by_severity()


def test_the_streams_and_the_changes_that_the_parent_knows_are_bounded() -> None:
    reported = ReportedFindings()
    for number in range(STREAMS_MAX + 1):
        reported.hear(FindingReport.of(number.to_bytes(16, "big"), OPEN))
    reported.take()
    reported.hear(FindingReport.of((1).to_bytes(16, "big"), OPEN))
    reported.hear(FindingReport.of(bytes(16), OPEN))
    assert [stream for stream, _ in reported.take()] == [bytes(16)], "forgotten"
    for number in range(CHANGES_MAX + 10):
        reported.hear(FindingReport.of(ONE, replace(OPEN, tag=f"{number}")))
    changes = reported.take()
    assert (len(changes), changes[-1][1].tag, reported.dropped) == (CHANGES_MAX, f"{CHANGES_MAX + 9}", 10)
    assert sum(map(len, reported._states.values())) <= STREAMS_MAX + 2 * FINDINGS_MAX


def test_a_change_that_is_undone_before_it_is_taken_is_taken_as_it_is_now() -> None:
    reported = ReportedFindings()
    for finding in (OPEN, CLEARED, replace(OPEN, tag="b"), OPEN):
        reported.hear(FindingReport.of(ONE, finding))
    assert reported.take() == [(ONE, replace(OPEN, tag="b")), (ONE, OPEN)]
    assert reported.take() == []


def test_the_findings_of_a_stream_are_told_up_to_their_bound_and_forgotten_with_the_stream() -> None:
    unsent = Unsent()
    findings = [(ONE, [replace(OPEN, tag=f"{number}") for number in range(FINDINGS_MAX + 5)])]
    changes = list(unsent.changes(findings))
    assert len(changes) == FINDINGS_MAX
    for change in changes:
        unsent.sent(*change)
    assert not list(unsent.changes(findings))
    assert not list(unsent.changes([]))
    assert len(list(unsent.changes(findings))) == FINDINGS_MAX


def test_reports_of_findings_are_no_news_of_the_projection() -> None:
    health = ReportedHealth()
    health.child_started(0.0)
    health.hear(OpenReport({}), 1.0)
    assert health.trouble(2.0) == "the projection is starting"
    health.hear(ProjectionReport(changed(ProjectionCounts(), records=1), {}, ProjectionState()), 3.0)
    assert health.trouble(4.0) == ""
