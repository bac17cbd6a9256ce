"""docs/FINDINGS.md says of every rule what the code says."""

import pytest
from support.findings_page import PAGE, with_tables

from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.protocol import limits


def test_the_tables_of_the_page_are_those_of_the_registry() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_tables(page), "run: python tests/support/findings_page.py"


def test_every_role_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert [role.value for role in Role if f"| {role.value} |" not in page] == []


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_a_rule_says_everything_about_itself(rule: Rule) -> None:
    assert rule.needs
    assert rule.source
    assert rule.formula
    assert rule.false_alarms
    assert 1 <= rule.advice.count(". ") + rule.advice.endswith(".") <= 3
    assert max(map(len, (rule.name, rule.advice))) <= limits.FINDING_TEXT_MAX_CHARACTERS


def test_names_are_unique() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
