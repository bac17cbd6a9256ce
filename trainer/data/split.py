"""Split image names into training, validation and test sets, for a data set without split lists."""

import hashlib
from collections.abc import Iterable
from typing import Final

TRAIN_PERCENT: Final = 80
VALIDATION_PERCENT: Final = 10
VALIDATION_FROM_IMAGES: Final = 10
"""With this many images or more, the validation set is never empty."""


def split_by_hash(names: Iterable[str], seed: int) -> tuple[set[str], set[str], set[str]]:
    """Return (training, validation, test) names, about 80, 10 and 10 percent.

    The set of a name depends on the seed and the name alone, on every machine: additional or missing images move no
    other image. Exception: if the validation set of ten or more images would be empty, a tenth of the images with the
    lowest hashes becomes the validation set.
    """
    ranked = sorted((_fraction(name, seed), name) for name in set(names))
    train_below = TRAIN_PERCENT / 100
    validation_below = train_below + VALIDATION_PERCENT / 100
    train = {name for fraction, name in ranked if fraction < train_below}
    validation = {name for fraction, name in ranked if train_below <= fraction < validation_below}
    test = {name for fraction, name in ranked if fraction >= validation_below}
    if not validation and len(ranked) >= VALIDATION_FROM_IMAGES:
        validation = {name for _, name in ranked[: len(ranked) * VALIDATION_PERCENT // 100]}
    return train - validation, validation, test - validation


def _fraction(name: str, seed: int) -> float:
    """Return a number in [0, 1), a hash of seed and name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
