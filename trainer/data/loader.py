"""Loads batches epoch by epoch: the order of pairs, decoding in worker processes, joining rows to batches.

Row n of images, captions and spoken captions of a batch belongs to the same pair.
"""

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from multiprocessing.context import BaseContext
from random import Random
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from tensorboard_sidecar.trainer.data.decode import UnreadableError, read_picture, read_recording
from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.data.report import EpochCounts, Tally
from tensorboard_sidecar.trainer.data.vocabulary import END, PAD, Vocabulary

TOKENS_MULTIPLE: Final = 8
SAMPLES_MULTIPLE: Final = 4_000
"""Lengths are padded to multiples of 8 tokens and 1/4 second, so that a compiled model sees few shapes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One decoded pair: uint8 image [3, S, S], float32 waveform [samples] at 16 kHz, int64 tokens [length]."""

    index: int
    image: Tensor
    waveform: Tensor
    tokens: Tensor
    caption: str
    image_name: str
    cut: bool = False
    """Whether the recording is longer than the waveform."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B pairs, no two of the same image.

    images            float32 [B, 3, S, S], RGB in 0..1; the model normalizes them
    tokens            int64 [B, T], padded with PAD
    waveforms         float32 [B, N] at 16 kHz, padded with zeros
    waveform_lengths  int64 [B], samples without padding
    indices           int64 [B], indices into the loader's pairs
    caption_keys      int64 [B], equal for captions with equal tokens, which the model cannot distinguish
    captions, image_names   B strings
    unreadable        the files of pairs that are missing in this batch, with the errors
    cut               the number of recordings that are longer than their waveform
    """

    images: Tensor
    tokens: Tensor
    waveforms: Tensor
    waveform_lengths: Tensor
    indices: Tensor
    caption_keys: Tensor
    captions: tuple[str, ...]
    image_names: tuple[str, ...]
    unreadable: tuple[str, ...]
    cut: int

    def __len__(self) -> int:
        return len(self.captions)

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, for asynchronous copies to a GPU; DataLoader calls this method."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {
            item.name: change(value) for item in fields(self) if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **changed)


def collate(rows: Sequence[Sample | UnreadableError]) -> Batch:
    """Join decoded pairs into a batch, possibly without rows; the errors of the others are listed in ``unreadable``."""
    samples = [row for row in rows if isinstance(row, Sample)]
    images = torch.stack([sample.image for sample in samples]) if samples else torch.empty(0, 3, 1, 1)
    return Batch(
        images=images.float() / 255,
        tokens=_padded([sample.tokens for sample in samples], PAD, TOKENS_MULTIPLE, torch.int64),
        waveforms=_padded([sample.waveform for sample in samples], 0.0, SAMPLES_MULTIPLE, torch.float32),
        waveform_lengths=torch.tensor([len(sample.waveform) for sample in samples], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        caption_keys=torch.tensor([_key(sample.tokens) for sample in samples], dtype=torch.int64),
        captions=tuple(sample.caption for sample in samples),
        image_names=tuple(sample.image_name for sample in samples),
        unreadable=tuple(str(row) for row in rows if isinstance(row, UnreadableError)),
        cut=sum(sample.cut for sample in samples),
    )


def _key(tokens: Tensor) -> int:
    """Return a 64-bit hash of a row of tokens, equal in every batch and process."""
    return int.from_bytes(blake2b(tokens.numpy().tobytes(), digest_size=8).digest(), "little", signed=True)


def _padded(rows: list[Tensor], value: float, multiple: int, dtype: torch.dtype) -> Tensor:
    """Stack rows into [B, L]; L is the longest length, rounded up to ``multiple``."""
    if not rows:
        return torch.empty(0, multiple, dtype=dtype)
    longest = max(len(row) for row in rows)
    padded = pad_sequence(rows, batch_first=True, padding_value=value)
    return torch.nn.functional.pad(padded, (0, -longest % multiple), value=value)


class SampleSpec(NamedTuple):
    """The specification of a sample: the index of its pair, and the seed of its crop (None: centre crop)."""

    pair: int
    crop_seed: int | None


class Order:
    """The batch sampler: iterating yields the batches of ``epoch`` from ``first_batch`` on.

    The batches of an epoch are a pure function of the seed and the epoch's number: a resumed run, a run with another
    number of workers and a start in the middle of an epoch all get the same batches.

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
        specs = [SampleSpec(indices[0], None) for indices in self._choices]
        if self._train:
            random = Random(f"{self._seed}:{self.epoch}")
            specs = [SampleSpec(random.choice(indices), random.getrandbits(32)) for indices in self._choices]
            random.shuffle(specs)
        batches, rows = len(self), self.rows
        for number in range(self.first_batch, batches):
            yield specs[number * rows // batches : (number + 1) * rows // batches]


@dataclass(frozen=True)
class PairDataset(Dataset[Sample | UnreadableError]):
    """Decodes the pair of a ``SampleSpec``, or returns the error. Every worker returns the same for the same spec.

    ``max_tokens`` includes START and END; longer captions and recordings are cut at the end.
    """

    pairs: Sequence[Pair]
    vocabulary: Vocabulary
    image_side_px: int
    max_seconds: float
    max_tokens: int

    def __getitem__(self, spec: SampleSpec) -> Sample | UnreadableError:
        pair = self.pairs[spec.pair]
        try:
            image = read_picture(pair.image, self.image_side_px, spec.crop_seed)
            recording = read_recording(pair.audio, self.max_seconds)
        except UnreadableError as error:
            return error
        ids = self.vocabulary.encode(pair.caption)
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], END]
        tokens = torch.tensor(ids, dtype=torch.int64)
        return Sample(spec.pair, image, recording.waveform, tokens, pair.caption, pair.image_name, cut=recording.cut)


class Loader:
    """Batches of pairs. ``for batch in loader.epoch(3)`` gives the same sequence for the same seed.

    A pair with an undecodable file is missing in its batch, which may become empty; ``counts`` names the file.
    """

    def __init__(self, batches: "DataLoader[Sample | UnreadableError]", order: Order) -> None:
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
            for reason in batch.unreadable:
                if reason not in self._unreadable:
                    self._unreadable.add(reason)
                    self._tally.add("files unreadable, their pairs left out", reason)
            self._pairs += len(batch)
            self._cut += batch.cut
            yield batch

    def counts(self) -> EpochCounts:
        """Return the counts of the current epoch; an undecodable file counts once over all epochs."""
        return EpochCounts(self._pairs, self._cut, self._tally.problems())


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

    ``num_workers`` processes decode, for all epochs; 0: this process decodes. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("no pairs to load")
    dataset = PairDataset(tuple(pairs), vocabulary, image_side_px, max_seconds, max_tokens)
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
