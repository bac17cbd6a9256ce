"""What a tag means: the mapping from the names that people give their curves to the roles that rules read.

The mapping knows the reference trainer's tags, the defaults of Lightning, Transformers, Accelerate and Ignite, and the
usual names in hand-written loops. A name is split into lower-case words at everything that is no letter or digit, and
at changes from small to large letters: ``train/gradNorm`` has the words train, grad, norm.
"""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Role(StrEnum):
    """What a curve, a group of tensors, a matrix or an embedding is to the rules."""

    LOSS = "training loss"
    VALIDATION_LOSS = "validation loss"
    QUALITY = "accuracy, recall or another score of validation that grows"
    RECALL = "recall of one direction of retrieval"
    GRADIENT_NORM = "gradient norm"
    CLIPPED_NORM = "gradient norm after clipping"
    LEARNING_RATE = "learning rate"
    TEMPERATURE = "temperature of a contrastive loss"
    EPOCH = "epoch"
    DIMENSION_STD = "deviation of embedding components over a batch"
    EMBEDDING_NORM = "norm of embeddings"
    LAG = "seconds that telemetry lags behind"
    ANY_VALUE = "scalars, weights and gradients"
    WEIGHTS = "summaries of weights"
    GRADIENTS = "summaries of gradients"
    SIMILARITY = "similarity matrix"
    EMBEDDING = "embedding"
    PACE = "time of a training step"
    STREAM = "the stream of records"


# Roles of curves: a record with none of them costs the rules nothing but a look for NaN.
CURVES: Final = frozenset(
    {
        *(Role.LOSS, Role.VALIDATION_LOSS, Role.QUALITY, Role.RECALL, Role.GRADIENT_NORM, Role.CLIPPED_NORM),
        *(Role.LEARNING_RATE, Role.TEMPERATURE, Role.EPOCH, Role.DIMENSION_STD, Role.EMBEDDING_NORM, Role.LAG),
    }
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VALIDATION: Final = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "test"})
_NOT_A_LOSS: Final = frozenset({"std", "scale", "weight", "min", "max", "best", "variance", "var"})
_SCORES: Final = frozenset({"acc", "accuracy", "recall", "precision", "f1", "auc", "auroc", "map", "bleu", "iou", "r2"})
# A tag of any length is looked at up to here.
_LOOKED_AT_CHARACTERS: Final = 256


@lru_cache(maxsize=4096)
def role_of_curve(tag: str) -> Role | None:
    """Return the role of a scalar tag, or None.

    >>> [role_of_curve(tag) for tag in ("train_loss", "val/loss", "lr-AdamW", "eval_accuracy", "throughput")]
    [<Role.LOSS: 'training loss'>, <Role.VALIDATION_LOSS: 'validation loss'>, <Role.LEARNING_RATE: 'learning rate'>,
    <Role.QUALITY: 'accuracy, recall or another score of validation that grows'>, None]
    """
    words = _words(tag)
    some = frozenset(words)
    joined = "_".join(words)
    if tag.startswith("telemetry/"):
        return Role.LAG if "lag" in some else None
    if tag.startswith(("flight/", "findings/", "hparam/")):
        return None
    if "grad_norm" in joined or "gradient_norm" in joined or "gradnorm" in some:
        return Role.CLIPPED_NORM if "clipped" in some else Role.GRADIENT_NORM
    if joined.endswith("dimension_std"):
        return Role.DIMENSION_STD
    if words and words[-1] == "norm" and some & {"embedding", "embeddings"}:
        return Role.EMBEDDING_NORM
    if "lr" in some or "learning_rate" in joined:
        return Role.LEARNING_RATE
    if "temperature" in some:
        return Role.TEMPERATURE
    if words and words[-1] == "epoch":
        return Role.EPOCH
    if re.search(r"_to_.*recall", joined):
        return Role.RECALL
    return _role_of_result(some)


def _role_of_result(words: frozenset[str]) -> Role | None:
    if "loss" in words or "nll" in words:
        if words & _NOT_A_LOSS:
            return None
        return Role.VALIDATION_LOSS if words & _VALIDATION else Role.LOSS
    return Role.QUALITY if words & _SCORES and words & _VALIDATION else None


@lru_cache(maxsize=4096)
def role_of_summary(tag: str) -> Role | None:
    """Return WEIGHTS or GRADIENTS for the tag of a tensor summary or a histogram, or None.

    >>> role_of_summary("gradients/encoder/0/weight"), role_of_summary("layer1.weight")
    (<Role.GRADIENTS: 'summaries of gradients'>, <Role.WEIGHTS: 'summaries of weights'>)
    """
    words = frozenset(_words(tag))
    if words & {"grad", "grads", "gradient", "gradients"}:
        return Role.GRADIENTS
    return Role.WEIGHTS if words & {"weight", "weights", "bias", "param", "params", "parameters"} else None


@lru_cache(maxsize=4096)
def is_similarity(tag: str) -> bool:
    """Tell whether a matrix with this tag holds similarities of pairs.

    >>> is_similarity("similarity/text_vs_image"), is_similarity("confusion")
    (True, False)
    """
    return bool(frozenset(_words(tag)) & {"similarity", "similarities", "cosine", "logits"})


def _words(tag: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(tag[:_LOOKED_AT_CHARACTERS])]
