"""Batches of a data set, epoch by epoch, decoded in worker processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext

import torch
from torch.utils.data import DataLoader, Dataset

from tensorboard_sidecar.trainer.data.batch import Batch, Sample, Unreadable, collate
from tensorboard_sidecar.trainer.data.decode import UnreadableError, read_picture, read_recording
from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.data.order import Draw, Order
from tensorboard_sidecar.trainer.data.report import Tally
from tensorboard_sidecar.trainer.data.seen import Seen
from tensorboard_sidecar.trainer.data.vocabulary import END, Vocabulary


class PairDataset(Dataset[Sample | Unreadable]):
    """Decodes the pair a `Draw` asks for. It holds no state that decoding changes: any worker gives the same sample.

    `max_tokens` counts START and END; longer captions lose their last words, longer recordings their end.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        vocabulary: Vocabulary,
        *,
        image_side_px: int,
        max_seconds: float,
        max_tokens: int,
    ) -> None:
        self._pairs = tuple(pairs)
        self._vocabulary = vocabulary
        self._image_side_px = image_side_px
        self._max_seconds = max_seconds
        self._max_tokens = max_tokens

    def __getitem__(self, draw: Draw) -> Sample | Unreadable:
        pair = self._pairs[draw.pair]
        try:
            image = read_picture(pair.image, self._image_side_px, draw.crop_seed)
            recording = read_recording(pair.audio, self._max_seconds)
        except UnreadableError as error:
            return Unreadable(str(error))
        ids = self._vocabulary.encode(pair.caption)
        if len(ids) > self._max_tokens:
            ids = [*ids[: self._max_tokens - 1], END]
        tokens = torch.tensor(ids, dtype=torch.int64)
        return Sample(draw.pair, image, recording.waveform, tokens, pair.caption, pair.image_name, cut=recording.cut)


class Loader:
    """The batches of some pairs. `for batch in loader.epoch(3)` is always the same sequence for the same seed.

    A file that cannot be decoded costs its row, not its batch, though that may be left without any: the batch is
    smaller by one, `seen` counts and names it.
    """

    def __init__(self, batches: "DataLoader[Sample | Unreadable]", order: Order) -> None:
        self._batches = batches
        self._order = order
        self._unreadable: set[str] = set()
        self._tally = Tally()
        self._pairs = self._cut = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._order)

    @property
    def rows(self) -> int:
        """The pairs of an epoch, those lost to unreadable files included."""
        return self._order.rows

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, beginning with number `first_batch`; one epoch at a time."""
        self._order.epoch = epoch
        self._order.first_batch = first_batch
        self._pairs = self._cut = 0
        for batch in self._batches:
            self._count(batch.unreadable)
            self._pairs += len(batch)
            self._cut += batch.cut
            yield batch

    def seen(self) -> Seen:
        """Return what this epoch met; a file that could not be decoded counts once however often it was met."""
        return Seen(self._pairs, self._cut, self._tally.problems())

    def _count(self, unreadable: Sequence[str]) -> None:
        for what in unreadable:
            if what not in self._unreadable:
                self._unreadable.add(what)
                self._tally.add("files unreadable, their pairs left out", what)


def make_loader(
    pairs: Sequence[Pair],
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    seed: int,
    train: bool,
    num_workers: int = 0,
    pin_memory: bool = False,
    image_side_px: int = 64,
    max_seconds: float = 10.0,
    max_tokens: int = 40,
) -> Loader:
    """Make a loader over the pairs, shuffled and lightly cropped in training, fixed in validation.

    With `num_workers` > 0 that many processes decode, and stay from epoch to epoch. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("no pairs to load")
    dataset = PairDataset(
        pairs, vocabulary, image_side_px=image_side_px, max_seconds=max_seconds, max_tokens=max_tokens
    )
    order = Order(pairs, batch_size=batch_size, seed=seed, train=train)
    batches = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        multiprocessing_context=_context() if num_workers else None,
        generator=torch.Generator(),  # else each epoch draws from the global one, and resuming would differ
        persistent_workers=num_workers > 0,
    )
    return Loader(batches, order)


def _context() -> BaseContext:
    """Return how workers start: not by fork, for the trainer has threads, nor each by importing torch for seconds.

    A fork server imports it once, and its children start in milliseconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _prepare_worker(_worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal, and end when the parent has ended, however it did.

    torch watches for that only where workers are children of the trainer itself; these are the fork server's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="parent-watch", daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
