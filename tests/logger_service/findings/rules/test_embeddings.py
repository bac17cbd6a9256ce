"""The rules on embeddings, fed through a watch as the records of a run feed them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tensorboard_sidecar.logger_service.findings.geometry import unit_rows
from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules import embeddings
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.finding import Finding

Array = NDArray[np.float64]
STEPS = 100


def run(*rules: Rule) -> Watch:
    """Return a watch of a run of 100 steps."""
    watch = Watch(rules or embeddings.RULES)
    watch.start(0, {"total_steps": STEPS})
    return watch


def sphere(count: int = 64, dimensions: int = 32, seed: int = 0) -> Array:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dimensions)))


def cone(width: float, seed: int = 0) -> Array:
    """Return unit vectors close to each other."""
    return unit_rows(np.eye(32)[0] + width * sphere(seed=seed))


def told(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.rule, one.tag, one.state) for one in found]


def show(watch: Watch, spaces: list[Array], *, first: int = 20, recall: float = 0.5) -> list[Finding]:
    """Show the embeddings of evaluations, each with its recall."""
    found = []
    for step, vectors in enumerate(spaces, first):
        found += watch.scalars(step, step * 10**9, {"val/a_to_b/recall_at_1": recall})
        found += watch.embedding(step, "space", vectors, [])
    return found


def test_a_healthy_space_is_no_finding() -> None:
    watch = run()
    assert show(watch, [sphere(seed=n) for n in range(10)]) == []
    for step in range(40, 50):
        assert watch.matrix(step, "similarity/a_vs_b", sphere() @ sphere().T) == []


def test_a_constant_encoder_is_told_at_its_second_evaluation_and_cleared() -> None:
    watch = run(embeddings.CONSTANT_EMBEDDING)
    assert show(watch, [cone(1e-4)]) == []
    (found,) = show(watch, [cone(1e-4)], first=30)
    assert (found.rule, found.tag, found.first_step, found.last_step) == ("constant-embedding", "space", 20, 30)
    assert found.evidence["spread"] < 0.001
    assert told(show(watch, [sphere()], first=40)) == [("constant-embedding", "space", "cleared")]


def test_the_first_fifth_of_a_run_is_not_judged() -> None:
    watch = run()
    assert show(watch, [cone(1e-4)] * 14, first=6) == []
    assert watch.matrix(19, "similarity/a_vs_b", np.full((64, 64), 0.99)) == []


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_components_that_stop_to_deviate_are_told_at_any_scale(scale: float) -> None:
    watch, found = run(embeddings.CONSTANT_EMBEDDING), list[Finding]()
    for step in range(STEPS):
        norm = scale * (1 + step)
        std = norm * (0.1 if step < 50 else 1e-4)
        values = {"embeddings/text/dimension_std": std, "embeddings/text/norm": norm}
        found += watch.scalars(step, step * 10**9, values)
    assert told(found) == [("constant-embedding", "embeddings/text/dimension_std", "open")]
    assert 50 <= found[0].first_step < 66


def test_components_that_shrink_with_the_norm_are_no_finding() -> None:
    watch = run(embeddings.CONSTANT_EMBEDDING)
    for step in range(STEPS):
        norm = 0.9**step
        values = {"embeddings/text/dimension_std": 0.1 * norm, "embeddings/text/norm": norm}
        assert watch.scalars(step, step * 10**9, values) == []
    assert watch.end(STEPS) == []
    assert watch.not_checked() == []


def test_deviations_without_a_norm_are_not_checked() -> None:
    watch = run(embeddings.CONSTANT_EMBEDDING)
    for step in range(STEPS):
        assert watch.scalars(step, step * 10**9, {"embeddings/text/dimension_std": 1e-9}) == []
    assert [one.rule for one in watch.not_checked()] == ["constant-embedding"]


def test_similarities_that_are_all_high_are_a_collapse() -> None:
    watch = run(embeddings.EMBEDDING_COLLAPSE)
    assert watch.matrix(20, "similarity/a_vs_b", np.full((16, 16), 0.95)) == []
    (found,) = watch.matrix(30, "similarity/a_vs_b", np.full((16, 16), 0.95))
    assert (found.first_step, found.evidence) == (20, {"off_diagonal_mean": 0.95, "diagonal_margin": 0.0})
    assert told(watch.matrix(40, "similarity/a_vs_b", np.eye(16))) == [
        ("embedding-collapse", "similarity/a_vs_b", "cleared")
    ]


def test_high_similarities_with_a_diagonal_and_logits_are_no_collapse() -> None:
    watch = run(embeddings.EMBEDDING_COLLAPSE)
    for step in range(20, 30):
        assert watch.matrix(step, "similarity/a_vs_b", np.full((16, 16), 0.91) + 0.08 * np.eye(16)) == []
        assert watch.matrix(step, "logits/a_vs_b", np.full((16, 16), 14.0)) == []


def test_a_low_rank_is_told_only_while_scores_fall() -> None:
    flat = np.outer(np.linspace(-1, 1, 64), np.ones(32)) + 1e-6 * sphere()
    watch = run(embeddings.LOW_EFFECTIVE_RANK)
    assert show(watch, [flat] * 5, recall=0.5) == []
    assert show(watch, [flat], first=30, recall=0.39) == []
    (found,) = show(watch, [flat], first=31, recall=0.39)
    assert found.evidence == {
        "effective_rank": pytest.approx(1.0, abs=0.01),
        "possible_rank": 32,
        "score_over_best": 0.78,
    }
    assert told(show(watch, [flat], first=40, recall=0.5)) == [("low-effective-rank", "space", "cleared")]
    assert show(watch, [sphere()] * 5, first=50, recall=0.1) == []


def test_a_rank_without_scores_is_not_checked() -> None:
    watch = run(embeddings.LOW_EFFECTIVE_RANK)
    for step in range(20, 30):
        assert watch.embedding(step, "space", sphere(), []) == []
    assert [one.rule for one in watch.not_checked()] == ["low-effective-rank"]


def test_crowded_vectors_are_told_at_the_third_evaluation_of_a_contrastive_run() -> None:
    found = show(run(embeddings.UNIFORMITY), [cone(0.2)] * 5)
    assert [(one.rule, one.first_step, one.last_step) for one in found] == [("uniformity", 20, 22)]
    watch = run(embeddings.UNIFORMITY)
    assert [watch.embedding(step, "features", cone(0.2), []) for step in range(20, 30)] == [[]] * 10
    assert [one.rule for one in watch.not_checked()] == ["uniformity"]


def test_vectors_that_are_leaving_their_cone_are_no_finding() -> None:
    """A healthy run with a slow encoder: its uniformity was -0.02, -0.09, -0.27, -0.28, -0.89."""
    widths = [0.1, 0.22, 0.4, 0.4, 0.9, 0.9]
    assert show(run(embeddings.UNIFORMITY), [cone(width) for width in widths]) == []


def test_modalities_in_separate_regions_are_information() -> None:
    watch = run(embeddings.MODALITY_GAP)
    both = np.vstack([cone(0.3), -cone(0.3, seed=1)])
    groups = ["text"] * 64 + ["image"] * 64
    (found,) = [one for step in (20, 21, 22) for one in watch.embedding(step, "joint", both, groups)]
    assert (found.rule, found.severity, found.evidence["modalities"]) == ("modality-gap", "info", 2)
    together = np.vstack([sphere(), sphere(seed=1)])
    assert told(watch.embedding(30, "joint", together, groups)) == [("modality-gap", "joint", "cleared")]


def test_a_space_of_one_modality_has_no_gap() -> None:
    watch = run(embeddings.MODALITY_GAP)
    for step in range(20, 30):
        assert watch.embedding(step, "text", cone(0.1), ["text"] * 64) == []
        assert watch.embedding(step, "text", cone(0.1), []) == []
    assert [one.rule for one in watch.not_checked()] == ["modality-gap"]


def test_hubs_of_a_matrix_are_told_in_either_direction() -> None:
    hubs = np.random.default_rng(0).uniform(-0.2, 0.2, (64, 64))
    hubs[:, :2] += 0.5
    for matrix in (hubs, hubs.T):
        watch = run(embeddings.HUBNESS)
        (found,) = [one for step in (20, 21, 22) for one in watch.matrix(step, "similarity/a_vs_b", matrix)]
        assert (found.rule, found.severity) == ("hubness", "info")


def test_few_vectors_have_no_hubs() -> None:
    watch = run(embeddings.HUBNESS)
    for step in range(20, 30):
        assert watch.embedding(step, "space", sphere(49), []) == []
    assert [one.rule for one in watch.not_checked()] == ["hubness"]


@pytest.mark.parametrize(
    "change",
    [lambda vectors: 1e6 * vectors, lambda vectors: vectors[::-1], lambda vectors: np.roll(vectors, 1, axis=1)],
    ids=["scale", "order", "axes"],
)
def test_scale_order_and_axes_change_no_finding(change: Callable[[Array], Array]) -> None:
    def story(change: Callable[[Array], Array]) -> list[Finding]:
        watch, spaces = run(), [cone(0.01), cone(0.01), cone(0.01), sphere(), cone(0.3), cone(0.3)]
        return show(watch, [change(space) for space in spaces], recall=0.5)

    assert told(story(change)) == told(story(lambda vectors: vectors)) != []


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(1, 8), st.floats(-1e30, 1e30), st.floats(0, 1e30), st.integers(0, 2**32 - 1))
def test_no_rule_fails_on_any_finite_space(count: int, dimensions: int, base: float, scale: float, seed: int) -> None:
    chance = np.random.default_rng(seed)
    watch = run()
    for step in range(20, 24):
        vectors = (base + scale * chance.uniform(-1, 1, (count, dimensions))).astype(np.float32)
        show(watch, [vectors], first=step, recall=float(chance.uniform(0, 1)))
        watch.embedding(step, "joint", vectors, [str(n % 3) for n in range(count)])
        watch.matrix(step, "similarity/a", np.resize(vectors, (count, count)))
    assert [one.reason for one in watch.not_checked() if "failed" in one.reason] == []
