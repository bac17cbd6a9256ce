"""The distribution of each layer's values over octaves of magnitude: the numbers of the overview, without pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.protocol.buckets import bucket_octaves
from tensorboard_sidecar.protocol.messages import TensorSummary

Floats: TypeAlias = npt.NDArray[np.float64]

# Below and above all buckets that a summary can hold.
OCTAVE_MIN: Final = -134
OCTAVE_MAX: Final = 128
SHARE_MIN: Final = 1e-4  # an octave with a smaller share in every layer does not extend the axis
_ROUNDING: Final = 4  # the axis ends at multiples of this, so that small changes of values do not change it
_OCTAVES_SHOWN_MIN: Final = 12


@dataclass(frozen=True, slots=True)
class LayerShares:
    """Shares of a layer's values, 0 to 1: ``octaves`` ``[layers, OCTAVE_MAX - OCTAVE_MIN]``, the others ``[layers]``.

    ``root_mean_square_log2`` is NaN for a layer whose finite values are all zero.
    """

    octaves: Floats
    zeros: Floats
    infinities: Floats
    nans: Floats
    root_mean_square_log2: Floats

    @classmethod
    def of(cls, summaries: Sequence[TensorSummary]) -> Self:
        """Return the shares of summaries, a row for each. Raises Malformed for an invalid bucket."""
        octaves = np.zeros((len(summaries), OCTAVE_MAX - OCTAVE_MIN))
        zeros, infinities, nans, marks = np.zeros((4, len(summaries)))
        for layer, summary in enumerate(summaries):
            counts = summary.counts.numpy().astype(np.float64)
            places = bucket_octaves(summary.indexes.numpy(), summary.mantissa_bits) - OCTAVE_MIN
            np.add.at(octaves[layer], places, counts)
            zero, nan = max(summary.zeros, 0), max(summary.nans, 0)
            infinite = max(summary.positive_infinities, 0) + max(summary.negative_infinities, 0)
            finite = float(counts.sum()) + zero
            total = (finite + infinite + nan) or 1.0
            octaves[layer] /= total
            zeros[layer], infinities[layer], nans[layer] = zero / total, infinite / total, nan / total
            mean_square = summary.sum_squares / (finite or 1.0)
            marks[layer] = math.log2(mean_square) / 2 if 0 < mean_square < math.inf else math.nan
        return cls(octaves, zeros, infinities, nans, marks)

    def grouped(self, rows_max: int) -> Self:
        """Average groups of neighbours to at most ``rows_max`` rows; a group has its largest root mean square."""
        layers = self.zeros.size
        if layers <= rows_max:
            return self
        starts = np.arange(0, layers, -(-layers // rows_max))
        sizes = np.diff(starts, append=layers)
        return type(self)(
            np.add.reduceat(self.octaves, starts, axis=0) / sizes[:, None],
            np.add.reduceat(self.zeros, starts) / sizes,
            np.add.reduceat(self.infinities, starts) / sizes,
            np.add.reduceat(self.nans, starts) / sizes,
            np.fmax.reduceat(self.root_mean_square_log2, starts),
        )

    def span(self) -> tuple[int, int]:
        """Return the first octave to show and the octave after the last, rounded outwards; never empty."""
        seen = np.flatnonzero((self.octaves >= SHARE_MIN).any(axis=0)) + OCTAVE_MIN
        marks = self.root_mean_square_log2[~np.isnan(self.root_mean_square_log2)]
        marks = np.clip(np.floor(marks), OCTAVE_MIN, OCTAVE_MAX - 1).astype(np.int64)
        shown = np.concatenate((seen, marks)) if seen.size or marks.size else np.array([-1])
        high = -(-(int(shown.max()) + 1) // _ROUNDING) * _ROUNDING
        low = min(int(shown.min()) // _ROUNDING * _ROUNDING, high - _OCTAVES_SHOWN_MIN)
        return low, high
