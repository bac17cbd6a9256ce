"""Feeds the rules with the samples of one stream.

Most records are scalars, and most of their tags have no role. Such a record costs a sum, which is finite when all
values are, and a look into a table. Points of curves wait until there are CHUNK_POINTS of them, until they span
CHUNK_SECONDS of the run's own time, or until a record of another kind comes: this depends on the records alone.
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Final, TypeAlias

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

CHUNK_POINTS: Final = 16
CHUNK_SECONDS: Final = 5.0
# Rows of an embedding, and rows and columns of a matrix, that are measured: more cost time and change the third digit.
ROWS_MAX: Final = 512
COLUMNS_MAX: Final = 2_048
# Tags of one role that are watched; layers that are watched.
TAGS_PER_ROLE_MAX: Final = 64
LAYERS_MAX: Final = 2_048
_PLANS_MAX: Final = 256
_SUSPECTS_MAX: Final = 256
_SQUARE_MIN: Final = 4
_Row: TypeAlias = tuple[int, int, Mapping[str, float]]


@dataclass(slots=True, repr=False)
class _Plan:
    """The curves with a role in records of one set of tags, and the records (step, time in ns, values) that wait.

    With ``paces``, the records are training steps, and their times tell how long a step takes.
    """

    curves: list[tuple[str, Role]]
    paces: bool = False
    waiting: list[_Row] = field(default_factory=list)
    last: _Row | None = None


class Watch:
    """Watches one stream with ``rules``.

    Each method takes what a record says, in the order of the records, and returns the findings that open or clear.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.facts = Facts()
        self._rules: defaultdict[Role, list[Rule]] = defaultdict(list)
        known = tuple(rules)
        for rule in known:
            for role in rule.roles | rule.also:
                self._rules[role].append(rule)
        self.ledger = Ledger(known)
        self._measures: dict[tuple[str, str], Measure] = {}
        self._tags: defaultdict[Role, dict[str, None]] = defaultdict(dict)
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._layers: dict[Role, Layers] = {}
        self._suspects: dict[str, None] = {}
        self._waiting_since_ns = 0

    def start(self, step: int, settings: Mapping[str, ParameterValue]) -> list[Finding]:
        """Take the start of the stream: its first step and its settings."""
        self.facts.first_step = step
        self.facts.learn_settings(settings)
        return []

    def settings(self, settings: Mapping[str, ParameterValue]) -> list[Finding]:
        """Take settings that come later."""
        self.facts.learn_settings(settings)
        return []

    def scalars(self, step: int, wall_time_ns: int, values: Mapping[str, float]) -> list[Finding]:
        """Take the scalars of one step."""
        found = []
        if not isfinite(sum(values.values())) or self._suspects:
            found += self._look_for_non_finite(step, values)
        if self._layers and any(layers.step != step for layers in self._layers.values()):
            found += self._flush_layers()
        tags = tuple(values)
        plan = self._plans.get(tags)
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:  # a program that makes up tags
                found += self.flush()
                self._plans.clear()
            plan = self._plan(tags, step)
        if plan.curves:
            if not plan.waiting:
                self._waiting_since_ns = self._waiting_since_ns or wall_time_ns
            plan.waiting.append((step, wall_time_ns, values))
            if wall_time_ns - self._waiting_since_ns > CHUNK_SECONDS * 1e9:
                found += self.flush()
            elif len(plan.waiting) >= CHUNK_POINTS:
                found += self._flush_plan(plan)
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
        for plan in self._plans.values():
            if plan.waiting:
                found += self._flush_plan(plan)
        self._waiting_since_ns = 0
        return found

    def not_checked(self) -> list[NotChecked]:
        """Return the rules that gave no verdict, and why."""
        return self.ledger.not_checked(self._tags.keys())

    def _plan(self, tags: tuple[str, ...], step: int) -> _Plan:
        curves = [(tag, role) for tag in tags if (role := role_of_curve(tag)) is not None]
        pacing = any(role in (Role.LOSS, Role.LEARNING_RATE, Role.GRADIENT_NORM) for _, role in curves)
        paces = pacing and not any(plan.paces for plan in self._plans.values())
        plan = self._plans[tags] = _Plan(curves, paces)
        if tags and Role.ANY_VALUE not in self._tags:
            self._feed(Role.ANY_VALUE, tags[0], NonFinite(tags[0], "scalar", step, 1, 0))
        return plan

    def _flush_plan(self, plan: _Plan) -> list[Finding]:
        rows, found = plan.waiting, list[Finding]()
        plan.waiting = []
        for tag, role in plan.curves:
            good = [(row[0], row[2][tag], row[1] / 1e9) for row in rows if isfinite(row[2][tag])]
            if not good:
                continue
            steps, values, times = map(list, zip(*good, strict=True))
            self.facts.take(role, tag, steps, values)
            found += self._feed(role, tag, Points(tag, steps, values, times))
        if plan.paces:
            found += self._feed_paces(plan, rows)
        return found

    def _feed_paces(self, plan: _Plan, rows: list[_Row]) -> list[Finding]:
        before = [plan.last, *rows] if plan.last is not None else rows
        plan.last = rows[-1]
        pairs = [(a, b) for a, b in pairwise(before) if b[0] > a[0] and b[1] >= a[1]]
        if not pairs:
            return []
        seconds = [(b[1] - a[1]) / 1e9 / (b[0] - a[0]) for a, b in pairs]
        points = Points("", [b[0] for _, b in pairs], seconds, [b[1] / 1e9 for _, b in pairs])
        return self._feed(Role.PACE, "", points)

    def _flush_layers(self) -> list[Finding]:
        waiting, self._layers = self._layers, {}
        return [finding for role, layers in waiting.items() for finding in self._feed(role, "", layers)]

    def _look_for_non_finite(self, step: int, values: Mapping[str, float]) -> list[Finding]:
        found = []
        for tag, value in values.items():
            if not isfinite(value) or tag in self._suspects:
                count = 0 if isfinite(value) else 1
                self._suspect(tag, count)
                found += self._feed(Role.ANY_VALUE, tag, NonFinite(tag, "scalar", step, 1, count))
        return found

    def _suspect(self, tag: str, non_finite: int) -> None:
        if non_finite and len(self._suspects) < _SUSPECTS_MAX:
            self._suspects[tag] = None
        elif not non_finite:
            self._suspects.pop(tag, None)

    def _feed(self, role: Role, tag: str, sample: Sample) -> list[Finding]:
        """Give a sample to the rules of its role. A rule that raises an error is not asked again."""
        tags, key = self._tags[role], "" if role is Role.ANY_VALUE else tag
        if key not in tags:
            if len(tags) >= TAGS_PER_ROLE_MAX:
                return []
            tags[key] = None
        found = []
        for rule in self._rules[role]:
            if self.ledger.has_failed(rule):
                continue
            try:
                found += self._judge(rule, "" if rule.together else key, sample)
            except Exception as error:  # noqa: BLE001 - a rule that fails costs its own verdict alone
                self.ledger.note_failed(rule, error)
        return found

    def _judge(self, rule: Rule, key: str, sample: Sample) -> list[Finding]:
        measure = self._measures.get((rule.name, key))
        if measure is None:
            measure = self._measures[rule.name, key] = rule.measure(self.facts)
        found = []
        for measured in measure(sample):
            if not rule.warm_up or measured.step >= self.facts.warm_up_end:
                change = self.ledger.judge(rule, measured)
                if change is not None:
                    found.append(change)
        return found


def fingerprint(*numbers: float) -> int:
    """Return a number that changes when one of ``numbers`` changes."""
    return zlib.crc32(struct.pack(f"<{len(numbers)}d", *numbers))
