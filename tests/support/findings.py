"""Feeding rules with made-up runs: a rule alone, in chunks of any size, or all rules through a watch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from random import Random

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import role_of_curve
from tensorboard_sidecar.logger_service.findings.rule import Episode, Measured, Rule
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.samples import Points, Sample
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.messages import ParameterValue

STEP_NS = 100_000_000


def noisy(count: int, *, seed: int = 0, spread: float = 0.3) -> list[float]:
    """Return factors around 1, as the batches of a training multiply its loss."""
    chance = Random(seed)
    return [exp(chance.gauss(0, spread)) for _ in range(count)]


def falling(count: int, *, seed: int = 0, spread: float = 0.3, first: float = 2.3, last: float = 0.2) -> list[float]:
    """Return the loss of a healthy training."""
    fall = [last + (first - last) * exp(-5 * number / count) for number in range(count)]
    return [value * factor for value, factor in zip(fall, noisy(count, seed=seed, spread=spread), strict=True)]


@dataclass
class Judge:
    """One rule with its facts: :meth:`feed` returns what opens and clears, as (state, first step of the finding)."""

    rule: Rule
    facts: Facts = field(default_factory=Facts)
    episodes: dict[str, Episode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.measures = {"": self.rule.measure(self.facts)}

    def feed(self, sample: Sample, *, tag: str = "") -> list[Finding]:
        """Feed one sample."""
        key = "" if self.rule.together else tag
        if key not in self.measures:
            self.measures[key] = self.rule.measure(self.facts)
        found = [self._judge(measured) for measured in self.measures[key](sample)]
        return [finding for finding in found if finding is not None]

    def curve(
        self, values: Sequence[float], *, tag: str = "loss", first: int = 1, every: int = 1, chunk: int = 16
    ) -> list[Finding]:
        """Feed a curve in chunks."""
        found = []
        for at in range(0, len(values), chunk):
            some = list(values[at : at + chunk])
            steps = [first + every * (at + number) for number in range(len(some))]
            self.facts.take(role_of_curve(tag), tag, steps, some)
            found += self.feed(Points(tag, steps, some, [0.1 * step for step in steps]), tag=tag)
        return found

    def _judge(self, measured: Measured) -> Finding | None:
        if self.rule.warm_up and measured.step < self.facts.warm_up_end:
            return None
        return self.episodes.setdefault(measured.tag, Episode(self.rule, measured.tag)).add(measured)


def states(found: list[Finding]) -> list[str]:
    """Return the states of findings."""
    return [finding.state for finding in found]


def watched(
    curves: Mapping[str, Sequence[float]],
    *,
    settings: Mapping[str, ParameterValue] | None = None,
    first: int = 1,
    every: int = 1,
) -> tuple[Watch, list[Finding]]:
    """Show a run, one record of scalars a step, to all rules; return the watch, and what opened and cleared."""
    watch, found = Watch(RULES), list[Finding]()
    found += watch.start(first - 1, settings or {})
    tags, step = tuple(curves), first
    for step, row in enumerate(zip(*curves.values(), strict=True)):
        found += watch.scalars(first + step * every, step * STEP_NS, dict(zip(tags, row, strict=True)))
    return watch, found + watch.end(first + step * every)
