"""What the rules say about recordings that are there, and how near each rule came to its threshold."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.records import UNWATCHED, observe
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.samples import Sample
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader


class Opened(NamedTuple):
    """A finding as it was at the end of a stream, and the step of the record at which it opened first."""

    at: int
    finding: Finding


class Verdict(NamedTuple):
    """What the rules say about the streams of one run.

    ``not_checked`` holds the rules that gave no verdict on any stream, and why. ``nearest`` is, for each rule, the
    enter threshold at which its first finding of this run would just open.
    """

    opened: list[Opened]
    not_checked: dict[str, str]
    nearest: dict[str, float]

    def by_rule(self) -> dict[str, Opened]:
        """Return the finding of each rule that opened first."""
        found: dict[str, Opened] = {}
        for opened in sorted(self.opened, key=lambda one: one.at):
            found.setdefault(opened.finding.rule, opened)
        return found


def judge(recordings: Path) -> Verdict:
    """Show each stream below ``recordings`` to a watch of its own."""
    verdict = Verdict([], {}, {})
    rules = [_noting_the_nearest(rule, verdict.nearest) for rule in RULES]
    judged: set[str] = set()
    for folder in sorted({segment.parent for segment in recordings.rglob("*.segment")}):
        watch, first = Watch(rules), dict[tuple[str, str], int]()
        reader = RecordingReader(folder)
        while records := reader.read():
            for record in records:
                message = None if record.kind in UNWATCHED else decode_message(record)
                for finding in observe(watch, record, message):
                    first.setdefault((finding.rule, finding.tag), record.step)
        reader.close()
        verdict.opened.extend(Opened(first[one.rule, one.tag], one) for one in watch.ledger.findings)
        reasons = {entry.rule: entry.reason for entry in watch.not_checked()}
        verdict.not_checked.update(reasons)
        judged |= {rule.name for rule in rules} - reasons.keys()
    for name in judged:
        verdict.not_checked.pop(name, None)
    return verdict


def _noting_the_nearest(rule: Rule, nearest: dict[str, float]) -> Rule:
    """Return the rule; its measures are noted in ``nearest``."""
    mildest, worse = (max, min) if rule.enter < rule.clear else (min, max)

    def measure_of(facts: Facts) -> Measure:
        measure = rule.measure(facts)
        last: dict[str, deque[float]] = {}

        def noting(sample: Sample) -> Iterable[Measured]:
            for measured in measure(sample):
                if not rule.warm_up or measured.step >= facts.warm_up_end:
                    values = last.setdefault(measured.tag, deque(maxlen=rule.running))
                    values.append(measured.value)
                    if len(values) == rule.running:
                        opens = mildest(values)
                        nearest[rule.name] = worse(nearest.get(rule.name, opens), opens)
                yield measured

        return noting

    return replace(rule, measure=measure_of)
