"""Which pairs an epoch visits, and in which order: a function of the seed and the epoch's number, nothing else.

So a run that is resumed, has another number of workers, or starts in the middle of an epoch sees the same batches.
"""

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from tensorboard_sidecar.trainer.data.flickr8k import Pair


class Draw(NamedTuple):
    """One row to come: the place of its pair, and the seed of its crop (None: the middle of the picture)."""

    pair: int
    crop_seed: int | None


class Order:
    """The batches of every epoch over some pairs; as an iterable, those of `epoch` from `first_batch` on.

    In training an epoch visits each image once, in an order and with a caption drawn for that epoch, so that no two
    rows of a batch share an image. A last batch that is not full is left out, because a contrastive loss depends on
    the number of rows; its images come at another place in the next epoch. If there is not one full batch, all
    images make up the only one. In validation every epoch is the same: each image with its first pair, none left out,
    in batches that differ by one row at most, as near to `batch_size` as that allows (of two rows at least, where
    there are two): in a short last one each row would have few others to be told apart from.
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
        """Return the batches of a whole epoch."""
        images = len(self._choices)
        if self._train:
            return images // self._batch_size or min(images, 1)
        return math.ceil(images / self._batch_size - 0.5) or min(images, 1)

    @property
    def rows(self) -> int:
        """The rows of all batches of an epoch."""
        return min(len(self._choices), len(self) * self._batch_size) if self._train else len(self._choices)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the batches of `epoch`, beginning with number `first_batch`."""
        draws = self._shuffled() if self._train else [Draw(indices[0], None) for indices in self._choices]
        batches, rows = len(self), self.rows
        for number in range(self.first_batch, batches):
            yield draws[number * rows // batches : (number + 1) * rows // batches]

    def _shuffled(self) -> list[Draw]:
        random = Random(f"{self._seed}:{self.epoch}")
        draws = [Draw(random.choice(indices), random.getrandbits(32)) for indices in self._choices]
        random.shuffle(draws)
        return draws
