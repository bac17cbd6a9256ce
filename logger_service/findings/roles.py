"""What a tag means: the mapping from the names that people give their curves to the roles that rules read.

The mapping knows the reference trainer's tags, the defaults of Lightning, Transformers, Accelerate, Ignite and
Stable-Baselines3, and the usual names in hand-written loops. A name is split into lower-case words at everything that
is no letter or digit, and at changes from small to large letters: ``train/gradNorm`` has the words train, grad, norm.
When in doubt a tag has no role: a rule that does not judge is better than one that cries wolf.
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
    GAME = "loss of reinforcement learning or of adversarial networks"
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
        Role.GAME,
    }
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_TRAINING: Final = frozenset({"train", "training", "trainer", "progress"})
_VALIDATION: Final = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "test", "testing"})
# With one of these words, a tag with the word loss is a number about a loss.
_ABOUT_A_LOSS: Final = frozenset(
    {"std", "scale", "scaler", "weight", "weights", "min", "max", "best", "variance", "var", "time", "seconds", "coef"}
)
# Losses of games between networks, and of reinforcement learning: healthy ones rise, spike, and change their sign.
_GAME: Final = frozenset(
    {
        *("policy", "actor", "critic", "ent", "pg", "vf", "qf", "reward"),
        *("gen", "generator", "disc", "discriminator", "adv", "adversarial", "gan"),
    }
)
_GAME_LOSS: Final = re.compile(r"(^|_)value_loss|(^|train_)entropy_loss|(^|[a-z]_)[dg]_loss|loss_[dg]$")
_SCORES: Final = frozenset(
    {
        *("acc", "accuracy", "recall", "precision", "auc", "auroc", "map", "ap", "bleu", "rouge", "iou", "dice"),
        *("ndcg", "mrr", "fscore", "top1", "acc1", "acc5"),
    }
)
_METRICS: Final = _SCORES | {"metric", "metrics", "perplexity", "ppl", "correlation", "pearson", "spearman"}
_SCORE: Final = re.compile(r"(^|_)(f_1|r_2)(_|$)")
# The norm of all gradients together: the words after "norm" name no layer.
_GRADIENT_NORM: Final = re.compile(
    r"(^|_)(grad(ient|ients|s)?_(l_?\d_)?norm|gradnorm|grad_(\d_\d|inf)_norm)"
    r"(_(total|global|all|model|before|after|pre|post|clip|clipped|clipping|step|epoch|l|\d))*$"
)
_NO_LEARNING_RATE: Final = frozenset({"momentum", "decay", "scale", "mult", "multiplier", "factor", "ratio", "time"})
_HARDWARE: Final = frozenset(
    {"gpu", "cpu", "system", "device", "hardware", "sensor", "celsius", "machine", "sampling", "gumbel", "distillation"}
)
# A tag of any length is looked at up to here.
_LOOKED_AT_CHARACTERS: Final = 256


@lru_cache(maxsize=4096)
def role_of_curve(tag: str) -> Role | None:
    """Return the role of a scalar tag, or None.

    >>> for tag in ("train_loss", "val/loss", "lr-AdamW", "eval_accuracy"):
    ...     print(role_of_curve(tag))
    training loss
    validation loss
    learning rate
    accuracy, recall or another score of validation that grows
    >>> role_of_curve("throughput")
    """
    words = _words(tag)
    some = frozenset(words)
    joined = "_".join(words)
    if tag.startswith("telemetry/"):
        return Role.LAG if "lag" in some else None
    if tag.startswith(("flight/", "findings/", "hparam/")):
        return None
    if _GRADIENT_NORM.search(joined):
        return Role.CLIPPED_NORM if some & {"clipped", "after"} else Role.GRADIENT_NORM
    if joined.endswith("dimension_std"):
        return Role.DIMENSION_STD
    if words and words[-1] == "norm" and some & {"embedding", "embeddings"}:
        return Role.EMBEDDING_NORM
    if "lr" in some or "learning_rate" in joined:
        return None if some & _NO_LEARNING_RATE else Role.LEARNING_RATE
    if "temperature" in some:
        return None if some & _HARDWARE else Role.TEMPERATURE
    if words and words[-1] == "epoch" and some <= _TRAINING | _VALIDATION | {"epoch"}:
        return Role.EPOCH
    if re.search(r"_to_.*recall", joined):
        return Role.RECALL
    return _role_of_result(words, joined)


def _role_of_result(words: list[str], joined: str) -> Role | None:
    some = frozenset(words)
    validation = some & _VALIDATION or joined.startswith(("valloss", "validloss", "testloss", "evalloss"))
    if any(word.endswith("loss") for word in words) or "nll" in some:
        if some & _ABOUT_A_LOSS:
            return None
        if some & _GAME or _GAME_LOSS.search(joined):
            return Role.GAME
        if not validation:
            # Transformers logs the mean over the run, once and at its end, as train/train_loss.
            return None if joined == "train_train_loss" else Role.LOSS
        return None if "step" in some else Role.VALIDATION_LOSS  # Lightning's val_loss_step has a point a batch
    if some & _SCORES or _SCORE.search(joined):
        return None if some & _TRAINING or ("step" in some and validation) else Role.QUALITY
    return None


@lru_cache(maxsize=4096)
def is_metric(tag: str) -> bool:
    """Tell whether a scalar is a metric, which may be undefined in a healthy run.

    >>> is_metric("val/auroc"), is_metric("train/perplexity"), is_metric("train/loss")
    (True, True, False)
    """
    words = _words(tag)
    return bool(_METRICS.intersection(words) or _SCORE.search("_".join(words)))


@lru_cache(maxsize=4096)
def subject(tag: str) -> frozenset[str]:
    """Return the words of a tag that say of what it is the loss: equal for the curves of training and validation.

    >>> subject("loss/val/text_image") == subject("loss/train/text_image") != subject("loss/train/total")
    True
    """
    return frozenset(_words(tag)) - _TRAINING - _VALIDATION - {"step", "epoch", "mean", "batch"}


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
