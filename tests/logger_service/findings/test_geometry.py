"""Measures of matrices and embeddings: known answers, and what changes nothing."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tensorboard_sidecar.logger_service.findings import geometry

Array = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


def sphere(count: int, dimensions: int, seed: int = 0) -> Array:
    """Return vectors that are spread evenly over the unit sphere."""
    return geometry.unit_rows(np.random.default_rng(seed).standard_normal((count, dimensions)))


def rotation(dimensions: int, seed: int) -> Array:
    found: Array = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimensions, dimensions)))[0]
    return found


def without_self(vectors: Array) -> Array:
    units = geometry.unit_rows(vectors)
    similarity: Array = units @ units.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity


def test_a_perfect_diagonal() -> None:
    assert geometry.off_diagonal_mean(np.eye(64)) == 0.0
    assert geometry.diagonal_margin(np.eye(64)) == 1.0
    # d = 1 - 1 / N on the diagonal, -1 / N elsewhere: the sum of squares is N - 1.
    assert geometry.diagonal_z(np.eye(64)) == pytest.approx((1 - 1 / 64) * 64)
    assert geometry.k_occurrence_skewness(np.eye(64), 10) == 0.0


def test_a_constant_matrix_and_one_constant_side_have_no_diagonal() -> None:
    """Embeddings are float32: what is left of a row that should be constant is rounding, and no evidence."""
    assert geometry.diagonal_margin(np.full((16, 16), 0.95)) == pytest.approx(0.0)
    assert geometry.diagonal_z(np.full((16, 16), 0.95)) == 0.0
    one_side = (sphere(64, 32) @ sphere(1, 32, seed=1).T @ np.ones((1, 64))).astype(np.float32)
    rounding = np.random.default_rng(0).uniform(-1e-7, 1e-7, (64, 64)) * np.abs(one_side).max()
    assert geometry.diagonal_z(one_side + rounding) == 0.0
    assert geometry.diagonal_z(np.zeros((8, 8))) == 0.0


def test_the_standard_error_is_that_of_random_assignments() -> None:
    chance = np.random.default_rng(5)
    similarity = sphere(40, 8, seed=1) @ sphere(40, 8, seed=2).T + chance.standard_normal(40)
    means = [similarity[np.arange(40), chance.permutation(40)].mean() for _ in range(4_000)]
    expected = (np.trace(similarity) / 40 - similarity.mean()) / np.std(means)
    assert geometry.diagonal_z(similarity) == pytest.approx(expected, rel=0.05)


def test_a_random_matrix_is_rarely_beyond_three_standard_errors() -> None:
    values = [geometry.diagonal_z(sphere(32, 64, 2 * n) @ sphere(32, 64, 2 * n + 1).T) for n in range(300)]
    assert sum(abs(value) > 3 for value in values) <= 6


def test_equal_vectors_have_no_spread_no_rank_and_the_worst_uniformity() -> None:
    same = np.tile(sphere(1, 16), (32, 1))
    assert geometry.relative_spread(same) == pytest.approx(0.0, abs=1e-7)
    assert geometry.effective_rank(same) == 0.0
    assert geometry.uniformity(same) == pytest.approx(0.0, abs=1e-12)
    assert geometry.k_occurrence_skewness(without_self(same), 10) == 0.0
    for zero in (geometry.relative_spread, geometry.effective_rank):
        assert zero(np.zeros((8, 4))) == 0.0


def test_the_rank_of_a_line_is_one_and_that_of_a_cross_is_its_number_of_axes() -> None:
    line = np.outer(np.linspace(-1, 1, 50), sphere(1, 20)[0]) + 3.0
    assert geometry.effective_rank(line) == pytest.approx(1.0, abs=1e-4)
    cross = np.vstack([np.eye(12), -np.eye(12)])
    assert geometry.effective_rank(cross) == pytest.approx(12.0)
    assert geometry.effective_rank(np.hstack([cross, np.zeros((24, 100))])) == pytest.approx(12.0)


def test_the_rank_is_that_of_the_definition() -> None:
    vectors = np.random.default_rng(3).standard_normal((30, 20)) * np.linspace(0.01, 2, 20) + 5
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    shares = values / values.sum()
    assert geometry.effective_rank(vectors) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_uniformity_of_opposite_points_and_of_a_sphere() -> None:
    opposite = np.array([[1.0, 0.0], [-3.0, 0.0]])
    assert geometry.uniformity(opposite) == pytest.approx(-8.0)
    assert geometry.uniformity(sphere(500, 256)) == pytest.approx(-4.0, abs=0.1)


def test_the_gap_of_two_shifted_clusters_is_their_distance() -> None:
    left, right = np.tile([1.0, 0.0], (20, 1)), np.tile([0.0, 5.0], (20, 1))
    assert geometry.modality_gap(np.vstack([left, right]), ["a"] * 20 + ["b"] * 20) == pytest.approx(2**0.5)
    assert geometry.modality_gap(np.vstack([left, left]), ["a"] * 20 + ["b"] * 20) == 0.0
    assert geometry.modality_gap(left, ["a"] * 20) == 0.0


def test_hubs_answer_most_queries() -> None:
    chance = np.random.default_rng(2)
    similarity = chance.standard_normal((100, 100))
    assert abs(geometry.k_occurrence_skewness(similarity, 10)) < 1
    similarity[:, :2] += 10
    assert geometry.k_occurrence_skewness(similarity, 10) > 3


def test_the_skewness_is_that_of_counted_neighbours() -> None:
    similarity = without_self(np.random.default_rng(4).standard_normal((60, 8)) + 0.5)
    counts = np.bincount(np.argsort(-similarity, axis=1)[:, :10].ravel(), minlength=60)
    expected = ((counts - 10) ** 3).mean() / counts.std() ** 3
    assert geometry.k_occurrence_skewness(similarity, 10) == pytest.approx(expected)


OF_MATRICES: dict[str, Callable[[Array], float]] = {
    "off_diagonal_mean": geometry.off_diagonal_mean,
    "diagonal_margin": geometry.diagonal_margin,
    "diagonal_z": geometry.diagonal_z,
    "hubs": lambda similarity: geometry.k_occurrence_skewness(similarity, 5),
}
OF_VECTORS: dict[str, Callable[[Array], float]] = {
    "relative_spread": geometry.relative_spread,
    "effective_rank": geometry.effective_rank,
    "uniformity": geometry.uniformity,
    "hubs": lambda vectors: geometry.k_occurrence_skewness(without_self(vectors), 5),
}


@settings(deadline=None)
@given(SEEDS, st.integers(16, 40), st.sampled_from(sorted(OF_MATRICES)))
def test_the_order_of_pairs_changes_nothing_in_a_matrix(seed: int, count: int, name: str) -> None:
    chance = np.random.default_rng(seed)
    similarity = chance.uniform(-1, 1, (count, count)) + np.eye(count)
    order = chance.permutation(count)
    assert OF_MATRICES[name](similarity[order][:, order]) == pytest.approx(OF_MATRICES[name](similarity))


@settings(deadline=None)
@given(SEEDS, st.integers(16, 40), st.floats(1e-6, 1e6), st.sampled_from(["diagonal_z", "hubs"]))
def test_the_scale_of_a_matrix_changes_neither_its_diagonal_nor_its_hubs(
    seed: int, count: int, scale: float, name: str
) -> None:
    similarity = np.random.default_rng(seed).uniform(-1, 1, (count, count))
    assert OF_MATRICES[name](scale * similarity) == pytest.approx(OF_MATRICES[name](similarity))


@settings(deadline=None)
@given(SEEDS, st.integers(16, 40))
def test_what_is_added_to_rows_and_columns_changes_no_diagonal(seed: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    similarity = chance.uniform(-1, 1, (count, count))
    shifted = similarity + chance.standard_normal(count) + chance.standard_normal((count, 1))
    assert geometry.diagonal_z(shifted) == pytest.approx(geometry.diagonal_z(similarity))


@settings(deadline=None)
@given(SEEDS, st.integers(16, 40), st.integers(2, 24), st.floats(1e-6, 1e6), st.sampled_from(sorted(OF_VECTORS)))
def test_scale_rotation_and_order_change_no_space(
    seed: int, count: int, dimensions: int, scale: float, name: str
) -> None:
    chance = np.random.default_rng(seed)
    vectors = chance.standard_normal((count, dimensions)) + chance.standard_normal(dimensions)
    moved = scale * vectors[chance.permutation(count)] @ rotation(dimensions, seed)
    measure = OF_VECTORS[name]
    assert measure(moved) == pytest.approx(measure(vectors), rel=1e-5, abs=1e-5)


@settings(deadline=None)
@given(SEEDS, st.floats(1e-6, 1e6))
def test_scale_rotation_and_order_change_no_gap(seed: int, scale: float) -> None:
    chance = np.random.default_rng(seed)
    vectors, names = chance.standard_normal((30, 6)), chance.choice(["a", "b", "c"], 30)
    order = chance.permutation(30)
    moved = scale * vectors[order] @ rotation(6, seed)
    expected = geometry.modality_gap(vectors, list(names))
    assert geometry.modality_gap(moved, list(names[order])) == pytest.approx(expected)


@settings(deadline=None)
@given(SEEDS, st.integers(4, 40), st.integers(1, 24), st.sampled_from(["zeros", "ones", "huge", "tiny", "mixed"]))
def test_every_finite_space_has_finite_measures_in_their_range(
    seed: int, count: int, dimensions: int, kind: str
) -> None:
    chance = np.random.default_rng(seed)
    scales = {"zeros": 0.0, "ones": 0.0, "huge": 3e38, "tiny": 1e-38, "mixed": 10.0 ** chance.integers(-38, 38)}
    vectors = chance.uniform(-1, 1, (count, dimensions)) * scales[kind] + (kind == "ones")
    assert 0 <= geometry.relative_spread(vectors) <= 1 + 1e-9
    assert 0 <= geometry.effective_rank(vectors) <= min(count, dimensions) + 1e-6
    assert -8 - 1e-9 <= geometry.uniformity(vectors) <= 1e-9
    similarity = without_self(vectors)
    assert np.isfinite(geometry.k_occurrence_skewness(similarity, min(10, count - 1)))
    assert np.isfinite(geometry.diagonal_z(np.where(np.isfinite(similarity), similarity, 1)))


THREADS_PROGRAM = """
import numpy as np
from tensorboard_sidecar.logger_service.findings import geometry
from tensorboard_sidecar.logger_service.findings.rule import rounded

vectors = np.random.default_rng(7).standard_normal((512, 300)) @ np.diag(np.linspace(0.01, 3, 300)) + 1
units = geometry.unit_rows(vectors)
similarity = units @ units.T
numbers = [geometry.effective_rank(vectors), geometry.uniformity(vectors), geometry.relative_spread(vectors)]
numbers += [geometry.diagonal_z(similarity), geometry.k_occurrence_skewness(similarity, 10)]
print([rounded(number) for number in numbers])
"""


def test_the_number_of_threads_changes_no_digit_that_is_shown() -> None:
    def with_threads(count: int) -> str:
        counts = {f"{name}_NUM_THREADS": str(count) for name in ("OPENBLAS", "OMP", "MKL")}
        command = [sys.executable, "-c", THREADS_PROGRAM]
        return subprocess.run(command, env=os.environ | counts, check=True, capture_output=True, text=True).stdout

    assert with_threads(1) == with_threads(2) == with_threads(7) != ""
