"""Loads batches epoch by epoch, decoded in worker processes."""

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
from tensorboard_sidecar.trainer.data.epoch_counts import EpochCounts
from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.data.order import Order, SampleSpec
from tensorboard_sidecar.trainer.data.report import Tally
from tensorboard_sidecar.trainer.data.vocabulary import END, Vocabulary


class PairDataset(Dataset[Sample | Unreadable]):
    """Decodes the pair of a ``SampleSpec``. Stateless: every worker returns the same sample for the same spec.

    ``max_tokens`` includes START and END; longer captions and recordings are cut at the end.
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

    def __getitem__(self, spec: SampleSpec) -> Sample | Unreadable:
        pair = self._pairs[spec.pair]
        try:
            image = read_picture(pair.image, self._image_side_px, spec.crop_seed)
            recording = read_recording(pair.audio, self._max_seconds)
        except UnreadableError as error:
            return Unreadable(str(error))
        ids = self._vocabulary.encode(pair.caption)
        if len(ids) > self._max_tokens:
            ids = [*ids[: self._max_tokens - 1], END]
        tokens = torch.tensor(ids, dtype=torch.int64)
        return Sample(spec.pair, image, recording.waveform, tokens, pair.caption, pair.image_name, cut=recording.cut)


class Loader:
    """Batches of pairs. ``for batch in loader.epoch(3)`` gives the same sequence for the same seed.

    A pair with an undecodable file is missing in its batch, which may become empty; ``counts`` counts and names the
    file.
    """

    def __init__(self, batches: "DataLoader[Sample | Unreadable]", order: Order) -> None:
        self._batches = batches
        self._order = order
        self._unreadable: set[str] = set()
        self._tally = Tally()
        self._pairs = self._cut = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._order)

    @property
    def rows(self) -> int:
        """The number of pairs in an epoch, unreadable pairs included."""
        return self._order.rows

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number ``first_batch`` on. Run one epoch at a time."""
        self._order.epoch = epoch
        self._order.first_batch = first_batch
        self._pairs = self._cut = 0
        for batch in self._batches:
            self._count(batch.unreadable)
            self._pairs += len(batch)
            self._cut += batch.cut
            yield batch

    def counts(self) -> EpochCounts:
        """Return the counts of the current epoch; an undecodable file counts once over all epochs."""
        return EpochCounts(self._pairs, self._cut, self._tally.problems())

    def _count(self, unreadable: Sequence[str]) -> None:
        for reason in unreadable:
            if reason not in self._unreadable:
                self._unreadable.add(reason)
                self._tally.add("files unreadable, their pairs left out", reason)


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
    """Make a loader of the pairs: shuffled and randomly cropped for training, in fixed order for validation.

    ``num_workers`` processes decode, and live for all epochs; 0 decodes in this process. Raises ValueError without
    pairs.
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
        generator=torch.Generator(),  # the default draws from the global generator: a resumed run would differ
        persistent_workers=num_workers > 0,
    )
    return Loader(batches, order)


def _context() -> BaseContext:
    """Return the start method of workers: a fork server, which imports torch once and forks workers in milliseconds.

    A fork of the trainer is unsafe, because the trainer has threads; with spawn, each worker imports torch for seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _prepare_worker(_worker: int) -> None:
    """Ignore Ctrl-C, which a terminal sends to all its processes, and end this worker when the trainer ends.

    torch ends workers of a dead trainer only if they are its children; these workers are the fork server's children.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="parent-watch", daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
