"""Which findings are open, which are cleared, and which rules had nothing to judge."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Episode, Measured, Rule
from tensorboard_sidecar.protocol.finding import Finding

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
        self._episodes: dict[tuple[str, str], Episode] = {}
        self.left_out = 0

    def judge(self, rule: Rule, measured: Measured) -> Finding | None:
        """Take a measure; return the finding that it opens or clears."""
        self._judged.add(rule.name)
        key = rule.name, measured.tag
        episode = self._episodes.get(key)
        if episode is None:
            if not rule.is_bad(measured.value):
                return None
            if len(self._episodes) >= EPISODES_MAX:
                self.left_out += 1
                return None
            episode = self._episodes[key] = Episode(rule, measured.tag)
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
        found = [episode.finding for episode in self._episodes.values() if episode.finding is not None]
        return sorted(found, key=by_gravity)[:FINDINGS_MAX]

    @property
    def open_count(self) -> int:
        """The number of open findings above information."""
        found = (episode.finding for episode in self._episodes.values())
        return sum(one is not None and one.state == "open" and one.severity != "info" for one in found)

    def not_checked(self, seen: Collection[Role]) -> list[NotChecked]:
        """Return the rules without a verdict; ``seen`` are the roles that had a sample."""
        missing = []
        for rule in self._rules:
            if rule.name in self._failed:
                missing.append(NotChecked(rule.name, self._failed[rule.name]))
            elif rule.name not in self._judged:
                absent = sorted(role for role in rule.roles if role not in seen)
                reason = f"needs {rule.needs}" if not absent else f"no {' and no '.join(absent)}"
                missing.append(NotChecked(rule.name, reason))
        return missing


_GRAVITY: Final = {"error": 0, "warn": 1, "info": 2}


def by_gravity(finding: Finding) -> tuple[bool, int, str, str]:
    """Sort key: open findings first, the gravest first, then by rule and tag."""
    return finding.state == "cleared", _GRAVITY[finding.severity], finding.rule, finding.tag
