"""One pass over the validation split: losses, retrieval quality, and all embeddings in host memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tensorboard_sidecar.trainer.data import Batch, DataError
from tensorboard_sidecar.trainer.losses import PAIRS_MIN, Losses, contrastive_losses, same_items
from tensorboard_sidecar.trainer.model import Brain, Latents
from tensorboard_sidecar.trainer.retrieval import alignments, chance_at_1, recalls

THUMBNAIL_SIDE_PX: Final = 32


@dataclass(frozen=True)
class Evaluation:
    """The results on the validation split: N pairs, one for each image.

    ``units`` are unit vectors, float32 ``[N, D]``; ``thumbnails`` are uint8 ``[N, 3, 32, 32]``; ``first`` is the first
    batch.
    """

    losses: dict[str, float]
    units: Latents
    captions: tuple[str, ...]
    image_names: tuple[str, ...]
    thumbnails: Tensor
    first: Batch
    recalls: dict[str, float]
    alignments: dict[str, float]
    chance: float

    def recall_at_1(self) -> float:
        """Return the mean Recall@1 of the six directions."""
        values = [value for name, value in self.recalls.items() if name.endswith("/recall_at_1")]
        return sum(values) / len(values)


class _BatchResult(NamedTuple):
    """The results of one batch; thumbnails, since hundreds of full-size images would take a gigabyte.

    ``losses`` (float32 ``[5]``, on the device) is None for a batch of less than PAIRS_MIN pairs.
    """

    units: Latents
    losses: Tensor | None
    caption_keys: Tensor
    captions: tuple[str, ...]
    image_names: tuple[str, ...]
    thumbnails: Tensor


@torch.no_grad()
def evaluate(model: Brain, batches: Iterable[Batch], device: torch.device, autocast: torch.autocast) -> Evaluation:
    """Run the model in eval mode over all batches, and switch the model back to training mode.

    A loss is the mean over all pairs; the negatives of a pair are the other pairs of its batch. Raises DataError when
    no batch has two pairs.
    """
    model.eval()
    parts: list[_BatchResult] = []
    first: Batch | None = None
    for host_batch in batches:
        if len(host_batch) == 0:
            continue
        first = first or host_batch
        batch = host_batch.to(device, non_blocking=True)
        with autocast:
            units = forward(model, batch).unit()
        losses = None
        if len(batch) >= PAIRS_MIN:
            losses = torch.stack(contrastive_losses(units, model.scale(), same_items(batch.caption_keys)))
        names, thumbnails = host_batch.image_names, _thumbnails(host_batch.images)
        parts.append(_BatchResult(units, losses, host_batch.caption_keys, host_batch.captions, names, thumbnails))
    model.train()
    if first is None or all(part.losses is None for part in parts):
        raise DataError("no two pairs of the validation split could be decoded: there is nothing to validate with")
    return _combined(parts, first)


def forward(model: Brain, batch: Batch) -> Latents:
    """Run the model on a batch."""
    latents: Latents = model(batch.tokens, batch.images, batch.waveforms, batch.waveform_lengths)
    return latents


def _combined(parts: list[_BatchResult], first: Batch) -> Evaluation:
    units = Latents(*(torch.cat(part).cpu() for part in zip(*(part.units for part in parts), strict=True)))
    compared = [(float(len(part.captions)), part.losses) for part in parts if part.losses is not None]
    sizes = torch.tensor([size for size, _ in compared])
    losses = torch.stack([losses for _, losses in compared]).cpu()
    means = (losses * sizes[:, None]).sum(0) / sizes.sum()
    relevant = same_items(torch.cat([part.caption_keys for part in parts]))
    return Evaluation(
        losses=dict(zip(Losses._fields, means.tolist(), strict=True)),
        units=units,
        captions=tuple(caption for part in parts for caption in part.captions),
        image_names=tuple(name for part in parts for name in part.image_names),
        thumbnails=torch.cat([part.thumbnails for part in parts]),
        first=first,
        recalls=recalls(units, relevant),
        alignments=alignments(units),
        chance=chance_at_1(relevant),
    )


def _thumbnails(images: Tensor) -> Tensor:
    small = functional.interpolate(images, size=(THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), mode="area")
    return (small * 255).round().to(torch.uint8)
