"""Change the sample rate of a sound."""

import math

import numpy as np
from numpy.typing import NDArray


def resample(samples: NDArray[np.float64], from_hz: int, to_hz: int) -> NDArray[np.float64]:
    """Return the sound at `to_hz`: its spectrum cut, or continued with silence, at the new Nyquist frequency.

    The sound is padded with silence to a length at which the ratio of the rates comes out even, so the result is
    exact for any two rates, in time n log n and without a filter whose size grows with odd rates.
    """
    common = math.gcd(from_hz, to_hz)
    block, new_block = from_hz // common, to_hz // common
    blocks = -(-len(samples) // block)
    if blocks == 0:
        return np.zeros(0)
    spectrum = np.fft.rfft(samples, blocks * block)[: blocks * min(block, new_block) // 2 + 1]
    resampled = np.fft.irfft(spectrum, blocks * new_block) * (new_block / block)
    return resampled[: -(-len(samples) * new_block // block)]
