"""What sequence encoders share: which positions are real, and what is done with those that are padding."""

import torch
from torch import Tensor, nn


class Valid(nn.Module):
    """From lengths ``[B]`` to a bool mask ``[B, positions]``, true for the first ``lengths[b]`` positions of a row."""

    def forward(self, lengths: Tensor, positions: int) -> Tensor:
        """Return the mask."""
        return torch.arange(positions, device=lengths.device) < lengths[:, None]


class ZeroPadding(nn.Module):
    """Sets features ``[B, C, T]`` to zero where a mask ``[B, T]`` is false."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return the masked features."""
        return features * valid[:, None]


class MaskedMean(nn.Module):
    """The mean of features ``[B, L, C]`` over the valid positions, ``[B, C]``; a row without any gives zeros."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return the means."""
        weights = valid[..., None].to(features.dtype)
        return (features * weights).sum(1) / weights.sum(1).clamp(min=1)
