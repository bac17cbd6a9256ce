"""Measures of similarity matrices ``[N, N]`` and of embeddings ``[N, D]``: pure functions of finite arrays.

Sums are in float64, so that the number of threads of a linear algebra library changes digits far behind the four that
a finding shows. No measure depends on the order of the rows (of a matrix: of rows and columns together).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tensorboard_sidecar.logger_service.findings.samples import Floats

# Below this share of its size, a deviation is rounding: embeddings are float32, matrices often float16.
_ROUNDING: Final = 1e-6
# Digits of similarities that are compared with each other.
_COMPARED_DIGITS: Final = 6


def off_diagonal_mean(similarity: Floats) -> float:
    """Return the mean of all entries but the diagonal.

    >>> off_diagonal_mean(np.array([[1.0, 0.2], [0.4, 1.0]]))
    0.3
    """
    count = len(similarity)
    total = similarity.sum(dtype=np.float64) - np.trace(similarity, dtype=np.float64)
    return float(round(total / (count * (count - 1)), 12))


def diagonal_margin(similarity: Floats) -> float:
    """Return the mean of the diagonal less the mean of all other entries.

    >>> diagonal_margin(np.eye(4))
    1.0
    """
    return float(np.trace(similarity, dtype=np.float64) / len(similarity) - off_diagonal_mean(similarity))


def diagonal_z(similarity: Floats) -> float:
    """Return by how many standard errors the mean of the diagonal exceeds that of a random assignment of columns.

    For a random permutation, the mean of the chosen entries has the mean of the matrix and the variance
    ``sum(d ** 2) / (N ** 2 * (N - 1))`` with ``d``, the matrix less the means of its rows and columns (Hoeffding 1951,
    "A combinatorial central limit theorem"). Scale, and a constant added to a row or to a column, change nothing. A
    matrix in which each column equals the others, up to rounding, has no diagonal: 0.
    """
    count = len(similarity)
    some = similarity.astype(np.float64)
    d = some - some.mean(axis=0) - some.mean(axis=1, keepdims=True) + some.mean()
    if np.abs(d).max() <= _ROUNDING * np.abs(some).max():
        return 0.0
    return float(d.trace() / count / np.sqrt((d * d).sum() / (count**2 * (count - 1))))


def relative_spread(vectors: Floats) -> float:
    """Return the root of the total variance over the mean squared norm: 0 for equal vectors, 1 if their mean is zero.

    For unit vectors this is the root of one less the mean cosine of all pairs. Scale and rotation change nothing.

    >>> relative_spread(np.ones((5, 3))), relative_spread(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    (0.0, 1.0)
    """
    some = vectors.astype(np.float64)
    size = np.square(some).sum()
    if size <= 0:
        return 0.0
    return float(np.sqrt(np.square(some - some.mean(axis=0)).sum() / size))


def effective_rank(vectors: Floats) -> float:
    """Return the exponential of the entropy of the normalised singular values of the centred vectors.

    Between 1, all vectors on a line, and ``min(N - 1, D)`` (Roy & Vetterli 2007, "The effective rank: a measure of
    effective dimensionality"); 0 for equal vectors. Scale, rotation and translation change nothing. The singular
    values are the roots of the eigenvalues of the smaller Gram matrix: 512 vectors of 512 dimensions take some 40 ms.
    """
    if relative_spread(vectors) <= _ROUNDING:
        return 0.0
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    centred /= np.abs(centred).max()
    tall = centred.shape[0] > centred.shape[1]
    squares = np.linalg.eigvalsh(centred.T @ centred if tall else centred @ centred.T)
    values = np.sqrt(np.clip(squares, 0, None))
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def unit_rows(vectors: Floats) -> NDArray[np.float64]:
    """Return the vectors divided by their norms, in float64; zero vectors stay zero."""
    some = vectors.astype(np.float64)
    norms = np.linalg.norm(some, axis=1, keepdims=True)
    return some / np.where(norms > 0, norms, 1)


def uniformity(vectors: Floats) -> float:
    """Return the logarithm of the mean of ``exp(-2 |x - y| ** 2)`` over all pairs of unit vectors.

    0 for equal vectors; about -4 for many that are spread evenly over a sphere of many dimensions (Wang & Isola 2020,
    "Understanding contrastive representation learning through alignment and uniformity on the hypersphere", t = 2).
    Scale and rotation change nothing.
    """
    units, count = unit_rows(vectors), len(vectors)
    potential = np.exp(-4 * (1 - np.clip(units @ units.T, -1, 1)))
    return float(np.log((potential.sum() - potential.trace()) / (count * (count - 1))))


def modality_gap(vectors: Floats, groups: list[str]) -> float:
    """Return the largest distance between the means of two groups of unit vectors, 0 to 2; 0 for a single group.

    Liang et al. 2022, "Mind the gap: understanding the modality gap in multi-modal contrastive representation
    learning", section 2: CLIP has 0.82. Scale and rotation change nothing.
    """
    units, names = unit_rows(vectors), np.array(groups)
    centres = np.array([units[names == name].mean(axis=0) for name in sorted(set(groups))])
    return float(np.linalg.norm(centres[:, None] - centres[None], axis=-1).max())


def k_occurrence_skewness(similarity: Floats, k: int) -> float:
    """Return the skewness of the number of times that a column is among the ``k`` most similar ones of a row.

    About 0 when all columns are equally popular; large when few columns, the hubs, answer many rows (Radovanovic et al.
    2010, "Hubs in space", equation 1). Entries of minus infinity are never neighbours. Columns that tie share the
    places, so that their order changes nothing; 0 when all columns are equally popular.
    """
    some = similarity.astype(np.float64)
    finite = np.isfinite(some)
    size = np.abs(some[finite]).max(initial=0.0)
    compared = np.round(some / (size or 1.0), _COMPARED_DIGITS)
    least = -np.partition(-compared, k - 1, axis=1)[:, k - 1 : k]
    above, ties = compared > least, (compared == least) & finite
    places = k - above.sum(axis=1, keepdims=True)
    counts = (above + ties * (places / np.maximum(ties.sum(axis=1, keepdims=True), 1))).sum(axis=0)
    deviations = counts - counts.mean()
    deviation = np.sqrt(np.square(deviations).mean())
    if deviation <= _ROUNDING * k:
        return 0.0
    return float((deviations**3).mean() / deviation**3)
