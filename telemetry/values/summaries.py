"""Summaries of tensors: moments, and a histogram whose buckets are the leading bits of the floats.

The leading 12 bits of an IEEE binary32 number are its sign, its exponent and three mantissa bits. Shifting the bit
pattern right by 20 therefore gives one of 4,096 log-linear buckets, eight an octave, without a logarithm or a search.
NaN and infinity fall into buckets that hold no finite number.

Small tensors are counted many at a time, and summaries are packed many at a time: a network has many small tensors
(biases, norms), and a dozen library calls for each would cost more time than counting all their values.

Shape suffixes: N values, T tensors, B = 4096 buckets, M = 4 moments: minimum, maximum, sum and sum of squares.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.limits import BUCKETS_MAX
from tensorboard_sidecar.protocol.messages import TensorSummaries, TensorSummary
from tensorboard_sidecar.telemetry.values.arrays import to_float32

BUCKETS: Final = 4096
MOMENTS: Final = 4
_HOST: Final = torch.device("cpu")  # named, because users may set another default device
_SHIFT: Final = 20
_POSITIVE_INFINITY: Final = 0x7F8
_NEGATIVE: Final = 0x800
_NEGATIVE_INFINITY: Final = 0xFF8
_MANTISSA_BITS: Final = 3
# Values of a large tensor counted at a time: enough to hide torch's call overhead, few enough to bound the buffers.
_BLOCK_SIZE: Final = 2**20
# A tensor of up to _SMALL_SIZE values is counted together with others, up to _TOGETHER_SIZE values at a time.
_SMALL_SIZE: Final = 2**13
_TOGETHER_SIZE: Final = 2**16
# Tensors whose counts are in memory at a time: 8 MiB of counts.
_TENSORS_AT_A_TIME: Final = 256
_THREADS: Final = min(4, os.cpu_count() or 1)
_IMPORTED_BY: Final = os.getpid()
# A smaller sum of squares may have lost squares to underflow: float32 has no square of 1e-23.
_SQUARES_MIN: Final = 1e-20

# Encoded size of one summary without its tag: BUCKETS_MAX occupied buckets, and some 200 bytes of names and numbers.
SUMMARY_SIZE_MAX_BYTES: Final = BUCKETS_MAX * 10 + 512

Counts: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


class Summarizer:
    """Summarizes tensors in host memory on several threads; counting runs without the interpreter's lock."""

    def __init__(self) -> None:
        # In a forked process torch fails on new threads.
        forked = os.getpid() != _IMPORTED_BY
        self._pool = None if forked else ThreadPoolExecutor(_THREADS, thread_name_prefix="telemetry-summary")

    def summarize_all(self, tensors: Mapping[str, Tensor]) -> dict[str, TensorSummary]:
        """Summarize each tensor (any real dtype, any shape) as it is now."""
        # By size, so that the small tensors are neighbours.
        tags = sorted(tensors, key=lambda tag: tensors[tag].numel())
        made: dict[str, TensorSummary] = {}
        for start in range(0, len(tags), _TENSORS_AT_A_TIME):
            some = tags[start : start + _TENSORS_AT_A_TIME]
            made.update(zip(some, self._summarize([tensors[tag] for tag in some]), strict=True))
        return {tag: made[tag] for tag in tensors}

    def split(self, tensors: Mapping[str, Tensor]) -> "SplitSummaries":
        """Summarize the tensors in host memory, and start the summaries of the others on their devices; never waits."""
        made = self.summarize_all({tag: tensor for tag, tensor in tensors.items() if tensor.is_cpu})
        started = [device_summary(tensor) for tag, tensor in tensors.items() if tag not in made]
        device = started[0].device if started else None
        packed = [torch.stack([summary.to(device, non_blocking=True) for summary in started])] if started else []
        return SplitSummaries(packed, list(tensors), made)

    def close(self) -> None:
        """End the threads. A pool that an interrupted call still uses ends with that call."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _summarize(self, tensors: Sequence[Tensor]) -> list[TensorSummary]:
        values = [to_float32(tensor.detach().reshape(-1)) for tensor in tensors]
        counts_TB = np.zeros((len(values), BUCKETS), np.int64)
        moments_TM = np.zeros((len(values), MOMENTS))

        def count(part: slice) -> None:
            counter = _count_one if part.stop - part.start == 1 else _count_together
            counts_TB[part], moments_TM[part] = counter(values[part])

        pool: ThreadPoolExecutor | None = None
        try:
            # A nested call, as of a signal handler, finds no pool and counts on its own thread: the interrupted call
            # may hold the pool's locks.
            pool, self._pool = self._pool, None
            # The largest part first: a large part started last would run alone at the end.
            for _ in (pool.map if pool else map)(count, reversed(list(_parts(values)))):
                pass
        finally:
            if pool:
                self._pool = pool
        return pack_summaries(counts_TB, moments_TM)


class SplitSummaries(NamedTuple):
    """Summaries by tag, split by place.

    ``made`` holds the finished summaries of tensors in host memory; those tensors never go to a device, because the
    call would wait for the copy. ``on_device`` is empty or holds one tensor, int64 ``[T, B + M]``, with the unfinished
    summaries of all other ``tags`` in order.
    """

    on_device: Sequence[Tensor]
    tags: Sequence[str]
    made: Mapping[str, TensorSummary]

    @property
    def size_max_bytes(self) -> int:
        """Upper bound for the encoded size of all summaries; 0 when all are made, and the size is known."""
        return sum(SUMMARY_SIZE_MAX_BYTES + 4 * len(tag) for tag in self.tags) if self.on_device else 0

    def merge(self, arrived: Sequence[npt.NDArray[Any]]) -> dict[str, TensorSummary]:
        """Return all summaries by tag, given ``on_device`` as arrays in host memory."""
        others = iter(pack_device_summaries(arrived[0]) if arrived else ())
        return {tag: self.made[tag] if tag in self.made else next(others) for tag in self.tags}

    def message(self, arrived: Sequence[npt.NDArray[Any]]) -> TensorSummaries:
        """Return the message with all summaries, as :meth:`merge`."""
        return TensorSummaries(self.merge(arrived))


def device_summary(tensor: Tensor) -> Tensor:
    """Start the summary of a tensor on its device and return it, int64 ``[B + M]``; never waits.

    The last M elements are the bit patterns of the moments as float64.
    """
    values_N = to_float32(tensor.detach().reshape(-1))
    if not values_N.numel():
        return torch.zeros(BUCKETS + MOMENTS, dtype=torch.int64, device=tensor.device)
    buckets_N = values_N.view(torch.int32).bitwise_right_shift(_SHIFT).bitwise_and(BUCKETS - 1).long()
    counts_B = torch.zeros(BUCKETS, dtype=torch.int64, device=tensor.device)
    counts_B.scatter_add_(0, buckets_N, torch.ones_like(buckets_N))
    finite_N = values_N.isfinite()
    zeroed_N = values_N.where(finite_N, 0.0).double()
    moments_M = torch.stack(
        (
            values_N.where(finite_N, torch.inf).amin().double(),
            values_N.where(finite_N, -torch.inf).amax().double(),
            zeroed_N.sum(),
            zeroed_N.square().sum(),
        )
    )
    return torch.cat((counts_B, moments_M.view(torch.int64)))


def pack_device_summaries(packed: Counts) -> list[TensorSummary]:
    """Finish the summaries of :func:`device_summary`, stacked to int64 ``[T, B + M]`` and copied to host memory."""
    return pack_summaries(packed[:, :BUCKETS].copy(), np.ascontiguousarray(packed[:, BUCKETS:]).view(np.float64))


def pack_summaries(counts_TB: Counts, moments_TM: Floats) -> list[TensorSummary]:
    """Return a summary for each row: NaN, infinities and zeros counted apart, at most BUCKETS_MAX occupied buckets.

    A row with more occupied buckets loses mantissa bits. Changes ``counts_TB`` in place.
    """
    positive, negative = counts_TB[:, _POSITIVE_INFINITY:_NEGATIVE], counts_TB[:, _NEGATIVE_INFINITY:]
    totals_T = counts_TB.sum(1)
    nans_T = positive[:, 1:].sum(1) + negative[:, 1:].sum(1)
    specials = np.stack((totals_T, nans_T, positive[:, 0], negative[:, 0], _take_zeros(counts_TB)), axis=1).tolist()
    positive[:] = negative[:] = 0
    rows, columns = counts_TB.nonzero()
    indexes, counts = columns.astype(np.uint16), counts_TB[rows, columns].astype(np.uint64)
    ends = rows.searchsorted(np.arange(len(counts_TB) + 1)).tolist()
    summaries = []
    for row, (start, end, moments_M, (count, nans, above, below, zeros)) in enumerate(
        zip(ends[:-1], ends[1:], moments_TM.tolist(), specials, strict=True)
    ):
        bits, more_zeros, occupied, occupants = _MANTISSA_BITS, 0, indexes[start:end], counts[start:end]
        if end - start > BUCKETS_MAX:
            bits, more_zeros, occupied, occupants = _coarsen(counts_TB[row])
        least, most, total, squares = moments_M if count > nans + above + below else (0.0, 0.0, 0.0, 0.0)
        counted = count, zeros + more_zeros, nans, above, below
        buckets = bits, pack_array(occupied), pack_array(occupants)
        summaries.append(TensorSummary(*counted, least, most, total, squares, *buckets))
    return summaries


def _coarsen(counts_B: Counts) -> tuple[int, int, npt.NDArray[np.uint16], npt.NDArray[np.uint64]]:
    """Drop mantissa bits until at most BUCKETS_MAX buckets are occupied.

    Returns the mantissa bits, the number of values that moved to the zero bucket, the occupied buckets, their counts.
    """
    mantissa_bits, zeros, indexes = _MANTISSA_BITS, 0, counts_B.nonzero()[0]
    while len(indexes) > BUCKETS_MAX:
        mantissa_bits -= 1
        counts_B = counts_B.reshape(-1, 2).sum(1)
        zeros += int(_take_zeros(counts_B))
        indexes = counts_B.nonzero()[0]
    return mantissa_bits, zeros, indexes.astype(np.uint16), counts_B[indexes].astype(np.uint64)


def _take_zeros(counts_B: Counts) -> Any:
    """Empty the two buckets around zero (one for each sign) along the last axis; return the sum of their counts."""
    around_zero = counts_B[..., :: counts_B.shape[-1] // 2]
    zeros = around_zero.sum(-1)
    around_zero[:] = 0
    return zeros


def _parts(values: Sequence[Tensor]) -> Iterator[slice]:
    """Split vectors, in ascending order of size, into groups of small vectors and single larger vectors."""
    start, size = 0, 0
    for place, values_N in enumerate(values):
        size += len(values_N)
        if place > start and (size > _TOGETHER_SIZE or len(values_N) > _SMALL_SIZE):
            yield slice(start, place)
            start, size = place, len(values_N)
    if start < len(values):
        yield slice(start, len(values))


def _count_one(values: Sequence[Tensor]) -> tuple[Counts, Floats]:
    """Count one vector block by block; return counts ``[1, B]`` and moments ``[1, M]``."""
    [values_N] = (values_N.numpy() for values_N in values)
    counts_B = torch.zeros(BUCKETS, dtype=torch.int64, device=_HOST)
    moments = []
    # One buffer for all blocks: allocating a buffer for each costs as much time as counting.
    buffer = np.empty(min(_BLOCK_SIZE, len(values_N)), np.uint32)
    for start in range(0, max(1, len(values_N)), _BLOCK_SIZE):
        block_N = values_N[start : start + _BLOCK_SIZE]
        # The shift is numpy's, which starts no threads below ours; the bincount torch's, since numpy's holds the lock.
        buckets_N = np.right_shift(block_N.view(np.uint32), _SHIFT, out=buffer[: len(block_N)])
        counts_B += torch.bincount(torch.from_numpy(buckets_N.view(np.int32)), minlength=BUCKETS)
        moments.append(_moments(block_N))
    if counts_B[_POSITIVE_INFINITY:_NEGATIVE].any() or counts_B[_NEGATIVE_INFINITY:].any():
        moments = [_moments(values_N[np.isfinite(values_N)])]
    minima, maxima, sums, squares = zip(*moments, strict=True)
    return counts_B.numpy()[None], np.array([[min(minima), max(maxima), math.fsum(sums), math.fsum(squares)]])


def _count_together(values: Sequence[Tensor]) -> tuple[Counts, Floats]:
    """Count T small vectors in one pass; return counts ``[T, B]`` and moments ``[T, M]``."""
    sizes_T = torch.tensor([len(values_N) for values_N in values], device=_HOST)
    together_N = torch.cat(list(values))
    buckets_N = together_N.view(torch.int32).bitwise_right_shift(_SHIFT).bitwise_and_(BUCKETS - 1)
    buckets_N += torch.arange(0, len(values) * BUCKETS, BUCKETS, dtype=torch.int32, device=_HOST).repeat_interleave(
        sizes_T
    )
    counts_TB = torch.bincount(buckets_N, minlength=len(values) * BUCKETS).view(-1, BUCKETS).numpy()
    moments_TM = np.zeros((len(values), MOMENTS))
    ends = sizes_T.cumsum(0)
    filled = (sizes_T > 0).numpy()
    starts = (ends - sizes_T).numpy()[filled]
    if len(starts):
        finite_N = together_N.isfinite()
        zeroed_N = together_N.where(finite_N, 0.0).double().numpy()
        moments_TM[filled] = np.stack(
            (
                np.minimum.reduceat(together_N.where(finite_N, torch.inf).numpy(), starts),
                np.maximum.reduceat(together_N.where(finite_N, -torch.inf).numpy(), starts),
                np.add.reduceat(zeroed_N, starts),
                np.add.reduceat(np.square(zeroed_N), starts),
            ),
            axis=1,
        )
    return counts_TB, moments_TM


def _moments(values_N: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return the moments of finite values, summed in float32, or in float64 where float32 overflows or underflows."""
    if not len(values_N):
        return 0.0, 0.0, 0.0, 0.0
    with np.errstate(all="ignore"):  # values may be infinite or NaN
        total, squares = float(values_N.sum()), float(values_N.dot(values_N))
        if not math.isfinite(total):
            total = float(values_N.sum(dtype=np.float64))
        if not _SQUARES_MIN < squares < math.inf:
            squares = float(np.square(values_N, dtype=np.float64).sum())
        return float(values_N.min()), float(values_N.max()), total, squares
