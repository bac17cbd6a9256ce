"""The sample rate of all waveforms, and the way to it from other rates. No torch: data sets are made without it."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 16_000
"""The sample rate of all waveforms that the trainer reads and writes."""


def resample(samples: NDArray[np.float64], from_hz: int, to_hz: int) -> NDArray[np.float64]:
    """Return the sound at ``to_hz``: its spectrum is cut, or extended with zeros, at the new Nyquist frequency.

    The sound is padded with silence to a length at which both rates have a whole number of samples. The result is
    therefore exact for any two rates, in O(n log n); a polyphase filter would grow with coprime rates.
    """
    common = math.gcd(from_hz, to_hz)
    block, new_block = from_hz // common, to_hz // common
    blocks = -(-len(samples) // block)
    if blocks == 0:
        return np.zeros(0)
    spectrum = np.fft.rfft(samples, blocks * block)[: blocks * min(block, new_block) // 2 + 1]
    resampled = np.fft.irfft(spectrum, blocks * new_block) * (new_block / block)
    return resampled[: -(-len(samples) * new_block // block)]
