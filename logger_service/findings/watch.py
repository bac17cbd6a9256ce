"""Feeds the rules with the samples of one stream.

Most records are scalars, and most of their tags have no role. Such a record costs a sum, which is finite when all
values are, and a look into a table. Points of curves wait until there are CHUNK_POINTS of them, until they span
CHUNK_SECONDS of the run's own time, or until a record of another kind comes: this depends on the records alone. All
points that wait are then judged together, and the columns of a chunk are made at once.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from math import isfinite
from operator import itemgetter
from typing import Any, Final, TypeAlias

import numpy as np

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.ledger import Ledger, NotChecked
from tensorboard_sidecar.logger_service.findings.roles import Role, is_similarity, role_of_curve, role_of_summary
from tensorboard_sidecar.logger_service.findings.rule import Measure, Rule
from tensorboard_sidecar.logger_service.findings.samples import (
    Ended,
    Floats,
    Layer,
    Layers,
    Missing,
    NonFinite,
    Points,
    Sample,
    Similarity,
    Space,
)
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.messages import ParameterValue

CHUNK_POINTS: Final = 64
CHUNK_SECONDS: Final = 5.0
# Rows of an embedding, and rows and columns of a matrix, that are measured: more cost time and change the third digit.
ROWS_MAX: Final = 512
COLUMNS_MAX: Final = 2_048
# Tags of one role that are watched; layers that are watched.
TAGS_PER_ROLE_MAX: Final = 64
LAYERS_MAX: Final = 2_048
_PLANS_MAX: Final = 256
_SUSPECTS_MAX: Final = 256
_SHOWN_FINITE: Final = 64
_SQUARE_MIN: Final = 4
_CHUNK_NS: Final = int(CHUNK_SECONDS * 1e9)
_NEVER_NS: Final = 2**63
_FIRST_STEP: Final = -(2**63)
# Records that wait, of all sets of tags.
_WAITING_MAX: Final = 16 * CHUNK_POINTS
# The roles of the curves whose records are training steps.
_STEPS: Final = (Role.LOSS, Role.LEARNING_RATE, Role.GRADIENT_NORM)


@dataclass(slots=True, repr=False, eq=False)
class _Plan:
    """The curves with a role in records of one set of tags.

    ``columns`` returns the values of the curves in one record; ``waiting`` is the number of records that wait, and
    ``finite`` is false when a value of these is NaN or infinite. With ``paces``, the records are training steps, and
    their times tell how long a step takes; ``last`` is the step and the time of the last of them.
    """

    tags: tuple[str, ...] = ()
    curves: list[tuple[str, Role]] = field(default_factory=list)
    columns: Callable[[Mapping[str, float]], Sequence[float]] | None = None
    paces: bool = False
    waiting: int = 0
    finite: bool = True
    last: tuple[int, int] | None = None


# A record that waits: its plan, step, time in ns, and values.
_Row: TypeAlias = tuple[_Plan, int, int, Mapping[str, float]]


# Wide: the state of a stream.
class Watch:
    """Watches one stream with ``rules``.

    Each method takes what a record says, in the order of the records, and returns the findings that open or clear.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.facts = Facts()
        known = tuple(rules)
        self.ledger = Ledger(known)
        self._rules: dict[Role, list[Rule]] = {role: [] for role in Role}
        for rule in known:
            for role in rule.roles | rule.also:
                self._rules[role].append(rule)
        # By rule and tag, and by role and tag: the rules that judge it, and their measures.
        self._measures: dict[tuple[str, str], Measure] = {}
        self._judges: dict[Role, dict[str, list[tuple[Rule, Measure]]]] = {role: {} for role in Role}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._plan = _Plan()
        self._waiting: list[_Row] = []
        self._due_ns = _NEVER_NS
        self._layers: dict[Role, Layers] = {}
        self._suspects: dict[str, None] = {}

    def start(self, step: int, settings: Mapping[str, ParameterValue], *, continues: bool = False) -> list[Finding]:
        """Take the start of the stream: its first step, its settings, and whether it goes on with an earlier one."""
        self.facts.first_step = step
        self.facts.continues = continues
        self.facts.learn_settings(settings)
        return []

    def settings(self, settings: Mapping[str, ParameterValue]) -> list[Finding]:
        """Take settings that come later."""
        self.facts.learn_settings(settings)
        return []

    def scalars(
        self, step: int, wall_time_ns: int, values: Mapping[str, float], tags: tuple[str, ...] | None = None
    ) -> list[Finding]:
        """Take the scalars of one step. ``tags`` are those of the values, if the caller has them.

        The call is faster when ``tags`` is the object of the call before.
        """
        found: list[Finding] = []
        plan = self._plan
        if tags is None or tags is not plan.tags:
            plan = self._choose_plan(tuple(values) if tags is None else tags, step, values, found)
        if self._suspects or self._layers or not isfinite(sum(values.values())):
            found += self._look_for_non_finite(step, values, plan)
        if plan.columns is not None:
            waiting = self._waiting
            if not waiting:
                self._due_ns = wall_time_ns + _CHUNK_NS
            waiting.append((plan, step, wall_time_ns, values))
            plan.waiting += 1
            if plan.waiting >= CHUNK_POINTS or len(waiting) >= _WAITING_MAX:
                return found + self.flush()
        if wall_time_ns > self._due_ns:
            found += self.flush()
        return found

    def layer(self, step: int, tag: str, layer: Layer, non_finite: int) -> list[Finding]:
        """Take the summary of one tensor; layers of the same step are judged together."""
        role = role_of_summary(tag)
        if role is None:
            return []
        found = []
        if non_finite or tag in self._suspects:
            kind = "gradient" if role is Role.GRADIENTS else "weight"
            self._suspect(tag, non_finite)
            found += self._feed(Role.ANY_VALUE, tag, NonFinite(tag, kind, step, layer.values, non_finite))
        waiting = self._layers.get(role)
        if waiting is not None and waiting.step != step:
            found += self._flush_layers()
            waiting = None
        if waiting is None:
            waiting = self._layers[role] = Layers(step, {})
        if len(waiting.layers) < LAYERS_MAX:
            waiting.layers[tag] = layer
        return found

    def matrix(self, step: int, tag: str, values: Floats) -> list[Finding]:
        """Take a matrix; only a square matrix of similarities is judged."""
        found = self.flush()
        rows, columns = values.shape
        if rows != columns or rows < _SQUARE_MIN or not is_similarity(tag):
            return found
        values = values[:ROWS_MAX, :ROWS_MAX].astype(np.float64)
        if not np.isfinite(values).all():
            return found
        return found + self._feed(Role.SIMILARITY, tag, Similarity(tag, step, values))

    def embedding(self, step: int, tag: str, vectors: Floats, groups: list[str]) -> list[Finding]:
        """Take embeddings ``[N, D]``; ``groups`` is empty or has the group of each row."""
        found = self.flush()
        chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), ROWS_MAX)).astype(int)
        some = vectors[chosen, :COLUMNS_MAX].astype(np.float64)
        if len(some) < _SQUARE_MIN or not np.isfinite(some).all():
            return found
        space = Space(tag, step, some, [groups[row] for row in chosen] if groups else [])
        return found + self._feed(Role.EMBEDDING, tag, space)

    def missing(self, step: int, records: int, reason: str) -> list[Finding]:
        """Take a gap in the stream."""
        return self.flush() + self._feed(Role.STREAM, "", Missing(step, records, reason))

    def end(self, step: int) -> list[Finding]:
        """Take the end of the stream."""
        return self.flush() + self._feed(Role.STREAM, "", Ended(step))

    def flush(self) -> list[Finding]:
        """Judge the points and layers that wait."""
        found = self._flush_layers()
        rows, self._waiting, self._due_ns = self._waiting, [], _NEVER_NS
        if rows and rows[0][0].waiting == len(rows):  # nearly always
            return found + self._flush_plan(rows[0][0], rows, {})
        by_plan: dict[_Plan, list[_Row]] = {}
        for row in rows:
            by_plan.setdefault(row[0], []).append(row)
        # A curve of several plans: its points are in the order of all records.
        plans_of = Counter(tag for plan in by_plan for tag, _ in plan.curves)
        several = [tag for tag, plans in plans_of.items() if plans > 1]
        merged = {tag: [row for row in rows if tag in row[3]] for tag in several}
        for plan, own in by_plan.items():
            found += self._flush_plan(plan, own, merged)
        return found

    def not_checked(self) -> list[NotChecked]:
        """Return the rules that gave no verdict, and why."""
        waiting = {role for plan, *_ in self._waiting for _, role in plan.curves} | self._layers.keys()
        return self.ledger.not_checked({role for role, tags in self._judges.items() if tags} | waiting)

    def _choose_plan(
        self, tags: tuple[str, ...], step: int, values: Mapping[str, float], found: list[Finding]
    ) -> _Plan:
        plan = self._plans.get(tags)
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:  # a program that makes up tags
                found += self.flush()
                self._plans.clear()
            plan = self._plans[tags] = self._new_plan(tags)
            found += self._show_finite(step, values)
        self._plan = plan
        return plan

    def _new_plan(self, tags: tuple[str, ...]) -> _Plan:
        curves = [(tag, role) for tag in tags if (role := role_of_curve(tag)) is not None]
        pacing = any(role in _STEPS for _, role in curves)
        paces = pacing and not any(plan.paces for plan in self._plans.values())
        return _Plan(tags, curves, _columns([tag for tag, _ in curves]), paces)

    def _show_finite(self, step: int, values: Mapping[str, float]) -> list[Finding]:
        """Show finite values of a new set of tags, so that the rules on scalars, metrics and norms have a verdict."""
        found = []
        for tag, value in islice(values.items(), _SHOWN_FINITE):
            if isfinite(value) and tag not in self._suspects:
                found += self._feed(Role.ANY_VALUE, tag, NonFinite(tag, "scalar", step, 1, 0))
        return found

    def _flush_plan(self, plan: _Plan, rows: list[_Row], merged: dict[str, list[_Row]]) -> list[Finding]:
        finite, found = plan.finite, list[Finding]()
        plan.waiting, plan.finite = 0, True
        assert plan.columns is not None  # noqa: S101 - else no record waits
        _, steps, times_ns, values = map(list, zip(*rows, strict=True))
        times_s = [time_ns / 1e9 for time_ns in times_ns]
        for (tag, role), column in zip(plan.curves, zip(*map(plan.columns, values), strict=True), strict=True):
            if tag not in merged:
                points = Points(tag, steps, list(column), times_s)
                if not finite:
                    points = _finite(points)
            else:
                points = _finite(_points(tag, merged[tag]))
                merged[tag] = []  # judged once
            if points.values:
                self.facts.take(role, tag, points.steps, points.values)
                found += self._feed(role, tag, points)
        if plan.paces:
            found += self._feed_paces(plan, steps, times_ns)
        return found

    def _feed_paces(self, plan: _Plan, steps: list[int], times_ns: list[int]) -> list[Finding]:
        last_step, last_ns = plan.last if plan.last is not None else (steps[0], times_ns[0])
        plan.last = steps[-1], times_ns[-1]
        paces = [
            (step, (time_ns - before_ns) / 1e9 / (step - before), time_ns / 1e9)
            for before, before_ns, step, time_ns in zip(
                [last_step, *steps], [last_ns, *times_ns], steps, times_ns, strict=False
            )
            if step > before and time_ns >= before_ns
        ]
        if not paces:
            return []
        return self._feed(Role.PACE, "", Points("", *map(list, zip(*paces, strict=True))))

    def _flush_layers(self) -> list[Finding]:
        if not self._layers:
            return []
        waiting, self._layers = self._layers, {}
        return [finding for role, layers in waiting.items() for finding in self._feed(role, "", layers)]

    def _look_for_non_finite(self, step: int, values: Mapping[str, float], plan: _Plan) -> list[Finding]:
        """Look at each value; judge the layers that wait, if the record is of another step."""
        found = []
        for tag, value in values.items():
            if not isfinite(value) or tag in self._suspects:
                count = 0 if isfinite(value) else 1
                plan.finite &= not count
                self._suspect(tag, count)
                found += self._feed(Role.ANY_VALUE, tag, NonFinite(tag, "scalar", step, 1, count))
        if any(layers.step != step for layers in self._layers.values()):
            found += self._flush_layers()
        return found

    def _suspect(self, tag: str, non_finite: int) -> None:
        if non_finite and len(self._suspects) < _SUSPECTS_MAX:
            self._suspects[tag] = None
        elif not non_finite:
            self._suspects.pop(tag, None)

    def _feed(self, role: Role, tag: str, sample: Sample) -> list[Finding]:
        """Give a sample to the rules of its role. A rule that raises an error is not asked again."""
        tags, key = self._judges[role], "" if role is Role.ANY_VALUE else tag
        judges = tags.get(key)
        if judges is None:
            if len(tags) >= TAGS_PER_ROLE_MAX:
                return []
            judges = tags[key] = [(rule, self._measure(rule, key)) for rule in self._rules[role]]
        found, warm_up_end = [], self.facts.warm_up_end
        for rule, measure in judges:
            if not self.ledger.has_failed(rule):
                try:
                    found += self.ledger.judge(rule, measure(sample), warm_up_end if rule.warm_up else _FIRST_STEP)
                except Exception as error:  # noqa: BLE001 - a rule that fails costs its own verdict alone
                    self.ledger.note_failed(rule, error)
        return found

    def _measure(self, rule: Rule, key: str) -> Measure:
        name = rule.name, "" if rule.together else key
        measure = self._measures.get(name)
        if measure is None:
            measure = self._measures[name] = rule.measure(self.facts)
        return measure


def _columns(tags: Sequence[str]) -> Callable[[Mapping[str, float]], Sequence[float]] | None:
    """Return a function from a record's values to those of some tags, None without tags."""
    if not tags:
        return None
    pick: Any = itemgetter(*tags)  # of a single tag: the value, not a tuple
    return pick if len(tags) > 1 else lambda values: (pick(values),)


def _points(tag: str, rows: list[_Row]) -> Points:
    return Points(tag, [row[1] for row in rows], [row[3][tag] for row in rows], [row[2] / 1e9 for row in rows])


def _finite(points: Points) -> Points:
    """Return the points that are finite."""
    tag, steps, values, times_s = points
    kept = list(map(isfinite, values))
    return Points(tag, list(compress(steps, kept)), list(compress(values, kept)), list(compress(times_s, kept)))


def fingerprint(*numbers: float) -> int:
    """Return a number that changes when one of ``numbers`` changes."""
    return zlib.crc32(struct.pack(f"<{len(numbers)}d", *numbers))
