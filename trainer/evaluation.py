"""One pass over the validation split: losses, retrieval quality, and all embeddings in host memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tensorboard_sidecar.trainer.data.loader import Batch
from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.losses import PAIRS_MIN, Losses, contrastive_losses, same_items
from tensorboard_sidecar.trainer.model import Brain, Latents

THUMBNAIL_SIDE_PX: Final = 32
RANKS: Final = (1, 5, 10)
DIRECTIONS: Final = tuple((a, b) for a in ("text", "image", "audio") for b in ("text", "image", "audio") if a != b)
MODALITY_PAIRS: Final = (("text", "image"), ("text", "audio"), ("image", "audio"))


@dataclass(frozen=True)
class Evaluation:
    """The results on the validation split: N pairs, one for each image.

    ``units``: unit vectors, float32 ``[N, D]``; ``thumbnails``: uint8 ``[N, 3, 32, 32]``; ``first``: the first batch.
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
        small = functional.interpolate(host_batch.images, size=THUMBNAIL_SIDE_PX, mode="area")
        names, thumbnails = host_batch.image_names, (small * 255).round().to(torch.uint8)
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


def recalls(units: Latents, relevant: Tensor) -> dict[str, float]:
    """Return ``<query>_to_<answer>/recall_at_<k>`` for the six directions and :data:`RANKS`.

    ``relevant`` (bool ``[N, N]``, true on the diagonal) marks the correct answers of each query.
    """
    found: dict[str, float] = {}
    for query, answer in DIRECTIONS:
        ranks = best_ranks(getattr(units, query) @ getattr(units, answer).T, relevant)
        found |= {f"{query}_to_{answer}/recall_at_{k}": float((ranks <= k).double().mean()) for k in RANKS}
    return found


def chance_at_1(relevant: Tensor) -> float:
    """Return the expected Recall@1 of a random ranking."""
    return float(relevant.double().mean())


def best_ranks(similarity: Tensor, relevant: Tensor) -> Tensor:
    """Return int64 ``[N]``: the rank, from 1, of each query's best relevant answer.

    Pessimistic: an irrelevant answer ranks first on a tie, and whenever either similarity is NaN.
    """
    best = similarity.masked_fill(~relevant, -torch.inf).amax(1, keepdim=True)
    return 1 + (~(similarity < best) & ~relevant).sum(1)


def alignments(units: Latents) -> dict[str, float]:
    """Return the cosine similarity of the three modality pairs.

    ``<a>_vs_<b>/diagonal_similarity`` is the mean over matching pairs, ``<a>_vs_<b>/mean_similarity`` the mean over all
    combinations.
    """
    found: dict[str, float] = {}
    for first, second in MODALITY_PAIRS:
        a, b = getattr(units, first), getattr(units, second)
        found[f"{first}_vs_{second}/diagonal_similarity"] = float((a * b).sum(1).mean())
        found[f"{first}_vs_{second}/mean_similarity"] = float(a.mean(0) @ b.mean(0))
    return found
