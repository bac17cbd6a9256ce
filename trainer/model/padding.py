"""Modules for padded sequences, shared by the sequence encoders: mask, zeroing, masked mean."""

import torch
from torch import Tensor, nn


class Valid(nn.Module):
    """Lengths ``[B]`` to a bool mask ``[B, positions]``, true for the first ``lengths[b]`` positions of row ``b``."""

    def forward(self, lengths: Tensor, positions: int) -> Tensor:
        """Return the mask."""
        return torch.arange(positions, device=lengths.device) < lengths[:, None]


class ZeroPadding(nn.Module):
    """Sets features ``[B, C, T]`` to zero where a mask ``[B, T]`` is false."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return the masked features."""
        return features * valid[:, None]


class MaskedMean(nn.Module):
    """The mean of features ``[B, L, C]`` over valid positions, ``[B, C]``; zeros for a row without valid positions."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return the means."""
        weights = valid[..., None].to(features.dtype)
        return (features * weights).sum(1) / weights.sum(1).clamp(min=1)
