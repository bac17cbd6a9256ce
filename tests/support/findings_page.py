"""The tables of docs/FINDINGS.md, made of the registry of rules.

After a change of a rule, ``python tests/support/findings_page.py`` writes the tables anew.
"""

import re
from collections.abc import Iterable
from math import isinf
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES

PAGE: Final = Path(__file__).parents[2] / "docs" / "FINDINGS.md"
RULES_HEADING: Final = "## Rules"
SOURCES_HEADING: Final = "## Sources and false alarms"


def rules_table(rules: Iterable[Rule]) -> str:
    """Return the table of what is measured, and when findings open and clear."""
    rows = [
        (
            f"`{rule.name}`",
            rule.severity,
            rule.formula,
            opens(rule),
            clears(rule),
            "yes" if rule.warm_up else "no",
            rule.needs,
        )
        for rule in rules
    ]
    return table(("rule", "severity", "measure", "opens", "clears", "skips the warm-up", "needs"), rows)


def sources_table(rules: Iterable[Rule]) -> str:
    """Return the table of what people do about a finding, where thresholds are from, and which findings are wrong."""
    rows = [(f"`{rule.name}`", rule.advice, rule.source, rule.false_alarms) for rule in rules]
    return table(("rule", "advice", "thresholds from", "known false alarms"), rows)


def opens(rule: Rule) -> str:
    """Return when a finding opens."""
    return f"{'<' if rule.enter < rule.clear else '>'} {rule.enter:g}{times(rule.running, rule.for_steps)}"


def clears(rule: Rule) -> str:
    """Return when a finding clears."""
    if isinf(rule.clear):
        return "never"
    return f"{'>' if rule.enter < rule.clear else '<'} {rule.clear:g}{times(rule.clear_running)}"


def times(running: int, steps: int = 0) -> str:
    """Return how often in a row, and over how many steps, a measure lies beyond its threshold."""
    often = f", {running} running" if running > 1 else ""
    return often + (f", for {steps} steps" if steps else "")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in markdown."""
    cells = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def with_tables(page: str) -> str:
    """Return the page with its two tables made anew."""
    for heading, made in ((RULES_HEADING, rules_table(RULES)), (SOURCES_HEADING, sources_table(RULES))):
        before, found, after = page.partition(f"{heading}\n")
        if not found:
            raise ValueError(f"the page has no heading {heading}")
        page = (
            before
            + found
            + re.sub(r"(?:^\|.*\n)+", lambda _, made=made: f"{made}\n", after, count=1, flags=re.MULTILINE)
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
