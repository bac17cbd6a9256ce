"""Contrastive losses, symmetric InfoNCE between modalities, and their moments. All values stay on the device."""

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tensorboard_sidecar.trainer.model import Latents

PAIRS_MIN: Final = 2
"""A single pair has no negatives."""


class Losses(NamedTuple):
    """The losses of a batch, 0-d each; ``total`` is the sum of the other four."""

    total: Tensor
    text_image: Tensor
    text_audio: Tensor
    image_audio: Tensor
    global_modal: Tensor


def contrastive_losses(units: Latents, scale: Tensor, duplicates: Tensor) -> Losses:
    """Return the losses of unit vectors ``[N, D]``.

    ``global_modal`` is the mean loss of the global latent against each modality. ``scale`` is one over the temperature.
    ``duplicates`` marks rows with equal captions (bool ``[N, N]``, see :func:`same_items`).
    """
    text, image, audio, global_ = units
    text_image = info_nce(text, image, scale, duplicates)
    text_audio = info_nce(text, audio, scale, duplicates)
    image_audio = info_nce(image, audio, scale, duplicates)
    against_each = [info_nce(global_, modality, scale, duplicates) for modality in (text, image, audio)]
    global_modal = torch.stack(against_each).mean()
    total = text_image + text_audio + image_audio + global_modal
    return Losses(total, text_image, text_audio, image_audio, global_modal)


def info_nce(a: Tensor, b: Tensor, scale: Tensor, duplicates: Tensor) -> Tensor:
    """Return the mean cross-entropy of both directions, 0-d (arXiv:2103.00020, figure 3).

    Row ``n`` of ``a`` matches row ``n`` of ``b``. All other rows are negatives, except duplicates, which are left out
    of the softmax.
    """
    own = torch.eye(len(a), dtype=torch.bool, device=a.device)
    logits = (scale * a @ b.T).masked_fill(duplicates & ~own, -torch.inf)
    targets = torch.arange(len(a), device=a.device)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def same_items(keys: Tensor) -> Tensor:
    """Return bool ``[N, N]`` from keys ``[N]``: true where two keys are equal, including the diagonal.

    Two images of a batch may have equal captions. As negatives of each other they would push matching pairs apart.
    """
    return keys[:, None] == keys[None, :]


class RunningMoments:
    """Mean and standard deviation of 0-d values, summed in float64 on their device; the results are 0-d."""

    def __init__(self, device: torch.device) -> None:
        self.count = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, value: Tensor) -> None:
        """Add a value to the sums."""
        double = value.detach().double()
        self._sums += torch.stack((double, double * double))
        self.count += 1

    def mean(self) -> Tensor:
        """Return the mean; NaN without values."""
        return self._sums[0] / self.count

    def std(self) -> Tensor:
        """Return the population standard deviation (divisor N); NaN without values."""
        return (self._sums[1] / self.count - self.mean().square()).clamp(min=0).sqrt()
