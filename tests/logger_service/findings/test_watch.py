"""The watch feeds rules with samples: every point once, in order, in chunks, and nothing that a rule cannot take."""

import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.findings import ledger
from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.samples import (
    Ended,
    Layer,
    Layers,
    Missing,
    NonFinite,
    Points,
    Sample,
    Similarity,
    Space,
)
from tensorboard_sidecar.logger_service.findings.watch import (
    CHUNK_POINTS,
    CHUNK_SECONDS,
    LAYERS_MAX,
    ROWS_MAX,
    TAGS_PER_ROLE_MAX,
    Watch,
    fingerprint,
)

S = 10**9
NAN = float("nan")
LAYER = Layer(10, 0, 1.0, -1.0, 1.0, 7)
ALL = frozenset(Role)


def rule(measure: Callable[[Facts], Measure], name: str = "seen", **options: Any) -> Rule:
    settings: dict[str, Any] = {"roles": ALL, "enter": 1.0, "clear": 0.5, "warm_up": False} | options
    texts = dict.fromkeys(("formula", "needs", "advice", "source"), "text")
    return Rule(name=name, severity="warn", measure=measure, **texts, **settings)


class Seen:
    """A watch with one rule, which notes its samples and measures nothing."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

        def measure(sample: Sample) -> Iterable[Measured]:
            self.samples.append(sample)
            return []

        self.watch = Watch([rule(lambda _facts: measure)])

    def points(self, tag: str) -> list[tuple[int, float]]:
        """Return all points of a curve."""
        return [
            point
            for sample in self.samples
            if isinstance(sample, Points) and sample.tag == tag
            for point in zip(sample.steps, sample.values, strict=True)
        ]

    def of(self, kind: type) -> list[Any]:
        return [sample for sample in self.samples if isinstance(sample, kind)]


def test_points_of_a_curve_come_in_chunks_with_their_times() -> None:
    seen = Seen()
    for step in range(CHUNK_POINTS + 1):
        seen.watch.scalars(step, step * S // 100, {"loss": step / 2, "x": 0.0})
    (chunk,) = [points for points in seen.of(Points) if points.tag == "loss"]
    assert chunk.steps == list(range(CHUNK_POINTS))
    assert chunk.values == [step / 2 for step in chunk.steps]
    assert chunk.times_s == [step / 100 for step in chunk.steps]
    assert seen.points("x") == []


def test_points_of_slow_steps_come_after_a_few_seconds_of_the_runs_own_time() -> None:
    seen = Seen()
    for step in range(4):
        seen.watch.scalars(step, step * int(CHUNK_SECONDS * S) // 2, {"loss": 1.0})
        assert len(seen.points("loss")) == (0 if step < 3 else 4)


def test_a_record_without_a_role_flushes_points_that_have_waited_for_long() -> None:
    seen = Seen()
    seen.watch.scalars(0, 0, {"loss": 1.0})
    seen.watch.scalars(0, int(CHUNK_SECONDS * S) + 1, {"x": 1.0})
    assert seen.points("loss") == [(0, 1.0)]


OTHERS: dict[str, Callable[[Watch], Any]] = {
    "a matrix": lambda watch: watch.matrix(1, "m", np.eye(3)),
    "an embedding": lambda watch: watch.embedding(1, "e", np.eye(3), []),
    "a gap": lambda watch: watch.missing(1, 1, "lost"),
    "an end": lambda watch: watch.end(1),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_a_record_of_another_kind_flushes_all_points_that_wait(other: Callable[[Watch], Any]) -> None:
    seen = Seen()
    seen.watch.scalars(0, 0, {"loss": 1.0})
    seen.watch.scalars(0, 0, {"val/loss": 2.0})
    other(seen.watch)
    assert (seen.points("loss"), seen.points("val/loss")) == ([(0, 1.0)], [(0, 2.0)])


curves = st.sampled_from(["loss", "lr", "val/loss", "grad_norm", "epoch", "x", "y"])
numbers = st.floats(-10, 10, width=32) | st.sampled_from([NAN, float("inf"), 1e308])
records = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 10 * S), st.dictionaries(curves, numbers, max_size=5)),
    max_size=3 * CHUNK_POINTS,
)


@given(records, st.booleans())
def test_every_finite_point_of_a_curve_is_seen_once_and_in_order(
    said: list[tuple[int, int, dict[str, float]]], canonical: bool
) -> None:
    """Whatever sets of tags a run logs, and also when the caller knows that two records have the same tags."""
    seen, tags = Seen(), dict[tuple[str, ...], tuple[str, ...]]()
    for step, time_ns, values in said:
        known = tags.setdefault(tuple(values), tuple(values))
        seen.watch.scalars(step, time_ns, values, known if canonical else None)
    seen.watch.end(100)
    for tag in ("loss", "lr", "val/loss", "grad_norm", "epoch"):
        expected = [(step, values[tag]) for step, _, values in said if isfinite(values.get(tag, NAN))]
        assert seen.points(tag) == expected
    for sample in seen.of(Points):
        assert 0 < len(sample.steps) == len(sample.values) == len(sample.times_s) <= 16 * CHUNK_POINTS
    bad = [(tag, step) for step, _, values in said for tag, value in values.items() if not isfinite(value)]
    assert [(one.tag, one.step) for one in seen.of(NonFinite) if one.non_finite] == bad


@given(records)
def test_the_watch_is_the_same_whether_the_caller_knows_the_tags_or_not(
    said: list[tuple[int, int, dict[str, float]]],
) -> None:
    one, other, tags = Watch(RULES), Watch(RULES), dict[tuple[str, ...], tuple[str, ...]]()
    for step, time_ns, values in said:
        known = tags.setdefault(tuple(values), tuple(values))
        assert one.scalars(step, time_ns, values, known) == other.scalars(step, time_ns, values)
    assert one.end(100) == other.end(100)
    assert one.ledger.findings == other.ledger.findings
    assert one.not_checked() == other.not_checked()


def test_a_program_that_logs_point_by_point_has_whole_chunks_of_each_curve() -> None:
    seen = Seen()
    for step in range(CHUNK_POINTS):
        for tag in ("loss", "lr", "grad_norm"):
            seen.watch.scalars(step, 0, {tag: float(step)})
    assert {(points.tag, len(points.values)) for points in seen.of(Points) if points.tag} == {
        ("loss", CHUNK_POINTS),
        ("lr", CHUNK_POINTS - 1),
        ("grad_norm", CHUNK_POINTS - 1),
    }


def test_records_that_wait_are_bounded_whatever_their_tags() -> None:
    seen = Seen()
    for step in range(16 * CHUNK_POINTS):
        seen.watch.scalars(step, 0, {"loss": 1.0, f"x {step % 200}": 1.0})
    assert [step for step, _ in seen.points("loss")] == list(range(16 * CHUNK_POINTS))


def test_a_tag_that_was_not_finite_is_said_to_be_finite_again_once() -> None:
    seen = Seen()
    for step, value in enumerate((1.0, NAN, 1.0, 1.0)):
        seen.watch.scalars(step, 0, {"a": value, "b": 1.0})
    assert seen.of(NonFinite) == [
        NonFinite("a", "scalar", 0, 1, 0),  # so that the rules have a verdict
        NonFinite("b", "scalar", 0, 1, 0),
        NonFinite("a", "scalar", 1, 1, 1),
        NonFinite("a", "scalar", 2, 1, 0),
    ]


def test_a_tag_that_is_not_finite_is_not_said_to_be_finite_in_another_set_of_tags() -> None:
    seen = Seen()
    seen.watch.scalars(1, 0, {"a": NAN})
    seen.watch.scalars(2, 0, {"a": NAN, "b": 1.0})
    assert [(one.tag, one.step, one.non_finite) for one in seen.of(NonFinite)] == [
        ("a", 1, 1),
        ("b", 2, 0),
        ("a", 2, 1),
    ]


def test_values_whose_sum_alone_is_infinite_are_finite() -> None:
    seen = Seen()
    seen.watch.scalars(1, 0, {"loss": 1e308, "x": 1e308})
    seen.watch.end(2)
    assert [one.non_finite for one in seen.of(NonFinite)] == [0, 0]
    assert seen.points("loss") == [(1, 1e308)]


def test_the_pace_is_the_time_a_step_between_records_of_training_steps() -> None:
    seen = Seen()
    times_s = [0, 10, 20, 20, 15, 40]
    for step, time_s in zip((0, 10, 12, 12, 13, 14), times_s, strict=True):
        seen.watch.scalars(step, time_s * S, {"loss": 1.0})
    seen.watch.scalars(50, 1000 * S, {"val/loss": 1.0})
    seen.watch.scalars(15, 1100 * S, {"loss": 1.0})
    seen.watch.end(0)
    assert seen.points("") == [(10, 1.0), (12, 5.0), (14, 25.0), (15, 1060.0)]


def test_layers_of_one_step_are_judged_together_by_the_next_step_at_the_latest() -> None:
    seen = Seen()
    for tag in ("gradients/a.weight", "gradients/b.weight", "weights/a.weight", "other"):
        seen.watch.layer(3, tag, LAYER, 0)
    seen.watch.scalars(3, 0, {"x": 1.0})
    assert seen.of(Layers) == []
    seen.watch.scalars(4, 0, {"x": 1.0})
    assert seen.of(Layers) == [
        Layers(3, {"gradients/a.weight": LAYER, "gradients/b.weight": LAYER}),
        Layers(3, {"weights/a.weight": LAYER}),
    ]
    seen.watch.layer(5, "weights/a.weight", LAYER, 2)
    seen.watch.layer(6, "weights/a.weight", LAYER, 0)
    assert [layers.step for layers in seen.of(Layers)] == [3, 3, 5]
    assert [(one.kind, one.step, one.values, one.non_finite) for one in seen.of(NonFinite)[1:]] == [
        ("weight", 5, 10, 2),
        ("weight", 6, 10, 0),
    ]


def test_a_square_matrix_of_similarities_alone_is_judged_and_cut() -> None:
    seen = Seen()
    seen.watch.matrix(1, "similarity/a_vs_b", np.eye(ROWS_MAX + 8, dtype=np.float16))
    for tag, values in (("confusion", np.eye(8)), ("similarity", np.ones((4, 5))), ("similarity", np.eye(3))):
        seen.watch.matrix(2, tag, values)
    seen.watch.matrix(3, "similarity", np.full((8, 8), NAN))
    ((tag, step, values),) = seen.of(Similarity)
    assert (tag, step, values.shape, values.dtype) == ("similarity/a_vs_b", 1, (ROWS_MAX, ROWS_MAX), np.float64)


def test_rows_of_an_embedding_are_chosen_with_their_groups() -> None:
    seen = Seen()
    vectors = np.arange(2.0 * ROWS_MAX)[:, None].repeat(3, axis=1)
    seen.watch.embedding(1, "joint", vectors, [f"group {row}" for row in range(2 * ROWS_MAX)])
    seen.watch.embedding(2, "bad", np.full((8, 3), float("inf")), [])
    (space,) = seen.of(Space)
    assert space.vectors.shape == (ROWS_MAX, 3)
    assert space.groups == [f"group {vector[0]:.0f}" for vector in space.vectors]


def test_gaps_and_the_end_are_samples() -> None:
    seen = Seen()
    seen.watch.missing(3, 7, "lost")
    seen.watch.end(9)
    assert seen.samples == [Missing(3, 7, "lost"), Ended(9)]


def test_a_rule_that_raises_an_error_gives_no_verdict_and_costs_no_other_rule() -> None:
    asked: list[Sample] = []

    def failing(sample: Sample) -> Iterable[Measured]:
        asked.append(sample)
        raise ZeroDivisionError("oh")

    def bad(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Ended)
        return [Measured("", sample.step, 2.0, {})]

    roles = frozenset({Role.STREAM})
    watch = Watch([rule(lambda _: failing, "failing", roles=roles), rule(lambda _: bad, "good", roles=roles)])
    assert [finding.rule for finding in watch.end(1)] == ["good"]
    watch.end(2)
    assert len(asked) == 1
    assert watch.not_checked() == [("failing", "the rule failed: ZeroDivisionError('oh')")]


def test_measures_of_the_warm_up_do_not_count() -> None:
    def every(sample: Sample) -> Iterable[Measured]:
        assert isinstance(sample, Points)
        return [Measured(sample.tag, step, 2.0, {}) for step in sample.steps]

    watch = Watch([rule(lambda _: every, roles=frozenset({Role.LOSS}), warm_up=True)])
    watch.start(1000, {"max_steps": 3000})
    for step in (1000, 1149):
        watch.scalars(step, 0, {"loss": 1.0})
    assert watch.flush() == []
    watch.scalars(1150, 0, {"loss": 1.0})
    assert [finding.first_step for finding in watch.flush()] == [1150]


def test_each_tag_has_a_measure_of_its_own_unless_the_rule_measures_all_together() -> None:
    made: list[str] = []

    def making(name: str) -> Callable[[Facts], Measure]:
        def make(_facts: Facts) -> Measure:
            made.append(name)
            return lambda _sample: []

        return make

    curve = frozenset({Role.LOSS, Role.VALIDATION_LOSS})
    watch = Watch([rule(making("each"), "each", roles=curve), rule(making("all"), "all", roles=curve, together=True)])
    watch.scalars(1, 0, {"loss": 1.0, "other_loss": 1.0, "val/loss": 1.0})
    watch.flush()
    assert sorted(made) == ["all", "each", "each", "each"]


def test_tags_beyond_the_bound_of_a_role_are_not_watched() -> None:
    seen = Seen()
    seen.watch.scalars(1, 0, {f"loss_{number}": 1.0 for number in range(TAGS_PER_ROLE_MAX + 5)})
    seen.watch.end(2)
    assert len(seen.of(Points)) == TAGS_PER_ROLE_MAX


def test_roles_that_wait_to_be_judged_are_not_said_to_be_absent() -> None:
    watch = Watch(RULES)
    watch.scalars(1, 0, {"loss": 1.0})
    watch.layer(1, "gradients/a.weight", LAYER, 0)
    reasons = dict(watch.not_checked())
    assert reasons["loss-spike"].startswith("needs ")
    assert reasons["zero-gradient"].startswith("needs ")
    assert reasons["lr-zero"] == "no learning rate"


HOSTILE: dict[str, Callable[[Watch, int], Any]] = {
    "new tags in each record": lambda watch, n: watch.scalars(n, n * S, {f"loss {n}": 1.0, f"val/loss {n}": NAN}),
    "new tags in each point": lambda watch, n: watch.scalars(n, n, {f"train_loss/{n}": float(n)}),
    "new layers": lambda watch, n: watch.layer(n // (2 * LAYERS_MAX), f"gradients/{n}.weight", LAYER, n % 2),
    "new matrices": lambda watch, n: watch.matrix(n, f"similarity/{n}", np.eye(4)),
    "new gaps": lambda watch, n: watch.missing(n, 1, f"reason {n}"),
    "new settings": lambda watch, n: watch.settings({f"name {n}": n}),
}


@pytest.mark.parametrize("feed", HOSTILE.values(), ids=list(HOSTILE))
def test_a_program_that_makes_up_names_fills_no_memory(
    feed: Callable[[Watch, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "EPISODES_MAX", 400)
    watch = Watch(RULES)
    sizes = []
    tracemalloc.start()
    try:
        for number in range(7_500):
            feed(watch, number)
            if number % 2_500 == 2_499:
                watch.flush()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] < 8 * 2**20
    assert sizes[2] - sizes[1] < 2**20, "it has stopped to grow"


def test_a_long_run_takes_no_more_memory_than_a_short_one() -> None:
    tags = ("loss", "lr", "grad_norm", "temperature", "val/loss", "epoch", "telemetry/lag_seconds", "x")
    values = [dict.fromkeys(tags, 1.0 + number % 7 / 10) for number in range(97)]
    watch, sizes = Watch(RULES), []
    tracemalloc.start()
    try:
        for step in range(15_000):
            watch.scalars(step, step * S // 10, values[step % 97], None)
            if step % 5_000 == 4_999:
                watch.flush()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] < 2**20
    assert all(after - before < 2**16 for before, after in pairwise(sizes[1:]))


def test_a_fingerprint_changes_with_each_number() -> None:
    assert fingerprint(1.0, 2.0) == fingerprint(1.0, 2.0)
    assert len({fingerprint(1.0, 2.0), fingerprint(2.0, 1.0), fingerprint(1.0, 2.0 + 1e-15), fingerprint(1.0)}) == 4
