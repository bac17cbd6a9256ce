"""Summaries of tensors against numpy, for every dtype and everything floats can be."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.records.summaries import summarize
from torch import Tensor

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.buckets import ordered_histogram
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.limits import BUCKETS_MAX
from tensorboard_sidecar.protocol.messages import TensorSummaries, TensorSummary
from tensorboard_sidecar.telemetry.values import summaries
from tensorboard_sidecar.telemetry.values.summaries import (
    BUCKETS,
    SUMMARY_SIZE_MAX_BYTES,
    Summarizer,
    device_summary,
    pack_device_summaries,
)

SUMMARIZER = Summarizer()
MINIMAL = 2.0**-129  # smallest magnitude that is no zero with three mantissa bits


def check_counts(summary: TensorSummary, values: npt.NDArray[np.float32]) -> None:
    """Check every count against numpy's view of the same float32 values."""
    check_message(TensorSummaries({"tag": summary}))
    finite = values[np.isfinite(values)]
    assert summary.count == values.size
    assert summary.nans == np.isnan(values).sum()
    assert summary.positive_infinities == np.isposinf(values).sum()
    assert summary.negative_infinities == np.isneginf(values).sum()
    bits = summary.mantissa_bits
    around_zero = np.abs(finite) < np.float32(2.0 ** (-126 - bits))
    assert summary.zeros == around_zero.sum()
    indexes, counts = np.unique(finite[~around_zero].view(np.uint32) >> (23 - bits), return_counts=True)
    np.testing.assert_array_equal(summary.indexes.numpy(), indexes)
    np.testing.assert_array_equal(summary.counts.numpy(), counts)
    assert ordered_histogram(summary)[1].sum() == finite.size


def check_moments(summary: TensorSummary, values: npt.NDArray[np.float32]) -> None:
    finite = values[np.isfinite(values)].astype(np.float64)
    minimum, maximum = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    assert (summary.minimum, summary.maximum) == (minimum, maximum)
    magnitude = np.abs(finite).sum()
    # Blocks are summed pairwise in float32: off by some roundings of the sum of magnitudes.
    assert summary.sum == pytest.approx(finite.sum(), rel=1e-6, abs=1e-6 * magnitude)
    assert summary.sum_squares == pytest.approx(np.square(finite).sum(), rel=1e-4)


def check_alone_and_among_others(tensor: Tensor) -> TensorSummary:
    """Summarize a tensor alone, and check that counting together with others gives the same summary."""
    alone = summarize(tensor)
    among = SUMMARIZER.summarize_all(
        {"a": torch.arange(100.0), "this": tensor, "b": torch.empty(0), "c": -torch.ones(7)}
    )
    assert list(among) == ["a", "this", "b", "c"]
    assert_alike(among["this"], alone)
    check_counts(among["a"], np.arange(100, dtype=np.float32))
    return alone


def check(tensor: Tensor) -> TensorSummary:
    summary = check_alone_and_among_others(tensor)
    values = tensor.detach().reshape(-1)
    if tensor.dtype == torch.float64:  # a finite number stays finite
        values = values.clamp(-torch.finfo(torch.float32).max, torch.finfo(torch.float32).max)
    values = values.to(torch.float32).numpy()
    check_counts(summary, values)
    check_moments(summary, values)
    return summary


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [1.0, 1e-4, 100.0])
def test_tensors_of_every_dtype_are_summarized(dtype: torch.dtype, scale: float) -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * scale
    check((values.abs().clamp(max=255) if dtype == torch.uint8 else values.clamp(-120, 120)).to(dtype))


ODD = {
    "empty": torch.empty(0),
    "empty with dimensions": torch.empty(3, 0, 2),
    "one number": torch.tensor(3.5),
    "all zero": torch.zeros(100),
    "minus zero": torch.tensor([-0.0, 0.0]),
    "subnormal": torch.tensor([1e-45, -1e-40, 1e-39, 2e-39, -3e-39]),
    "the border of zero": torch.tensor([MINIMAL, -MINIMAL, MINIMAL * 0.999999, -MINIMAL * 0.999999]),
    "not a number": torch.tensor([math.nan, math.nan]),
    "infinite": torch.tensor([math.inf, -math.inf, -math.inf]),
    "of everything": torch.tensor([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-45, 3.4e38]),
    "huge": torch.tensor([3e38, -3e38, 1e30]),
    "tiny": torch.full((1000,), 1e-24),
    "tiny and different": torch.linspace(-1e-21, 1e-22, 999),
    "beyond float32": torch.tensor([1e300, -1e300, 1.0], dtype=torch.float64),
    "large integers": torch.tensor([2**53 + 1, -(2**40) - 1]),
    "not contiguous": torch.randn(40, 30).T[::3, 1::2],
    "expanded": torch.randn(4, 1).expand(4, 50),
    "in a graph": torch.randn(10, requires_grad=True),
    "a result": torch.randn(10, requires_grad=True) * 2,
    "larger than a block": torch.randn(2**20 + 7),
}


@pytest.mark.parametrize("tensor", ODD.values(), ids=ODD)
def test_odd_tensors_are_summarized(tensor: Tensor) -> None:
    check(tensor)


@pytest.mark.parametrize("tensor", ODD.values(), ids=ODD)
def test_a_summary_made_on_a_device_equals_the_hosts(tensor: Tensor) -> None:
    packed = device_summary(tensor)
    assert (packed.dtype, packed.shape) == (torch.int64, (BUCKETS + 4,))
    assert_alike(pack_device_summaries(packed.numpy()[None])[0], summarize(tensor))


@given(
    values=hnp.arrays(np.uint32, st.integers(0, 300), elements=st.integers(0, 2**32 - 1)),
)
def test_every_bit_pattern_of_float32_is_counted(values: npt.NDArray[np.uint32]) -> None:
    summary = check(torch.from_numpy(values.view(np.float32)))
    total = summary.zeros + summary.nans + summary.positive_infinities + summary.negative_infinities
    assert total + int(summary.counts.numpy().sum()) == summary.count


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), octaves=st.integers(1, 254))
def test_coarsening_keeps_every_count_and_fits_the_limit(seed: int, octaves: int) -> None:
    """From 80 octaves of both signs on, three mantissa bits would take more buckets than a summary may have."""
    random = np.random.default_rng(seed)
    exponents = random.integers(1, 1 + octaves, 20_000).astype(np.uint32) << 23
    patterns = exponents | random.integers(0, 2**23, 20_000, np.uint32) | random.integers(0, 2, 20_000, np.uint32) << 31
    summary = check(torch.from_numpy(patterns.view(np.float32)))
    assert summary.indexes.shape[0] <= BUCKETS_MAX
    assert (summary.mantissa_bits == 3) == (octaves * 16 <= BUCKETS_MAX) or summary.indexes.shape[0] > BUCKETS_MAX // 2


def test_the_fullest_summary_fits_the_size_that_is_reserved_for_it() -> None:
    patterns = np.arange(2**12, dtype=np.uint32) << 20
    summary = summarize(torch.from_numpy(np.repeat(patterns, 2).view(np.float32)))
    assert summary.indexes.shape[0] >= 500
    largest = TensorSummary(
        *(2**62,) * 5,
        *(-1.1e-300,) * 4,
        3,
        pack_array(np.zeros(BUCKETS_MAX, np.uint16)),
        pack_array(np.zeros(BUCKETS_MAX, np.uint64)),
    )
    size = len(encode_body(TensorSummaries({"a": largest, "b": largest}))) - len(
        encode_body(TensorSummaries({"a": largest}))
    )
    assert size <= SUMMARY_SIZE_MAX_BYTES


def test_all_summaries_are_those_of_their_tags() -> None:
    tensors = {f"weights/{n}": torch.full((n,), float(n)) for n in range(20)}
    summaries = Summarizer().summarize_all(tensors)
    assert list(summaries) == list(tensors)
    assert [summary.count for summary in summaries.values()] == list(range(20))
    assert [summary.maximum for summary in summaries.values()] == [float(n) for n in range(20)]
    assert Summarizer().summarize_all({}) == {}


def test_a_forked_process_counts_in_host_memory_whatever_its_default_device_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a forked process, counting runs on the calling thread, where the default device applies."""
    monkeypatch.setattr(summaries, "_IMPORTED_BY", -1)
    tensors = {"small": torch.ones(3), "large": torch.ones(10_000)}
    with torch.device("meta"):
        found = Summarizer().summarize_all(tensors)
    assert [summary.count for summary in found.values()] == [3, 10_000]


def test_more_tensors_than_are_counted_at_a_time_are_summarized() -> None:
    sizes = [(7 * n) % 700 for n in range(600)]
    tensors = {f"weights/{n}": torch.full((size,), float(n)) for n, size in enumerate(sizes)}
    tensors["weights/large"] = torch.ones(2**20 + 1)
    summaries = SUMMARIZER.summarize_all(tensors)
    assert [summary.count for summary in summaries.values()] == [*sizes, 2**20 + 1]
    for n, summary in enumerate(list(summaries.values())[:-1]):
        assert summary.sum == n * sizes[n]
        assert summary.maximum == (n if sizes[n] else 0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("tensor", ODD.values(), ids=ODD)
def test_a_summary_made_on_a_gpu_equals_the_hosts_and_waits_for_nothing(tensor: Tensor) -> None:
    on_device = tensor.detach().to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        packed = device_summary(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_alike(pack_device_summaries(packed.cpu().numpy()[None])[0], summarize(tensor))


def assert_alike(found: TensorSummary, expected: TensorSummary) -> None:
    """Check that counts and extremes are equal; sums may be added up in another order."""
    for field in TensorSummary.__struct_fields__:
        value: Any = getattr(found, field)
        if field == "sum":
            assert value == pytest.approx(
                expected.sum, rel=1e-6, abs=1e-6 * math.sqrt(expected.sum_squares * expected.count)
            )
        elif field == "sum_squares":
            assert value == pytest.approx(expected.sum_squares, rel=1e-4)
        else:
            assert value == getattr(expected, field), field
