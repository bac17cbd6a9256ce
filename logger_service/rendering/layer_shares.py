"""How the values of each layer spread over the octaves of magnitude: numbers behind the overview, no pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.protocol.buckets import bucket_octaves
from tensorboard_sidecar.protocol.messages import TensorSummary

Floats: TypeAlias = npt.NDArray[np.float64]

OCTAVE_MIN: Final = -134  # below every bucket that a summary can hold, and
OCTAVE_MAX: Final = 128  # above
SHARE_MIN: Final = 1e-4  # what is rarer in every layer does not widen the axis
_ROUNDING: Final = 4  # ends of the axis are multiples of this, so that it stays the same while values move a little
_OCTAVES_SHOWN_MIN: Final = 12


@dataclass(frozen=True, slots=True)
class LayerShares:
    """Shares of a layer's values, 0 to 1: ``octaves`` ``[layers, OCTAVE_MAX - OCTAVE_MIN]``, the others ``[layers]``.

    ``root_mean_square_log2`` is NaN for a layer without values apart from zero.
    """

    octaves: Floats
    zeros: Floats
    infinities: Floats
    nans: Floats
    root_mean_square_log2: Floats

    @classmethod
    def of(cls, summaries: Sequence[TensorSummary]) -> Self:
        """Take the shares from summaries."""
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
        """Average neighbours so that at most ``rows_max`` rows remain; the largest mean square stands for them."""
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
        """Return the octaves to show, from the first up to but not including the last; rounded, never empty."""
        seen = np.flatnonzero((self.octaves >= SHARE_MIN).any(axis=0)) + OCTAVE_MIN
        marks = self.root_mean_square_log2[~np.isnan(self.root_mean_square_log2)]
        marks = np.clip(np.floor(marks), OCTAVE_MIN, OCTAVE_MAX - 1).astype(np.int64)
        shown = np.concatenate((seen, marks)) if seen.size or marks.size else np.array([-1])
        high = -(-(int(shown.max()) + 1) // _ROUNDING) * _ROUNDING
        low = min(int(shown.min()) // _ROUNDING * _ROUNDING, high - _OCTAVES_SHOWN_MIN)
        return low, high
