"""One pass over the validation split: its losses, and all its embeddings on the CPU."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data import Batch, DataError
from trainer.losses import Losses, contrastive_losses, same_items
from trainer.model.brain import Brain, Latents
from trainer.retrieval import alignments, chance_at_1, recalls

THUMBNAIL_SIDE_PX: Final = 32


@dataclass(frozen=True)
class Evaluation:
    """The validation split as the model sees it now: N pairs, one for each picture.

    ``units`` are float32 ``[N, D]``, ``thumbnails`` uint8 ``[N, 3, 32, 32]``, ``first`` the first batch.
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
        """Return Recall@1, the mean of the six directions."""
        values = [value for name, value in self.recalls.items() if name.endswith("/recall_at_1")]
        return sum(values) / len(values)


@torch.no_grad()
def evaluate(model: Brain, batches: Iterable[Batch], device: torch.device, autocast: torch.autocast) -> Evaluation:
    """Run the model in eval mode, and leave it in training mode.

    A loss is the mean over the pairs, each against the others of its batch. Raises DataError if there is no pair.
    """
    model.eval()
    parts: list[tuple[Batch, Latents, Losses]] = []
    for batch in batches:
        with autocast:
            units = forward(model, batch.to(device, non_blocking=True)).unit()
        losses = contrastive_losses(units, model.scale(), same_items(batch.captions).to(device))
        parts.append((batch, units, losses))
    model.train()
    if not parts:
        raise DataError("no pair of the validation split could be decoded: there is nothing to validate with")
    return _joined(parts)


def forward(model: Brain, batch: Batch) -> Latents:
    """Run the model on a batch."""
    latents: Latents = model(batch.tokens, batch.images, batch.waveforms, batch.waveform_lengths)
    return latents


def _joined(parts: list[tuple[Batch, Latents, Losses]]) -> Evaluation:
    batches = [batch for batch, _, _ in parts]
    units = Latents(*(torch.cat(part).cpu() for part in zip(*(units for _, units, _ in parts), strict=True)))
    sizes = torch.tensor([float(len(batch)) for batch in batches])
    losses = torch.stack([torch.stack(losses) for _, _, losses in parts]).cpu()
    means = (losses * sizes[:, None]).sum(0) / sizes.sum()
    captions = tuple(_each(batch.captions for batch in batches))
    relevant = same_items(captions)
    return Evaluation(
        losses=dict(zip(Losses._fields, means.tolist(), strict=True)),
        units=units,
        captions=captions,
        image_names=tuple(_each(batch.image_names for batch in batches)),
        thumbnails=torch.cat([_thumbnails(batch.images) for batch in batches]),
        first=batches[0],
        recalls=recalls(units, relevant),
        alignments=alignments(units),
        chance=chance_at_1(relevant),
    )


def _each(groups: Iterable[tuple[str, ...]]) -> Iterator[str]:
    return (item for group in groups for item in group)


def _thumbnails(images: Tensor) -> Tensor:
    small = functional.interpolate(images, size=(THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), mode="area")
    return (small * 255).round().to(torch.uint8)
