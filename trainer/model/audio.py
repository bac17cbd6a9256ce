"""The audio encoder: log-mel spectrogram and a small convolutional network over time.

The recordings of a batch are padded to the longest. Padding is zero in the input and set to zero after every block, so
that a recording's features do not depend on the other recordings of its batch.
"""

from itertools import pairwise
from typing import Final

import torch
import torchaudio
from torch import Tensor, nn

from tensorboard_sidecar.trainer.model.padding import MaskedMean, Valid, ZeroPadding

WINDOW_SECONDS: Final = 0.032
HOP_SECONDS: Final = 0.016


class LogMel(nn.Module):
    """Waveforms ``[B, samples]`` to log-mel frames ``[B, bands, T]``, for speech of about zero mean and unit deviation.

    Computed in float32: the squares in a spectrogram exceed the range of float16.
    """

    def __init__(self, sample_rate_hz: int, bands: int) -> None:
        super().__init__()
        window = round(WINDOW_SECONDS * sample_rate_hz)
        self.hop = round(HOP_SECONDS * sample_rate_hz)
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate_hz,
            n_fft=1 << (window - 1).bit_length(),
            win_length=window,
            hop_length=self.hop,
            n_mels=bands,
            pad_mode="constant",  # zeros on both sides, equal to the padding
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the frames; frame ``t`` is centred on sample ``t * hop``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            power: Tensor = self.mel(waveforms.float())
            # Power is 1e-6 (silence) to about 1e2; its natural logarithm is -14 to 5.
            return (torch.log(power + 1e-6) + 5) / 5

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the number of frames for each length in samples."""
        return lengths // self.hop + 1


class ConvBlock(nn.Module):
    """Convolution over time, layer norm, GELU; halves the frames and zeroes those beyond a recording's end."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel_size=5, stride=2, padding=2)
        self.norm = nn.LayerNorm(channels)  # per frame: batch statistics would include the padding
        self.activation = nn.GELU()
        self.zero_padding = ZeroPadding()

    def forward(self, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Take features ``[B, C, T]`` and their mask ``[B, T]``; return both for ``ceil(T / 2)`` frames."""
        features = self.conv(features)
        features = self.activation(self.norm(features.transpose(1, 2))).transpose(1, 2)
        valid = valid[:, ::2]
        return self.zero_padding(features, valid), valid


class AudioEncoder(nn.Module):
    """Recordings to features ``[B, width]``.

    ``forward`` takes waveforms ``[B, samples]``, floats in -1..1, and their lengths without padding, int64 ``[B]``.
    """

    def __init__(self, sample_rate_hz: int, *, bands: int = 64, width: int = 192, blocks: int = 4) -> None:
        super().__init__()
        self.width = width
        self.log_mel = LogMel(sample_rate_hz, bands)
        self.valid = Valid()
        self.zero_padding = ZeroPadding()
        sizes = [bands] + [width] * blocks
        self.blocks = nn.ModuleList(ConvBlock(a, b) for a, b in pairwise(sizes))
        self.pool = MaskedMean()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Encode the recordings."""
        features = self.log_mel(waveforms)
        valid = self.valid(self.log_mel.frames(lengths), features.shape[2])
        features = self.zero_padding(features, valid)
        for block in self.blocks:
            features, valid = block(features, valid)
        pooled: Tensor = self.pool(features.transpose(1, 2), valid)
        return pooled
