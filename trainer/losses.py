"""Symmetric InfoNCE between modalities; every value stays on the device."""

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tensorboard_sidecar.trainer.model.brain import Latents

PAIRS_MIN: Final = 2
"""One pair alone has nothing to be told apart from."""


class Losses(NamedTuple):
    """Losses of a batch, 0-d each; ``total`` is the sum of the others."""

    total: Tensor
    text_image: Tensor
    text_audio: Tensor
    image_audio: Tensor
    global_modal: Tensor


def contrastive_losses(units: Latents, scale: Tensor, duplicates: Tensor) -> Losses:
    """Return the losses of unit vectors ``[N, D]``; ``global_modal`` is the mean of global against each modality.

    ``duplicates`` marks the rows that say the same (bool ``[N, N]``, see :func:`same_items`).
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
    """Return the mean of both directions' cross-entropy, 0-d (arXiv:2103.00020, figure 3).

    Row ``n`` of ``a`` belongs to row ``n`` of ``b``; all others are its negatives, but for its duplicates, which
    are left out of the softmax.
    """
    own = torch.eye(len(a), dtype=torch.bool, device=a.device)
    logits = (scale * a @ b.T).masked_fill(duplicates & ~own, -torch.inf)
    targets = torch.arange(len(a), device=a.device)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def same_items(keys: Tensor) -> Tensor:
    """Return bool ``[N, N]`` from keys ``[N]``: true where two are equal, so on the diagonal.

    Two pictures of a batch may have the same caption. As negatives of each other they would teach that what belongs
    together does not.
    """
    return keys[:, None] == keys[None, :]
