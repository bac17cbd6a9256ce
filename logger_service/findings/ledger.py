"""Which findings are open, which are cleared, and which rules had nothing to judge."""

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Episode, Measured, Rule
from tensorboard_sidecar.protocol.finding import Finding, by_gravity

# Pairs of a rule and a tag that are followed. Findings beyond are counted, and not described.
EPISODES_MAX: Final = 4_096
FINDINGS_MAX: Final = 256


class NotChecked(NamedTuple):
    """A rule that gave no verdict, and why."""

    rule: str
    reason: str


class Ledger:
    """The findings of one stream. ``left_out`` counts measures of tags beyond EPISODES_MAX."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._judged: set[str] = set()
        self._failed: dict[str, str] = {}
        # By rule and tag.
        self._episodes: dict[str, dict[str, Episode]] = {}
        self._count = 0
        self.left_out = 0

    def judge(self, rule: Rule, measures: Iterable[Measured], first_step: int) -> list[Finding]:
        """Take measures of one rule, from ``first_step`` on; return the findings that they open or clear."""
        counted = [measured for measured in measures if measured.step >= first_step]
        if not counted:
            return []
        self._judged.add(rule.name)
        episodes = self._episodes.get(rule.name)
        if episodes is None:
            if not any(map(rule.is_bad, [measured.value for measured in counted])):
                return []  # nearly always
            episodes = self._episodes[rule.name] = {}
        changes = (self._judge(rule, measured, episodes) for measured in counted)
        return [change for change in changes if change is not None]

    def _judge(self, rule: Rule, measured: Measured, episodes: dict[str, Episode]) -> Finding | None:
        episode = episodes.get(measured.tag)
        if episode is None:
            if not rule.is_bad(measured.value):
                return None
            if self._count >= EPISODES_MAX:
                self.left_out += 1
                return None
            self._count += 1
            episode = episodes[measured.tag] = Episode(rule, measured.tag)
        return episode.add(measured)

    def note_failed(self, rule: Rule, error: Exception) -> None:
        """Note that a rule raised an error: it gives no verdict any more."""
        self._failed.setdefault(rule.name, f"the rule failed: {error!r:.200}")

    def has_failed(self, rule: Rule) -> bool:
        """Tell whether the rule raised an error."""
        return rule.name in self._failed

    @property
    def findings(self) -> list[Finding]:
        """The findings: open before cleared, the gravest first, then by rule and tag; FINDINGS_MAX at most."""
        return sorted(self._found(), key=by_gravity)[:FINDINGS_MAX]

    @property
    def open_count(self) -> int:
        """The number of open findings above information."""
        return sum(one.state == "open" and one.severity != "info" for one in self._found())

    def _found(self) -> Iterator[Finding]:
        for episodes in self._episodes.values():
            for episode in episodes.values():
                if episode.finding is not None:
                    yield episode.finding

    def not_checked(self, seen: Collection[Role]) -> list[NotChecked]:
        """Return the rules without a verdict; ``seen`` are the roles that had a sample."""
        missing = []
        for rule in self._rules:
            if rule.name in self._failed:
                missing.append(NotChecked(rule.name, self._failed[rule.name]))
            elif rule.name not in self._judged:
                absent = sorted(role for role in rule.roles if role not in seen and role is not Role.STREAM)
                reason = f"needs {rule.needs}" if not absent else f"no {' and no '.join(absent)}"
                missing.append(NotChecked(rule.name, reason))
        return missing
