"""A rule: a measure of samples, and the thresholds between which a finding opens and clears.

A measure returns a number for each sample that it can judge. The number alone says how bad things are; opening,
counting and clearing are the same for all rules (:class:`Episode`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.samples import Sample
from tensorboard_sidecar.protocol.finding import Finding, Severity

# Digits of the numbers in evidence: enough to compare, and the same from every processor.
_DIGITS: Final = 4


class Measured(NamedTuple):
    """The measure of one sample: ``value`` is compared with the thresholds, ``evidence`` is what it rests on."""

    tag: str
    step: int
    value: float
    evidence: dict[str, float]


Measure: TypeAlias = Callable[[Sample], Iterable[Measured]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:  # Wide: a row of the table in docs/FINDINGS.md
    """One rule.

    A finding opens after ``running`` measures in a row above ``enter`` (below it, if ``enter`` is less than ``clear``)
    that span at least ``for_steps`` steps, and clears at ``clear_running`` measures in a row on the other side of
    ``clear``. ``measure`` makes the measure of one tag, or of all tags when ``together``, from samples of ``roles``,
    without which there is no verdict, and of ``also``. ``formula`` says what is measured, ``needs`` what a verdict
    needs; ``source`` is where the thresholds are from, and ``false_alarms`` which healthy runs open a finding. With
    ``warm_up``, measures of the run's warm-up do not count.
    """

    name: str
    severity: Severity
    roles: frozenset[Role]
    formula: str
    enter: float
    clear: float
    needs: str
    advice: str
    source: str
    measure: Callable[[Facts], Measure]
    running: int = 1
    clear_running: int = 1
    together: bool = False
    warm_up: bool = True
    for_steps: int = 0
    also: frozenset[Role] = frozenset()
    false_alarms: str = ""

    def is_bad(self, value: float) -> bool:
        """Tell whether a measure is beyond the enter threshold; NaN is not."""
        return value < self.enter if self.enter < self.clear else value > self.enter

    def is_good(self, value: float) -> bool:
        """Tell whether a measure is beyond the clear threshold; NaN is not."""
        return value > self.clear if self.enter < self.clear else value < self.clear


@dataclass(slots=True)
class Episode:
    """Opens, counts and clears the findings of one rule and one tag."""

    rule: Rule
    tag: str
    finding: Finding | None = None
    _bad: int = 0
    _good: int = 0
    _first_step: int = 0
    _peak: float = field(default=float("nan"))

    def add(self, measured: Measured) -> Finding | None:
        """Take the next measure; return the finding if it opens or clears."""
        rule, value = self.rule, measured.value
        if rule.is_bad(value):
            return self._add_bad(measured)
        self._bad = 0
        if self.finding is None or self.finding.state == "cleared" or not rule.is_good(value):
            self._good = 0
            return None
        self._good += 1
        if self._good < rule.clear_running:
            return None
        self._good = 0
        self.finding = replace(self.finding, state="cleared")
        return self.finding

    def _add_bad(self, measured: Measured) -> Finding | None:
        self._good = 0
        self._bad += 1
        if self._bad == 1:
            self._first_step, self._peak = measured.step, measured.value
        self._peak = self._worse(self._peak, measured.value)
        found = self.finding
        if found is not None and found.state == "open":
            peak = rounded(self._worse(found.peak, measured.value))
            self.finding = replace(found, last_step=measured.step, count=found.count + 1, peak=peak)
            return None
        rule = self.rule
        if self._bad < rule.running or measured.step - self._first_step < rule.for_steps:
            return None
        evidence = {name: rounded(number) for name, number in measured.evidence.items()}
        before = found.count if found is not None else 0
        first = found.first_step if found is not None else self._first_step
        self.finding = Finding(
            *(rule.name, rule.severity, self.tag, "open", first, measured.step),
            *(before + self._bad, rounded(self._peak), evidence, rule.advice),
        )
        return self.finding

    def _worse(self, a: float, b: float) -> float:
        if isnan(a):
            return b
        return min(a, b) if self.rule.enter < self.rule.clear else max(a, b)


def ratios(
    tag: str, steps: Sequence[int], values: Sequence[float], unit: float, enter: float, evidence: dict[str, float]
) -> list[Measured]:
    """Return measures of values over a unit: of each value above ``enter``, and of the lowest of each stretch between.

    A stretch ends a row of bad measures, and clears a finding if its lowest value does.

    >>> [measured.value for measured in ratios("loss", range(6), [4.0, 1.0, 2.0, 9.0, 8.0, 2.0], 2.0, 3.0, {})]
    [0.5, 4.5, 4.0, 1.0]
    """
    limit = enter * unit
    if max(values) <= limit:  # nearly always
        return [Measured(tag, steps[-1], min(values) / unit, evidence)]
    found, begin = list[Measured](), 0
    for index, value in enumerate(values):
        if value > limit:
            if begin < index:
                found.append(Measured(tag, steps[index - 1], min(values[begin:index]) / unit, evidence))
            found.append(Measured(tag, steps[index], value / unit, {"value": value, **evidence}))
            begin = index + 1
    if begin < len(values):
        found.append(Measured(tag, steps[-1], min(values[begin:]) / unit, evidence))
    return found


def rounded(number: float) -> float:
    """Return a number with four significant digits."""
    return float(f"{number:.{_DIGITS}g}")
