"""What the rules say of one attempt of a run, and how the attempts of a run become one diagnosis."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from tensorboard_sidecar.logger_service.findings.ledger import NotChecked
from tensorboard_sidecar.logger_service.findings.silence import SILENT_MIN_SECONDS
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.finding import Finding, by_gravity

NO_END: Final = "no-end"
_NO_END_ADVICE: Final = (
    "No end was recorded: the process was killed, or it still runs and logs nothing. Look whether it is there; what it"
    " logged before it was killed is kept."
)


@dataclass(slots=True)
class Verdict:
    """What the rules say of one attempt of one process.

    ``superseded``: a later attempt of the run exists, so that nothing is open any more. ``last_step`` and ``last_ns``
    are those of the last record; ``ended`` is False for a stream that should have an end and has none. Such a stream
    goes on, unless its last record is older than ``silent_seconds``.
    """

    run: str
    rank: int = 0
    attempt: int = 0
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    superseded: bool = False
    ended: bool = True
    last_step: int = 0
    last_ns: int = 0
    silent_seconds: float = SILENT_MIN_SECONDS

    def take(self, watch: Watch) -> None:
        """Take the findings of a watch at the end of what there is to see."""
        watch.flush()
        self.findings, self.not_checked = watch.ledger.findings, watch.not_checked()

    def conclude(self, wall_time_ns: int) -> None:
        """Clear the findings of an attempt that is superseded; add a finding to a run that fell silent."""
        if self.superseded:
            self.findings = [replace(finding, state="cleared") for finding in self.findings]
            return
        seconds = (wall_time_ns - self.last_ns) / 1e9
        if not self.ended and self.last_ns and seconds >= self.silent_seconds:
            self.findings.append(
                Finding(
                    *(NO_END, "info", "", "open", self.last_step, self.last_step),
                    *(1, float(round(seconds)), {"silent_seconds": float(round(seconds))}, _NO_END_ADVICE),
                )
            )


class RunFinding(NamedTuple):
    """A finding, and whose it is."""

    run: str
    rank: int
    attempt: int
    finding: Finding


class RunNotChecked(NamedTuple):
    """A rule that gave no verdict for a run, and why; the rule "*" stands for a part that no rule has seen."""

    run: str
    rule: str
    reason: str


EVERY_RULE: Final = "*"


@dataclass(slots=True)
class Diagnosis:
    """The findings of all runs, the gravest first; what was not checked, by run; and the number of judged runs."""

    findings: list[RunFinding]
    not_checked: list[RunNotChecked]
    runs: int

    @property
    def open_severities(self) -> set[str]:
        """The severities of open findings."""
        return {one.finding.severity for one in self.findings if one.finding.state == "open"}


def diagnose(verdicts: Iterable[Verdict], unread: Iterable[RunNotChecked], wall_time_ns: int) -> Diagnosis:
    """Join the verdicts of all attempts.

    A rule is not checked in a run when the last attempt has no process in which the rule gave a verdict.
    """
    findings: list[RunFinding] = []
    current: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        verdict.conclude(wall_time_ns)
        findings += (RunFinding(verdict.run, verdict.rank, verdict.attempt, one) for one in verdict.findings)
        several = current.setdefault(verdict.run, [])
        if not verdict.superseded:
            several.append(verdict)
    not_checked = [*unread]
    for run in sorted(current):
        not_checked += _not_checked(run, sorted(current[run], key=lambda one: one.rank))
    findings.sort(key=lambda one: (*by_gravity(one.finding)[:2], one.run, *by_gravity(one.finding)[2:], *one[1:3]))
    return Diagnosis(findings, not_checked, len(current))


def _not_checked(run: str, verdicts: list[Verdict]) -> Iterable[RunNotChecked]:
    if not verdicts:
        return
    missing = [{one.rule for one in verdict.not_checked} for verdict in verdicts]
    nowhere = set.intersection(*missing)
    for rule, reason in verdicts[0].not_checked:
        if rule in nowhere:
            yield RunNotChecked(run, rule, reason)
