"""An independent implementation of tensor summaries, to compare with."""

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import TensorSummary


def index_of(values: npt.ArrayLike, mantissa_bits: int) -> npt.NDArray[np.uint16]:
    """Return the bucket of each value."""
    patterns = np.asarray(values, np.float32).view(np.uint32)
    return (patterns >> np.uint32(23 - mantissa_bits)).astype(np.uint16)


def summary_of(values: npt.ArrayLike, mantissa_bits: int = 3) -> TensorSummary:
    """Return the summary of values."""
    tensor = np.asarray(values, np.float32).ravel()
    finite = tensor[np.isfinite(tensor)]
    indexes, counts = np.unique(index_of(finite, mantissa_bits), return_counts=True)
    around_zero = (indexes & ((1 << (8 + mantissa_bits)) - 1)) == 0
    wide = finite.astype(np.float64)
    return TensorSummary(
        count=tensor.size,
        zeros=int(counts[around_zero].sum()),
        nans=int(np.isnan(tensor).sum()),
        positive_infinities=int(np.isposinf(tensor).sum()),
        negative_infinities=int(np.isneginf(tensor).sum()),
        minimum=float(wide.min()) if wide.size else 0.0,
        maximum=float(wide.max()) if wide.size else 0.0,
        sum=float(wide.sum()),
        sum_squares=float((wide * wide).sum()),
        mantissa_bits=mantissa_bits,
        indexes=pack_array(indexes[~around_zero]),
        counts=pack_array(counts[~around_zero].astype(np.uint64)),
    )
