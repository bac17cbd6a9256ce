"""Buckets against the float32 values themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.known_summaries import index_of, summary_of

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.buckets import bucket_edges, bucket_octaves, ordered_histogram, value_order
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import TensorSummary

FLOAT32_MAX = float(np.finfo(np.float32).max)
finite_floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
mantissa_bits_range = st.integers(0, 7)


@given(value=finite_floats, mantissa_bits=mantissa_bits_range)
def test_a_value_lies_between_the_edges_of_its_bucket(value: float, mantissa_bits: int) -> None:
    """Lower edges belong to positive buckets, upper ones to negative: the pattern grows away from zero."""
    lower, upper = bucket_edges(index_of([value], mantissa_bits), mantissa_bits)
    if np.signbit(value):
        assert lower[0] < value <= upper[0]
    else:
        assert lower[0] <= value < upper[0]


@pytest.mark.parametrize("mantissa_bits", range(8))
def test_buckets_tile_the_line_without_gap_or_overlap(mantissa_bits: int) -> None:
    half = 255 << mantissa_bits
    indexes = np.concatenate((np.arange(half), (1 << (8 + mantissa_bits)) + np.arange(half)))
    order = value_order(indexes, mantissa_bits)
    lower, upper = (edges[order] for edges in bucket_edges(indexes, mantissa_bits))
    np.testing.assert_array_equal(lower[1:], upper[:-1])
    assert (lower < upper).all()
    assert (lower[0], upper[-1]) == (-(2.0**128), 2.0**128)


@pytest.mark.parametrize(
    ("value", "lower", "upper"),
    [
        (1.0, 1.0, 1.125),
        (-1.0, -1.125, -1.0),
        (0.0, 0.0, 2.0**-129),
        (-0.0, -(2.0**-129), 0.0),
        (2.0**-149, 0.0, 2.0**-129),
        (2.0**-127, 2.0**-127, 2.0**-127 + 2.0**-129),
        (FLOAT32_MAX, 1.875 * 2.0**127, 2.0**128),
        (-FLOAT32_MAX, -(2.0**128), -1.875 * 2.0**127),
    ],
)
def test_known_edges_with_three_mantissa_bits(value: float, lower: float, upper: float) -> None:
    edges = bucket_edges(index_of([value], 3), 3)
    assert (edges[0][0], edges[1][0]) == (lower, upper)


@given(value=finite_floats, mantissa_bits=mantissa_bits_range)
def test_octave_is_the_floor_of_the_binary_logarithm(value: float, mantissa_bits: int) -> None:
    octave = int(bucket_octaves(index_of([value], mantissa_bits), mantissa_bits)[0])
    smallest = 2.0 ** (-126 - mantissa_bits)
    if abs(value) < smallest:
        assert octave == -127 - mantissa_bits
    else:
        assert 2.0**octave <= abs(value) < 2.0 ** (octave + 1)


@given(values=st.lists(finite_floats, max_size=60), mantissa_bits=st.integers(0, 3))
def test_ordered_histogram_counts_the_values_up_to_each_limit(values: list[float], mantissa_bits: int) -> None:
    limits, counts = ordered_histogram(summary_of(values, mantissa_bits))
    tensor = np.asarray(values, np.float32).astype(np.float64)
    assert (np.diff(limits) > 0).all()
    assert counts.sum() == len(values)
    assert not values or (counts[0] > 0 and counts[-1] > 0)
    for limit, below in zip(limits, np.cumsum(counts), strict=True):
        # A limit itself belongs to the bucket on its left when negative, on its right when positive.
        assert below == (tensor <= limit if limit < 0 else tensor < limit).sum()


def test_empty_ranges_between_occupied_buckets_become_one_empty_bucket() -> None:
    limits, counts = ordered_histogram(summary_of([-2.0, 0.0, 0.0, 1.0, 1.2, 4.0]))
    tiny = 2.0**-129
    np.testing.assert_array_equal(limits, [-2.0, -tiny, tiny, 1.0, 1.125, 1.25, 4.0, 4.5])
    np.testing.assert_array_equal(counts, [1, 0, 2, 0, 1, 1, 0, 1])


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf, -np.inf]])
def test_a_tensor_without_finite_values_gives_one_empty_bucket(values: list[float]) -> None:
    limits, counts = ordered_histogram(summary_of(values))
    assert (limits.tolist(), counts.tolist()) == ([0.0], [0.0])


def test_counts_near_the_limit_of_uint64_do_not_wrap() -> None:
    summary = TensorSummary(
        count=0,
        zeros=2**63,
        nans=0,
        positive_infinities=0,
        negative_infinities=0,
        minimum=0.0,
        maximum=0.0,
        sum=0.0,
        sum_squares=0.0,
        mantissa_bits=3,
        indexes=pack_array(index_of([1.0, -1.0], 3)),
        counts=pack_array(np.full(2, 2**64 - 1, np.uint64)),
    )
    _, counts = ordered_histogram(summary)
    assert counts.sum() == pytest.approx(2.0**65 + 2.0**63)


@pytest.mark.parametrize(
    ("indexes", "mantissa_bits"),
    [([255 << 3], 3), ([(255 << 3) + (1 << 11)], 3), ([1 << 12], 3), ([-1], 3), ([0], -1), ([0], 8)],
)
def test_what_is_no_bucket_of_finite_values_is_refused(indexes: list[int], mantissa_bits: int) -> None:
    for read in (bucket_edges, bucket_octaves, value_order):
        with pytest.raises(Malformed, match="came; expected"):
            read(indexes, mantissa_bits)
