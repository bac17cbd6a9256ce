"""What the doctor says: a table for people, JSON for programs, and an exit code for scripts."""

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any, Final

from tensorboard_sidecar.logger_service.doctor.verdict import EVERY_RULE, NO_END, Diagnosis, RunFinding
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.printable import printable

EXIT_WELL: Final = 0
EXIT_ERRORS: Final = 4
EXIT_WARNINGS: Final = 5
# Rows of the table; the last line counts the others. Names of runs in a line.
ROWS_MAX: Final = 200
_RUNS_SHOWN_MAX: Final = 4
_HEAD: Final = ("run", "severity", "rule", "tag", "steps", "evidence", "state")
_GAP: Final = 2
_COLUMN_MIN: Final = 8
# In a narrower terminal each finding is a paragraph.
_TABLE_MIN: Final = len(_HEAD) * (_COLUMN_MIN + _GAP)
_TEXT_WIDTH_MAX: Final = 100
_COLOURS: Final = {"error": "\x1b[31m", "warn": "\x1b[33m", "info": "\x1b[36m"}
_PLAIN: Final = "\x1b[0m"


def exit_code(found: Diagnosis) -> int:
    """Return 4 when an error is open, 5 when a warning is, else 0."""
    severities = found.open_severities
    if "error" in severities:
        return EXIT_ERRORS
    return EXIT_WARNINGS if "warn" in severities else EXIT_WELL


def to_json(found: Diagnosis) -> str:
    """Return ``{"findings": [...], "not_checked": [...]}``. A number that is not finite is null."""
    findings = [_finding_fields(one) for one in found.findings]
    not_checked = [one._asdict() for one in found.not_checked]
    return json.dumps({"findings": findings, "not_checked": not_checked}, indent=2, allow_nan=False)


def describe(found: Diagnosis, rules: int, *, width: int | None, colour: bool) -> Iterator[str]:
    """Yield the lines for people; ``rules`` is their number. Without a ``width``, no cell is wrapped."""
    shown = found.findings[:ROWS_MAX]
    if shown:
        if width is not None and width < _TABLE_MIN:
            for one in shown:
                yield from _paragraph(f"{one.run}: {one.finding}", width)
        else:
            yield from _table([_row(one) for one in shown], width, [one.finding for one in shown] if colour else [])
        if len(found.findings) > ROWS_MAX:
            yield f"... and {len(found.findings) - ROWS_MAX:,} more; --json has all"
        yield ""
    text_width = min(width or _TEXT_WIDTH_MAX, _TEXT_WIDTH_MAX)
    if advice := {one.finding.rule: one.finding.advice for one in shown if one.finding.state == "open"}:
        yield "what to do"
        for rule, text in advice.items():
            yield from _paragraph(f"{rule}: {text}", text_width)
        yield ""
    if found.not_checked:
        yield "not checked"
        for line in _not_checked(found):
            yield from _paragraph(line, text_width)
        yield ""
    yield from textwrap.wrap(_summary(found, rules), width or 10_000)


def _finding_fields(one: RunFinding) -> dict[str, Any]:
    finding = one.finding
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "run": one.run,
        "rank": one.rank,
        "attempt": one.attempt,
        "tag": finding.tag,
        "state": finding.state,
        "first_step": finding.first_step,
        "last_step": finding.last_step,
        "count": finding.count,
        "peak": _number(finding.peak),
        "evidence": {name: _number(value) for name, value in finding.evidence.items()},
        "advice": finding.advice,
    }


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _row(one: RunFinding) -> tuple[str, ...]:
    run, rank, attempt, finding = one
    ranked = f"{run} rank {rank}" if rank else run
    steps = f"{finding.first_step:,}"
    if finding.last_step != finding.first_step:
        steps += f" to {finding.last_step:,}"
    state = finding.state if finding.state == "open" or not attempt else f"{finding.state}, attempt {attempt}"
    cells = (ranked, finding.severity, finding.rule, finding.tag or "-", steps, _evidence(finding), state)
    return tuple(map(printable, cells))


def _evidence(finding: Finding) -> str:
    if finding.rule == NO_END:
        return f"no end was recorded: killed, or still running; silent for {duration(finding.peak)}"
    return ", ".join(f"{name} {value:.4g}" for name, value in finding.evidence.items()) or "-"


def duration(seconds: float) -> str:
    """Return a duration for people.

    >>> duration(400), duration(3 * 3600), duration(10 * 86400)
    ('6 minutes', '3 hours', '10 days')
    """
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} seconds"


def _table(rows: Sequence[tuple[str, ...]], width: int | None, coloured: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines of a table; cells are wrapped so that a line has ``width`` characters at most."""
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    while width is not None and sum(widths) + _GAP * (len(widths) - 1) > width:
        widest = max(range(len(widths)), key=lambda place: (widths[place], place))
        if widths[widest] <= _COLUMN_MIN:
            break
        widths[widest] -= 1
    for number, row in enumerate([_HEAD, *rows]):
        cells = [textwrap.wrap(cell, size) or [""] for cell, size in zip(row, widths, strict=True)]
        for line in range(max(map(len, cells))):
            texts = [
                (cell[line] if line < len(cell) else "").ljust(size) for cell, size in zip(cells, widths, strict=True)
            ]
            if coloured and number:
                texts[1] = f"{_COLOURS[coloured[number - 1].severity]}{texts[1]}{_PLAIN}"
            yield (" " * _GAP).join(texts).rstrip()


def _not_checked(found: Diagnosis) -> Iterator[str]:
    """Yield a line for each reason: the rules, and the runs if these are not all."""
    reasons: defaultdict[str, defaultdict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    by_run: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for one in found.not_checked:
        by_run[one.reason, one.run].append(one.rule)
    for (reason, run), rules in by_run.items():
        reasons[reason][tuple(rules)].append(run)
    for reason, several in reasons.items():
        for names, runs in several.items():
            of = f"{', '.join(names)}: " if names != (EVERY_RULE,) else ""
            where = "" if len(runs) == found.runs and of else f" ({_few(runs)})"
            yield f"{of}{reason}{where}"


def _few(runs: Sequence[str]) -> str:
    others = len(runs) - _RUNS_SHOWN_MAX
    return ", ".join(runs[:_RUNS_SHOWN_MAX]) + (f" and {others:,} more runs" if others > 0 else "")


def _paragraph(text: str, width: int) -> Iterable[str]:
    return textwrap.wrap(printable(text), width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _summary(found: Diagnosis, rules: int) -> str:
    open_now: list[str] = [one.finding.severity for one in found.findings if one.finding.state == "open"]
    counts = [
        f"{open_now.count(severity):,} {name}{'' if open_now.count(severity) == 1 else 's'}"
        for severity, name in (("error", "error"), ("warn", "warning"))
    ]
    cleared = len(found.findings) - len(open_now)
    runs = f"{found.runs:,} {'run' if found.runs == 1 else 'runs'}"
    unchecked = sum(one.rule != EVERY_RULE for one in found.not_checked)
    judged = rules * found.runs - unchecked
    return (
        f"{runs}, {judged:,} of {rules * found.runs:,} checks made: {counts[0]} and {counts[1]} open,"
        f" {cleared:,} cleared"
    )
