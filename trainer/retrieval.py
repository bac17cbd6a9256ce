"""Retrieval quality and alignment: pure functions over unit vectors; row n of each modality is the same pair."""

from typing import Final

import torch
from torch import Tensor

from tensorboard_sidecar.trainer.model import Latents

RANKS: Final = (1, 5, 10)
DIRECTIONS: Final = tuple((a, b) for a in ("text", "image", "audio") for b in ("text", "image", "audio") if a != b)
MODALITY_PAIRS: Final = (("text", "image"), ("text", "audio"), ("image", "audio"))


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
