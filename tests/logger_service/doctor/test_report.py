"""What is said: the table, the JSON, the exit code; and how the verdicts of attempts become one diagnosis."""

import json
from itertools import permutations

import pytest

from tensorboard_sidecar.logger_service.doctor.report import ROWS_MAX, describe, exit_code, to_json
from tensorboard_sidecar.logger_service.doctor.verdict import (
    Diagnosis,
    RunFinding,
    RunNotChecked,
    Verdict,
    diagnose,
)
from tensorboard_sidecar.logger_service.findings.ledger import NotChecked
from tensorboard_sidecar.logger_service.findings.silence import SILENT_MIN_SECONDS
from tensorboard_sidecar.protocol.finding import Finding, Severity

NOW_NS = 1_800_000_000 * 10**9
NAN, INFINITY = float("nan"), float("inf")


def make_finding(
    rule: str = "loss-spike",
    severity: Severity = "warn",
    tag: str = "loss/train",
    state: str = "open",
    *,
    first_step: int = 1200,
    last_step: int = 1216,
    peak: float = 3.2,
    evidence: dict[str, float] | None = None,
    advice: str = "Look at the batches of these steps. People lower the learning rate, or clip gradients.",
) -> Finding:
    given = {"value": 6.4, "usual": 2.0} if evidence is None else evidence
    return Finding(rule, severity, tag, state, first_step, last_step, 9, peak, given, advice)  # type: ignore[arg-type]


SICK = Verdict(
    "team/sick",
    findings=[
        make_finding(
            *("non-finite-scalar", "error", "loss/train"),
            first_step=1300,
            last_step=1300,
            evidence={"non_finite": 1.0},
            advice="Find the first tensor that is not finite. People lower the learning rate.",
        ),
        make_finding(),
        make_finding(tag="loss/text"),
        make_finding("lr-zero", tag="lr", state="cleared", evidence={}),
    ],
    not_checked=[NotChecked("overfitting", "no validation loss"), NotChecked("clipping", "no gradient norm")],
)
KILLED = Verdict(
    "killed",
    rank=1,
    not_checked=[NotChecked("loss-spike", "no training loss"), NotChecked("clipping", "no gradient norm")],
    ended=False,
    last_step=70,
    last_ns=NOW_NS - 3 * 3600 * 10**9,
)
DAMAGED = RunNotChecked("killed", "*", "damaged: 0001.segment at byte 7: torn frame\x1b[2J")

TABLE = """\
run            severity  rule               tag         steps           evidence                                                           state
team/sick      error     non-finite-scalar  loss/train  1,300           non_finite 1                                                       open
team/sick      warn      loss-spike         loss/text   1,200 to 1,216  value 6.4, usual 2                                                 open
team/sick      warn      loss-spike         loss/train  1,200 to 1,216  value 6.4, usual 2                                                 open
killed rank 1  info      no-end             -           70              no end was recorded: killed, or still running; silent for 3 hours  open
team/sick      warn      lr-zero            lr          1,200 to 1,216  -                                                                  cleared

what to do
  non-finite-scalar: Find the first tensor that is not finite. People lower the learning rate.
  loss-spike: Look at the batches of these steps. People lower the learning rate, or clip gradients.
  no-end: No end was recorded: the process was killed, or it still runs and logs nothing. Look
    whether it is there; what it logged before it was killed is kept.

not checked
  damaged: 0001.segment at byte 7: torn frame\\x1b[2J (killed)
  loss-spike: no training loss (killed)
  clipping: no gradient norm
  overfitting: no validation loss (team/sick)

2 runs, 16 of 20 checks made: 1 error and 2 warnings open, 1 cleared
"""  # noqa: E501 - a table as wide as it is


def diagnosis(*verdicts: Verdict, unread: tuple[RunNotChecked, ...] = ()) -> Diagnosis:
    copies = [
        Verdict(
            *(one.run, one.rank, one.attempt, [*one.findings], [*one.not_checked]),
            *(one.superseded, one.ended, one.last_step, one.last_ns),
        )
        for one in verdicts
    ]
    return diagnose(copies, unread, NOW_NS)


def lines(found: Diagnosis, width: int | None = None, *, colour: bool = False) -> list[str]:
    return list(describe(found, 10, width=width, colour=colour))


def test_the_table_is_as_it_always_was() -> None:
    assert "\n".join(lines(diagnosis(SICK, KILLED, unread=(DAMAGED,)))) + "\n" == TABLE


def test_the_order_of_runs_does_not_matter() -> None:
    third = Verdict("third", findings=[make_finding()], not_checked=[NotChecked("clipping", "no gradient norm")])
    assert len({to_json(diagnosis(*several)) for several in permutations((SICK, KILLED, third))}) == 1


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    said = lines(diagnosis(SICK, KILLED, unread=(DAMAGED,)), width)
    assert max(map(len, said)) <= width
    assert "".join("".join(said).split()).count("non-finite-scalar") >= (1 if width >= 100 else 0)


def test_colours_mark_the_severity_on_a_terminal_alone() -> None:
    found = diagnosis(SICK)
    assert "\x1b" not in "".join(lines(found, 100))
    coloured = "\n".join(lines(found, 100, colour=True))
    assert "\x1b[31merror" in coloured
    for escape in ("\x1b[31m", "\x1b[33m", "\x1b[0m"):
        coloured = coloured.replace(escape, "")
    assert coloured.split() == " ".join(lines(found, 100)).split()


def test_a_healthy_run_is_one_line_and_what_was_not_checked() -> None:
    assert lines(diagnosis(Verdict("good"))) == ["1 run, 10 of 10 checks made: 0 errors and 0 warnings open, 0 cleared"]


def test_a_long_table_ends_with_the_number_of_the_others() -> None:
    found = Diagnosis([RunFinding(f"run-{n}", 0, 0, make_finding()) for n in range(ROWS_MAX + 7)], [], 300)
    assert "... and 7 more; --json has all" in lines(found)
    assert len(json.loads(to_json(found))["findings"]) == ROWS_MAX + 7


def test_many_runs_of_one_reason_are_one_line() -> None:
    several = [Verdict(f"run-{n}", not_checked=[NotChecked("clipping", "no gradient norm")]) for n in range(9)]
    assert "  clipping: no gradient norm" in lines(diagnosis(*several))
    assert "  clipping: no gradient norm (run-0, run-1, run-2, run-3 and 5 more runs)" in lines(
        diagnosis(*several, Verdict("other"))
    )


def test_json_has_the_promised_fields_and_no_number_that_is_none() -> None:
    finding = make_finding(peak=NAN, evidence={"value": INFINITY, "usual": 2.0})
    text = to_json(diagnosis(Verdict("run", 1, 2, findings=[finding], not_checked=[NotChecked("clipping", "why")])))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(text, parse_constant=refuse)
    assert found == {
        "findings": [
            {
                "rule": "loss-spike",
                "severity": "warn",
                "run": "run",
                "rank": 1,
                "attempt": 2,
                "tag": "loss/train",
                "state": "open",
                "first_step": 1200,
                "last_step": 1216,
                "count": 9,
                "peak": None,
                "evidence": {"value": None, "usual": 2.0},
                "advice": finding.advice,
            }
        ],
        "not_checked": [{"run": "run", "rule": "clipping", "reason": "why"}],
    }


def test_the_exit_code_is_that_of_the_gravest_open_finding() -> None:
    def code(*findings: Finding) -> int:
        return exit_code(diagnosis(Verdict("run", findings=[*findings])))

    info, warning, error = (make_finding(severity=severity) for severity in ("info", "warn", "error"))
    cleared = make_finding(severity="error", state="cleared")
    assert [code(), code(info), code(cleared), code(warning, cleared), code(error, warning)] == [0, 0, 0, 5, 4]


def test_a_later_attempt_ends_the_findings_of_the_earlier() -> None:
    before = Verdict("run", findings=[make_finding()], superseded=True, ended=False, last_ns=1)
    found = diagnosis(before, Verdict("run", attempt=1))
    assert [one.finding.state for one in found.findings] == ["cleared"]
    assert (exit_code(found), found.runs) == (0, 1)
    (row,) = [line for line in lines(found) if "loss-spike" in line]
    assert row.endswith("cleared")


def test_a_rule_is_not_checked_where_no_process_of_the_last_attempt_had_a_verdict() -> None:
    lacks = [NotChecked("loss-spike", "no training loss"), NotChecked("clipping", "no gradient norm")]
    earlier = Verdict("run", attempt=0, superseded=True)
    found = diagnosis(
        Verdict("run", rank=1, attempt=1, not_checked=lacks),
        Verdict("run", rank=0, attempt=1, not_checked=lacks[1:]),
        earlier,
    )
    assert found.not_checked == [("run", "clipping", "no gradient norm")]


@pytest.mark.parametrize(
    ("age_seconds", "ended", "superseded", "said"),
    [
        (SILENT_MIN_SECONDS, False, False, True),
        (SILENT_MIN_SECONDS - 1, False, False, False),
        (SILENT_MIN_SECONDS, True, False, False),
        (SILENT_MIN_SECONDS, False, True, False),
        (-3600, False, False, False),
    ],
    ids=["silent", "goes on", "ended", "resumed", "a clock in the future"],
)
def test_a_run_that_fell_silent_without_an_end_is_information(
    age_seconds: float, ended: bool, superseded: bool, said: bool
) -> None:
    last_ns = NOW_NS - int(age_seconds * 1e9)
    one = Verdict("run", ended=ended, superseded=superseded, last_ns=last_ns, last_step=7)
    found = diagnosis(one)
    assert [finding.finding.rule for finding in found.findings] == ["no-end"] * said
    assert exit_code(found) == 0
