"""Curves, histograms and tensors as torch's writer takes them: precision-recall curves, binned values, raw values.

Arrays become one-dimensional, and arrays of one call have one length. No function waits for a device: what depends on
the values of a device tensor happens in ``build``, on the sender thread.

Shape suffixes: N samples, B buckets, T thresholds.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tensorboard_sidecar.protocol.array import Array, pack_array
from tensorboard_sidecar.protocol.limits import HISTOGRAM_BUCKETS_MAX
from tensorboard_sidecar.protocol.messages import Histogram, PrCurve, PrCurveRaw
from tensorboard_sidecar.protocol.messages import Tensor as TensorMessage
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.values.arrays import Note, as_tensor, to_float32
from tensorboard_sidecar.telemetry.values.drafts import Arrays, Draft
from tensorboard_sidecar.telemetry.values.fit import ITEMS_SIZE_MAX_BYTES, Cut
from tensorboard_sidecar.telemetry.values.python_values import on_host, whole

THRESHOLDS_MAX: Final = 127
"""Thresholds of a curve: torch's writer takes no more."""

# Label, prediction and weight of a sample.
_SAMPLE_SIZE_BYTES: Final = 1 + 4 + 4
_RAW_NAMES: Final = (
    *("true_positive_counts", "false_positive_counts", "true_negative_counts", "false_negative_counts"),
    *("precision", "recall"),
)
_SMALLEST_LIMIT: Final = 1e-12
_LARGEST_LIMIT: Final = 1e20
_LIMIT_RATIO: Final = 1.1


def pr_curve(
    tag: str,
    labels: Any,
    predictions: Any,
    threshold_count: Any,
    weights: Any,
    note: Note,
    samples_max: int = ITEMS_SIZE_MAX_BYTES // _SAMPLE_SIZE_BYTES,
) -> Draft:
    """Return the draft of a precision-recall curve: the logger counts samples at 2 to 127 thresholds.

    ``labels`` are bools or numbers of 0 and 1, ``predictions`` are in 0..1, ``weights`` is None, a number or an array.
    A sample whose prediction is NaN or beyond 0..1 is in no count of torch's either, and is left out. Raises TypeError
    or ValueError for arrays of unequal sizes, without samples, and for other labels.
    """
    thresholds = min(whole("num_thresholds", threshold_count), THRESHOLDS_MAX)
    if thresholds < 2:
        raise ValueError(f"num_thresholds {thresholds}; expected 2 or more")
    samples = _samples(tag, labels, predictions, weights)
    if len(samples[0]) > samples_max:
        note(Cut("samples", f"{tag!r:.80}: the first {samples_max:,} of {len(samples[0]):,} samples are counted"))
        samples = [array_N[:samples_max] for array_N in samples]
    # torch's writer counts a prediction slightly above 1 at the last threshold.
    end = thresholds / (thresholds - 1)
    shown_N = samples[1]
    if shown_N.is_cpu and (lost := int((~((shown_N >= 0) & (shown_N < end))).sum())):
        note(Cut("predictions", f"{tag!r:.80}: {lost:,} of {len(shown_N):,} are not in 0..1 and are left out"))

    def build(arrays: Arrays) -> PrCurve:
        counted = (arrays[1] >= 0) & (arrays[1] < end)
        made = [pack_array(array[counted]) for array in (arrays[0], arrays[1].clip(None, 1), *arrays[2:])]
        return PrCurve(tag, made[0], made[1], thresholds, *made[2:])

    return Draft(Kind.PR_CURVE, samples, build)


def _samples(tag: str, labels: Any, predictions: Any, weights: Any) -> list[Tensor]:
    """Return labels as uint8 ``[N]``, predictions and, if given, weights as float32 ``[N]``."""
    labels_N = as_tensor(labels).reshape(-1)
    if labels_N.is_cpu and ((labels_N != 0) & (labels_N != 1)).any():
        raise ValueError(f"{tag!r:.80}: labels other than 0 and 1")
    samples = [(labels_N != 0).to(torch.uint8), to_float32(as_tensor(predictions)).reshape(-1)]
    if weights is not None:
        weights_N = to_float32(as_tensor(weights)).reshape(-1)
        samples.append(weights_N.expand(len(labels_N)) if len(weights_N) == 1 else weights_N)
    sizes = [len(array_N) for array_N in samples]
    if min(sizes) != max(sizes) or not sizes[0]:
        raise ValueError(f"{tag!r:.80}: {sizes[0]:,} labels, {sizes[1:]} predictions and weights; expected equal sizes")
    return samples


def pr_curve_raw(tag: str, rows: Sequence[Any]) -> Draft:
    """Return the draft of a finished curve: counts of true and false positives and negatives, precision, recall.

    Raises TypeError or ValueError for arrays of unequal sizes.
    """
    rows_T = [to_float32(as_tensor(row)).reshape(-1) for row in rows]
    sizes = dict(zip(_RAW_NAMES, map(len, rows_T), strict=True))
    if len({*sizes.values()}) > 1 or not rows_T[0].numel():
        raise ValueError(f"{tag!r:.80}: arrays of sizes {sizes}; expected equal sizes of 1 or more")
    return Draft(Kind.PR_CURVE_RAW, rows_T, lambda arrays: PrCurveRaw(tag, pack_array(np.stack(arrays))))


def histogram_raw(tag: str, moments: Sequence[Any], limits: Any, counts: Any) -> Draft:
    """Return the draft of a finished histogram.

    ``moments`` are minimum, maximum, number, sum and sum of squares; ``limits`` and ``counts`` are the right edge and
    the number of values of each bucket. Raises TypeError or ValueError for arrays of unequal sizes.
    """
    numbers = [float(on_host("a number of the histogram", number)) for number in moments]
    given_B = [as_tensor(values).reshape(-1) for values in (limits, counts)]
    if len(given_B[0]) != len(given_B[1]) or not given_B[0].numel():
        raise ValueError(
            f"{tag!r:.80}: {len(given_B[0]):,} bucket_limits for {len(given_B[1]):,} bucket_counts; expected equal"
            " numbers of 1 or more"
        )

    # Apple's devices have no float64: the conversion happens in host memory.
    def build(arrays: Arrays) -> Histogram:
        packed = [pack_array(array.astype(np.float64)) for array in arrays]
        return Histogram(tag, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], packed[0], packed[1])

    return Draft(Kind.HISTOGRAM, given_B, build)


def binned(tag: str, values: Any, bins: Any, max_bins: Any) -> Draft:
    """Return the draft of a histogram with numpy's ``bins``, at most about ``max_bins`` of them.

    As in torch's writer, neighbouring bins are joined to meet ``max_bins``, and empty bins at both ends are left out,
    except one at the left. Raises ValueError when no value lies in the bins, and numpy's errors.
    """
    values_N = to_float64(values)
    _check_bins(values_N, bins)
    counts_B, edges = np.histogram(values_N, on_host("bins", bins))
    if max_bins is not None and len(counts_B) > max_bins:
        joined = max(1, len(counts_B) // whole("max_bins", max_bins))
        edges = np.append(edges[:-1:joined], edges[-1])
        counts_B = np.add.reduceat(counts_B, np.arange(0, len(counts_B), joined))
    [occupied] = counts_B.nonzero()
    if not len(occupied):
        raise ValueError(f"{tag!r:.80}: no value lies in the bins")
    start, end = occupied[0], occupied[-1] + 1
    counts_B = counts_B[start - 1 : end] if start else np.concatenate(([0], counts_B[:end]))
    moments = values_N.min(), values_N.max(), values_N.size, values_N.sum(), values_N.dot(values_N)
    return histogram_raw(tag, moments, edges[start : end + 1], counts_B)


def _check_bins(values_N: npt.NDArray[Any], bins: Any) -> None:
    """Raise ValueError for more bins than a record takes: numpy would first allocate all of them.

    Of numpy's names, "auto" and "fd" (the width of a bin is twice the quartiles' distance by the cube root of N) make
    very many bins when a value lies far out.
    """
    number = bins if isinstance(bins, int) else 0
    if isinstance(bins, str) and bins in ("auto", "fd") and values_N.size and np.isfinite(values_N).all():
        low, high = np.percentile(values_N, [25, 75])
        width = 2 * (high - low) / np.cbrt(values_N.size)
        number = np.ptp(values_N) / width if width else 0
    if number > HISTOGRAM_BUCKETS_MAX:
        raise ValueError(f"more than {HISTOGRAM_BUCKETS_MAX:,} bins")


def to_float64(values: Any) -> npt.NDArray[Any]:
    """Return values in host memory as float64 ``[N]``. Raises TypeError for a tensor on a device."""
    return np.asarray(on_host("values", as_tensor(values)).reshape(-1).to(torch.float64).numpy())


@lru_cache(maxsize=1)
def default_bins() -> tuple[float, ...]:
    """Return the edges of torch's "tensorflow" bins: each a tenth larger than the last, from 1e-12 up to 1e20."""
    edges = []
    edge = _SMALLEST_LIMIT
    while edge < _LARGEST_LIMIT:
        edges.append(edge)
        edge *= _LIMIT_RATIO
    return (*(-edge for edge in reversed(edges)), 0.0, *edges)


def raw_tensor(tag: str, values: Any) -> Draft:
    """Return the draft of a tensor with its values: bools as uint8, and bfloat16 and float8 as float32."""
    tensor = as_tensor(values)
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    elif tensor.dtype == torch.bfloat16 or (tensor.element_size() == 1 and tensor.is_floating_point()):
        tensor = tensor.to(torch.float32)

    def build(arrays: Arrays) -> TensorMessage:
        [array] = arrays
        return TensorMessage(tag, _any_shape(array))

    return Draft(Kind.TENSOR, [tensor], build)


def _any_shape(array: npt.NDArray[Any]) -> Array:
    """Return an array with its shape: ``pack_array`` alone would give a number a dimension."""
    packed = pack_array(array)
    return Array(packed.dtype, array.shape, packed.data)
