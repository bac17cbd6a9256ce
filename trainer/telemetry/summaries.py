"""Summaries of tensors: moments, and a histogram over the float's own bits.

The leading 12 bits of an IEEE binary32 number are its sign, its exponent and three mantissa bits: shifting the pattern
right by 20 gives one of 4,096 log-linear buckets, eight an octave, without a logarithm or a search. NaN and infinity
have buckets of their own by construction.

Shape suffixes: N values of a tensor, B = 4096 buckets.
"""

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from protocol.array import pack_array
from protocol.limits import BUCKETS_MAX
from protocol.messages import TensorSummary

BUCKETS: Final = 4096
MOMENTS: Final = 4
_SHIFT: Final = 20
_POSITIVE_INFINITY: Final = 0x7F8
_NEGATIVE_INFINITY: Final = 0xFF8
_MANTISSA_BITS: Final = 3
# Values counted at a time: large enough for torch's overheads to vanish, small enough to bound the memory beside them.
_BLOCK_SIZE: Final = 2**18
_THREADS: Final = min(4, os.cpu_count() or 1)
_IMPORTED_BY: Final = os.getpid()
# Below, squares may have been lost to underflow: that of 1e-23 is no float32.
_SQUARES_MIN: Final = 1e-20

# Encoded size of one summary beside its tag: every bucket taken, and some 200 bytes of names and numbers.
SUMMARY_SIZE_MAX_BYTES: Final = BUCKETS_MAX * 10 + 512

Counts: TypeAlias = npt.NDArray[np.int64]


class Summarizer:
    """Summarizes tensors in host memory, several at a time: counting runs outside the interpreter's lock."""

    def __init__(self) -> None:
        # torch refuses to compute on new threads of a forked process.
        forked = os.getpid() != _IMPORTED_BY
        self._pool = None if forked else ThreadPoolExecutor(_THREADS, thread_name_prefix="telemetry-summary")

    def summarize_all(self, tensors: Mapping[str, Tensor]) -> dict[str, TensorSummary]:
        """Summarize each tensor as it is now, of any dtype and shape."""
        summaries = (self._pool.map if self._pool else map)(summarize, tensors.values())
        return dict(zip(tensors, summaries, strict=True))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def summarize(tensor: Tensor) -> TensorSummary:
    """Summarize a tensor in host memory, of any dtype and shape."""
    values_N = tensor.detach().reshape(-1).to(torch.float32)
    counts_B = torch.zeros(BUCKETS, dtype=torch.int64)
    moments = []
    # One buffer for all blocks: fresh memory for each costs as much as counting.
    buffer = torch.empty(min(_BLOCK_SIZE, values_N.numel()), dtype=torch.int32)
    for block_N in torch.split(values_N, _BLOCK_SIZE):
        buckets_N = buffer[: len(block_N)]
        torch.bitwise_right_shift(block_N.view(torch.int32), _SHIFT, out=buckets_N).bitwise_and_(BUCKETS - 1)
        counts_B += torch.bincount(buckets_N, minlength=BUCKETS)
        moments.append(_moments(block_N))
    if counts_B[_POSITIVE_INFINITY:0x800].any() or counts_B[_NEGATIVE_INFINITY:].any():
        moments = [_moments(values_N[values_N.isfinite()])]
    minima, maxima, sums, squares = zip(*moments, strict=True)
    return pack_summary(counts_B.numpy(), (min(minima), max(maxima), math.fsum(sums), math.fsum(squares)))


def device_summary(tensor: Tensor) -> Tensor:
    """Start the summary of a tensor on its device; int64 ``[B + MOMENTS]``, nothing waits.

    The last four are the bit patterns of minimum, maximum, sum and sum of squares as float64.
    """
    values_N = tensor.detach().reshape(-1).to(torch.float32)
    if not values_N.numel():
        return torch.zeros(BUCKETS + MOMENTS, dtype=torch.int64, device=tensor.device)
    buckets_N = values_N.view(torch.int32).bitwise_right_shift(_SHIFT).bitwise_and(BUCKETS - 1).long()
    counts_B = torch.zeros(BUCKETS, dtype=torch.int64, device=tensor.device)
    counts_B.scatter_add_(0, buckets_N, torch.ones_like(buckets_N))
    finite_N = values_N.isfinite()
    zeroed_N = values_N.where(finite_N, 0.0).double()
    moments = torch.stack(
        (
            values_N.where(finite_N, torch.inf).amin().double(),
            values_N.where(finite_N, -torch.inf).amax().double(),
            zeroed_N.sum(),
            zeroed_N.square().sum(),
        )
    )
    return torch.cat((counts_B, moments.view(torch.int64)))


def pack_device_summary(packed: Counts) -> TensorSummary:
    """Finish a summary begun by :func:`device_summary` once it is in host memory."""
    minimum, maximum, total, squares = packed[BUCKETS:].view(np.float64)
    return pack_summary(packed[:BUCKETS], (float(minimum), float(maximum), float(total), float(squares)))


def pack_summary(counts_B: Counts, moments: tuple[float, float, float, float]) -> TensorSummary:
    """Take the counts of special values out, coarsen until what is occupied fits its limit, take the zeros out."""
    counts_B = counts_B.copy()
    count = int(counts_B.sum())
    positive, negative = int(counts_B[_POSITIVE_INFINITY]), int(counts_B[_NEGATIVE_INFINITY])
    nans = int(counts_B[_POSITIVE_INFINITY + 1 : 0x800].sum() + counts_B[_NEGATIVE_INFINITY + 1 :].sum())
    counts_B[_POSITIVE_INFINITY:0x800] = counts_B[_NEGATIVE_INFINITY:] = 0
    minimum, maximum, total, squares = moments if count > positive + negative + nans else (0.0, 0.0, 0.0, 0.0)
    mantissa_bits = _MANTISSA_BITS
    while np.count_nonzero(counts_B) > BUCKETS_MAX:
        counts_B = counts_B.reshape(-1, 2).sum(1)
        mantissa_bits -= 1
    around_zero = [0, len(counts_B) // 2]
    zeros = int(counts_B[around_zero].sum())
    counts_B[around_zero] = 0
    indexes = np.flatnonzero(counts_B)
    return TensorSummary(
        count=count,
        zeros=zeros,
        nans=nans,
        positive_infinities=positive,
        negative_infinities=negative,
        minimum=minimum,
        maximum=maximum,
        sum=total,
        sum_squares=squares,
        mantissa_bits=mantissa_bits,
        indexes=pack_array(indexes.astype(np.uint16)),
        counts=pack_array(counts_B[indexes].astype(np.uint64)),
    )


def _moments(values_N: Tensor) -> tuple[float, float, float, float]:
    """Minimum, maximum, sum and sum of squares of finite values; sums that float32 cannot hold in float64."""
    if not len(values_N):
        return 0.0, 0.0, 0.0, 0.0
    minimum, maximum = values_N.aminmax()
    total, squares = float(values_N.sum()), float(values_N.dot(values_N))
    if not math.isfinite(total):
        total = float(values_N.double().sum())
    if not _SQUARES_MIN < squares < math.inf:
        squares = float(values_N.double().square().sum())
    return float(minimum), float(maximum), total, squares
