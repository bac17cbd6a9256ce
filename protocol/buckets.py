"""Edges of the histogram buckets in a tensor summary.

A bucket index is the leading ``9 + mantissa_bits`` bits of the IEEE 754 binary32 pattern. Without the sign bit the
patterns of growing magnitudes grow, so that bucket ``k`` of a sign holds the magnitudes from ``edge(k)`` up to, but not
including, ``edge(k + 1)``, where

    edge(k) = (1 + fraction / 2**mantissa_bits) * 2**(exponent - 127)    for exponent >= 1
    edge(k) = fraction * 2**(-126 - mantissa_bits)                       for exponent 0 (subnormal numbers)

with the exponent the upper 8 and the fraction the lower ``mantissa_bits`` bits of ``k``. Edges are float64: the last
edge is 2**128, which binary32 does not hold.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import TensorSummary

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

_EXPONENT_BIAS: Final = 127
_EXPONENT_SPECIAL: Final = 255  # NaN and the infinities: counted separately, never a bucket
_MANTISSA_BITS_MAX: Final = 7  # indexes are uint16


def bucket_edges(indexes: npt.ArrayLike, mantissa_bits: int) -> tuple[Floats, Floats]:
    """Return the lower and upper edges of buckets, as signed values, ``lower < upper``, in the order of ``indexes``.

    Negative buckets are open at the lower edge, positive ones at the upper. :func:`value_order` puts them in ascending
    order. Raises Malformed for an index outside the buckets of finite values.
    """
    negative, magnitude = _split(indexes, mantissa_bits)
    small = _edge(magnitude, mantissa_bits)
    large = _edge(magnitude + 1, mantissa_bits)
    return np.where(negative, -large, small), np.where(negative, -small, large)


def value_order(indexes: npt.ArrayLike, mantissa_bits: int) -> Integers:
    """Return the permutation that puts buckets in ascending order of their values.

    Indexes ascend through the positive values first, then through the negative ones away from zero.
    """
    negative, magnitude = _split(indexes, mantissa_bits)
    return np.argsort(np.where(negative, -1 - magnitude, magnitude), kind="stable")


def bucket_octaves(indexes: npt.ArrayLike, mantissa_bits: int) -> Integers:
    """Return ``floor(log2(abs(value)))``, the same for all values of a bucket.

    From -126 - ``mantissa_bits`` to 127; the two buckets around zero, which hold every smaller magnitude, count as the
    octave below.
    """
    _, magnitude = _split(indexes, mantissa_bits)
    _, exponents = np.frexp(_edge(magnitude, mantissa_bits))
    return np.where(magnitude == 0, -_EXPONENT_BIAS - mantissa_bits, exponents.astype(np.int64) - 1)


def ordered_histogram(summary: TensorSummary) -> tuple[Floats, Floats]:
    """Return (limits, counts) of the finite values as TensorBoard takes them: ascending right edges, and counts.

    The first and the last bucket are occupied; an empty range between two buckets becomes one empty bucket. No empty
    bucket in front marks the lower edge of the first bucket: TensorBoard replaces the outermost edges by ``min`` and
    ``max`` of the proto, and its data server would keep such a bucket with its edges in descending order. A tensor
    without finite values gives one empty bucket at zero, which both loaders accept.
    """
    indexes = summary.indexes.numpy()
    bits = summary.mantissa_bits
    order = value_order(indexes, bits)
    lower, upper = (edges[order] for edges in bucket_edges(indexes, bits))
    counts = summary.counts.numpy()[order].astype(np.float64)
    if summary.zeros > 0:
        around_zero = float(_edge(np.ones(1, np.int64), bits)[0])
        place = int(np.searchsorted(lower, 0.0))
        lower = np.insert(lower, place, -around_zero)
        upper = np.insert(upper, place, around_zero)
        counts = np.insert(counts, place, float(summary.zeros))
    if not counts.size:
        return np.zeros(1), np.zeros(1)
    gap = np.concatenate(([False], lower[1:] > upper[:-1]))
    limits = np.stack((lower, upper), axis=1).reshape(-1)
    both = np.stack((np.zeros_like(counts), counts), axis=1).reshape(-1)
    kept = np.stack((gap, np.ones_like(gap)), axis=1).reshape(-1)
    return limits[kept], both[kept]


def _split(indexes: npt.ArrayLike, mantissa_bits: int) -> tuple[npt.NDArray[np.bool_], Integers]:
    """Return (whether the sign bit is set, the index without the sign bit)."""
    if not 0 <= mantissa_bits <= _MANTISSA_BITS_MAX:
        raise Malformed(f"buckets with {mantissa_bits} mantissa bits came; expected 0 to {_MANTISSA_BITS_MAX}")
    whole = np.asarray(indexes, np.int64)
    sign_bit = 1 << (8 + mantissa_bits)
    magnitude = whole & (sign_bit - 1)
    strange = (whole < 0) | (whole >= 2 * sign_bit) | (magnitude >= _EXPONENT_SPECIAL << mantissa_bits)
    if strange.any():
        raise Malformed(
            f"bucket index {whole[strange][0]} came; expected the leading {9 + mantissa_bits} bits of a finite float32"
        )
    return (whole & sign_bit) != 0, magnitude


def _edge(magnitude: Integers, mantissa_bits: int) -> Floats:
    """Return the lower edge of magnitude buckets (formula at the head of this file)."""
    exponent = magnitude >> mantissa_bits
    fraction = magnitude & ((1 << mantissa_bits) - 1)
    significand = np.where(exponent > 0, fraction + (1 << mantissa_bits), fraction).astype(np.float64)
    scale = np.maximum(exponent, 1) - _EXPONENT_BIAS - mantissa_bits
    edge: Floats = np.ldexp(significand, scale)
    return edge
