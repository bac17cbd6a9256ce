"""The batches of an epoch as a pure function of the seed and the epoch's number.

A resumed run, a run with another number of workers and a start in the middle of an epoch all get the same batches.
"""

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from tensorboard_sidecar.trainer.data.flickr8k import Pair


class SampleSpec(NamedTuple):
    """The specification of a sample: the index of its pair, and the seed of its crop (None: centre crop)."""

    pair: int
    crop_seed: int | None


class Order:
    """The batch sampler: iterating yields the batches of ``epoch`` from ``first_batch`` on.

    Training: each epoch visits each image once, in a random order and with a random caption, so that no two rows of a
    batch share an image. An incomplete last batch is dropped, because a contrastive loss depends on the number of rows.
    With fewer images than ``batch_size``, all images form a single batch.

    Validation: all epochs are equal and visit each image with its first pair. Batch sizes differ by at most one row and
    are as near to ``batch_size`` as possible, at least two rows: rows of a short last batch would have few negatives.
    """

    def __init__(self, pairs: Sequence[Pair], *, batch_size: int, seed: int, train: bool) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        by_image: dict[str, list[int]] = {}
        for index, pair in enumerate(pairs):
            by_image.setdefault(pair.image_name, []).append(index)
        self._choices = list(by_image.values())
        self._batch_size = batch_size
        self._seed = seed
        self._train = train
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        images = len(self._choices)
        if self._train:
            return images // self._batch_size or min(images, 1)
        return math.ceil(images / self._batch_size - 0.5) or min(images, 1)

    @property
    def rows(self) -> int:
        """The number of rows in a whole epoch."""
        return min(len(self._choices), len(self) * self._batch_size) if self._train else len(self._choices)

    def __iter__(self) -> Iterator[list[SampleSpec]]:
        """Yield the batches of ``epoch`` from number ``first_batch`` on."""
        specs = self._shuffled() if self._train else [SampleSpec(indices[0], None) for indices in self._choices]
        batches, rows = len(self), self.rows
        for number in range(self.first_batch, batches):
            yield specs[number * rows // batches : (number + 1) * rows // batches]

    def _shuffled(self) -> list[SampleSpec]:
        random = Random(f"{self._seed}:{self.epoch}")
        specs = [SampleSpec(random.choice(indices), random.getrandbits(32)) for indices in self._choices]
        random.shuffle(specs)
        return specs
