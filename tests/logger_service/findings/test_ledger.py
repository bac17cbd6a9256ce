"""The ledger: which findings there are, in which order, how many, and which rules gave no verdict."""

from dataclasses import replace

import pytest

from tensorboard_sidecar.logger_service.findings import ledger as module
from tensorboard_sidecar.logger_service.findings.ledger import FINDINGS_MAX, Ledger, NotChecked
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measured, Rule
from tensorboard_sidecar.logger_service.findings.rules.curves import LOSS_SPIKE

WARN = replace(LOSS_SPIKE, name="warn", enter=2.0, clear=1.0, running=1, needs="a loss")
ERROR = replace(WARN, name="error", severity="error", roles=frozenset({Role.LOSS, Role.RECALL}))
INFO = replace(WARN, name="info", severity="info", roles=frozenset({Role.STREAM}))


def judge(ledger: Ledger, rule: Rule, tag: str, *values: float, first_step: int = 0) -> list[str]:
    measures = [Measured(tag, step, value, {}) for step, value in enumerate(values)]
    return [finding.state for finding in ledger.judge(rule, measures, first_step)]


def test_measures_of_one_rule_open_and_clear_findings_by_tag() -> None:
    ledger = Ledger([WARN])
    assert judge(ledger, WARN, "a", 1.5, 0.5) == []
    assert judge(ledger, WARN, "a", 3.0, 0.5, 3.0, 3.0) == ["open", "cleared", "open"]
    assert judge(ledger, WARN, "b", 0.5) == []
    assert judge(ledger, WARN, "b", 4.0) == ["open"]
    assert {finding.tag for finding in ledger.findings} == {"a", "b"}


def test_calm_measures_between_bad_ones_break_their_row() -> None:
    """Also when no finding is open: what runs must run without a pause."""
    twice = replace(WARN, running=2)
    ledger = Ledger([twice])
    assert judge(ledger, twice, "a", 3.0) == []
    assert judge(ledger, twice, "a", 0.5) == []
    assert judge(ledger, twice, "a", 3.0) == []
    assert judge(ledger, twice, "a", 3.0) == ["open"]


def test_measures_before_the_first_step_do_not_count() -> None:
    ledger = Ledger([WARN])
    assert judge(ledger, WARN, "a", 3.0, 3.0, first_step=2) == []
    assert ledger.not_checked({Role.LOSS}) == [NotChecked("warn", "needs a loss")]
    assert judge(ledger, WARN, "a", 3.0, 3.0, 3.0, first_step=2) == ["open"]
    assert ledger.findings[0].first_step == 2
    assert ledger.not_checked({Role.LOSS}) == []


def test_findings_are_sorted_by_gravity_and_information_does_not_count_as_open() -> None:
    ledger = Ledger([WARN, ERROR, INFO])
    judge(ledger, INFO, "x", 3.0)
    judge(ledger, ERROR, "z", 3.0, 0.0)
    judge(ledger, WARN, "b", 3.0)
    judge(ledger, ERROR, "y", 3.0)
    judge(ledger, WARN, "a", 3.0)
    assert [(one.rule, one.tag, one.state) for one in ledger.findings] == [
        ("error", "y", "open"),
        ("warn", "a", "open"),
        ("warn", "b", "open"),
        ("info", "x", "open"),
        ("error", "z", "cleared"),
    ]
    assert ledger.open_count == 3


def test_findings_and_tags_are_bounded_and_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EPISODES_MAX", FINDINGS_MAX + 10)
    ledger = Ledger([WARN, ERROR])
    for number in range(FINDINGS_MAX + 20):
        judge(ledger, WARN, f"{number:04d}", 3.0)
    judge(ledger, ERROR, "a", 3.0)
    assert (len(ledger.findings), ledger.left_out, ledger.open_count) == (FINDINGS_MAX, 11, FINDINGS_MAX + 10)
    assert judge(ledger, WARN, "0000", 0.0) == ["cleared"], "those that are known go on"


def test_rules_without_a_verdict_say_what_they_lack() -> None:
    ledger = Ledger([WARN, ERROR, INFO])
    assert ledger.not_checked(set()) == [
        ("warn", "no training loss"),
        ("error", "no recall of one direction of retrieval and no training loss"),
        ("info", "needs a loss"),
    ]
    ledger.note_failed(WARN, ValueError("x" * 500))
    judge(ledger, INFO, "", 0.0)
    (failed, error) = ledger.not_checked({Role.LOSS})
    assert ledger.has_failed(WARN)
    assert failed.reason.startswith("the rule failed: ValueError('xxx")
    assert len(failed.reason) < 250
    assert error == ("error", "no recall of one direction of retrieval")
