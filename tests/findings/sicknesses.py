"""What makes a training sick: each sickness is a change of the settings, of the data, or of the trainer's parts.

A sickness is a mistake that people make. The reference trainer has no flag for any of them: the tests replace its
parts.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final, TypeAlias
from unittest.mock import patch

import torch
from torch import nn

from tensorboard_sidecar.logger_service.findings.watch import CHUNK_POINTS
from tensorboard_sidecar.trainer import loop, state
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, Pair
from tensorboard_sidecar.trainer.data.loader import Batch, Loader
from tensorboard_sidecar.trainer.model import AudioEncoder, Brain, ImageEncoder, Latents
from tensorboard_sidecar.trainer.settings import Config

# Steps of a run with the settings of training.py: 10 epochs of 32 batches.
EPOCH_STEPS: Final = 32
STEPS: Final = 10 * EPOCH_STEPS
# The step from which on a run that begins well is sick.
MIDDLE: Final = STEPS // 2 + 3

Change: TypeAlias = Callable[[], AbstractContextManager[Any]]


def _same(data: Flickr8k, _random: Random) -> Flickr8k:
    return data


@dataclass(frozen=True)
class Sickness:
    """One sickness.

    ``finds`` are the rules of which one must find it, for a tag that contains ``tag``; ``begins`` is the step at which
    it begins, and ``by`` the step by which the finding must be open: the window of the rule after that. ``steps`` is
    the length of the run.
    """

    name: str
    what: str
    finds: tuple[str, ...]
    by: int
    tag: str = ""
    begins: int = 0
    steps: int = STEPS
    settings: Mapping[str, Any] = field(default_factory=dict)
    change_data: Callable[[Flickr8k, Random], Flickr8k] = _same
    change: Change = nullcontext


def _shuffle_captions(data: Flickr8k, random: Random) -> Flickr8k:
    def shuffled(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        captions = [pair.caption for pair in pairs]
        random.shuffle(captions)
        return tuple(replace(pair, caption=caption) for pair, caption in zip(pairs, captions, strict=True))

    return replace(data, train=shuffled(data.train), validation=shuffled(data.validation))


TINY_PICTURES: Final = 32
TINY_EPOCHS: Final = 80


def _keep_few_pictures(data: Flickr8k, random: Random) -> Flickr8k:
    kept = set(random.sample(sorted({pair.image_name for pair in data.train}), TINY_PICTURES))
    return replace(data, train=tuple(pair for pair in data.train if pair.image_name in kept))


def _freeze_the_audio_encoder() -> AbstractContextManager[Any]:
    """Detach the output of the encoder: no gradient reaches its weights."""
    return patch.object(AudioEncoder, "forward", torch.no_grad()(AudioEncoder.forward))


def _stop_the_learning_rate() -> AbstractContextManager[Any]:
    return patch.object(state, "warmup_cosine", lambda _step, **_: 0.0)


def _put_nan_into_a_batch() -> AbstractContextManager[Any]:
    forward, calls = loop.forward, [0]

    def forward_with_nan(model: Brain, batch: Batch) -> Latents:
        calls[0] += 1
        if calls[0] == MIDDLE:
            batch = replace(batch, images=batch.images * math.nan)
        return forward(model, batch)

    return patch.object(loop, "forward", forward_with_nan)


def _make_an_encoder_constant() -> AbstractContextManager[Any]:
    forward = ImageEncoder.forward
    return patch.object(ImageEncoder, "forward", lambda self, images: forward(self, images) * 0)


def _repeat_one_batch() -> AbstractContextManager[Any]:
    epoch_of, kept = Loader.epoch, list[Batch]()

    def one_batch(self: Loader, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        batches = epoch_of(self, epoch, first_batch)
        if not self._order._train:
            yield from batches
            return
        first = next(batches)
        kept.extend([] if kept else [first])
        for _ in range(len(self)):
            yield kept[0]

    return patch.object(Loader, "epoch", one_batch)


def _pin_the_temperature() -> AbstractContextManager[Any]:
    @torch.no_grad()
    def pin(self: Brain) -> None:
        self.log_scale.fill_(math.log(100.0))

    return patch.object(Brain, "clamp_scale", pin)


def _explode_the_weights() -> AbstractContextManager[Any]:
    """Draw all matrices with a deviation of 1, whatever their number of inputs."""
    make = Brain.__init__

    def exploded(self: Brain, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter)

    return patch.object(Brain, "__init__", exploded)


class Clock:
    """A wall clock that runs with the processor time of this process: other programs do not slow a step down."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.process_time_ns()

    def __call__(self) -> int:
        return self._offset_ns + time.process_time_ns()

    def wait(self, duration_ns: int) -> None:
        """Let time pass."""
        self._offset_ns += duration_ns


CLOCK: Final = Clock()


def _wait_for_a_slow_rank() -> AbstractContextManager[Any]:
    """Make the exchange of gradients wait twice as long as a step took before, as for a rank that is slow."""
    average, began_ns = state.average_gradients, CLOCK()
    calls = step_ns = 0

    def average_slowly(*arguments: Any, **options: Any) -> None:
        nonlocal calls, step_ns
        calls += 1
        if calls == MIDDLE:
            step_ns = (CLOCK() - began_ns) // calls
        if calls >= MIDDLE:
            CLOCK.wait(2 * step_ns)
        average(*arguments, **options)

    return patch.object(state, "average_gradients", average_slowly)


# Rules see the points of a curve in chunks, and know how long the run is when its second epoch has ended; until then
# its first 100 steps count as the warm-up. Some rules do not judge in the first fifth of a run.
_KNOWN: Final = 2 * EPOCH_STEPS + CHUNK_POINTS
_FIFTH: Final = STEPS // 5
_TINY_STEPS: Final = TINY_EPOCHS * (TINY_PICTURES // 16)

SICKNESSES: Final = (
    Sickness(
        "learning-rate-x100",
        "the learning rate is a hundred times too high",
        ("nothing-learnt", "constant-embedding", "no-diagonal"),
        by=_FIFTH + 2 * EPOCH_STEPS,
        settings={"lr": 100 * Config.lr},
    ),
    Sickness(
        "shuffled-captions",
        "each picture has the caption of another picture",
        ("no-diagonal",),
        tag="text_vs",
        by=_FIFTH + 2 * EPOCH_STEPS,
        change_data=_shuffle_captions,
    ),
    Sickness(
        "frozen-encoder",
        "no gradient reaches the encoder of recordings",
        ("zero-gradient",),
        tag="audio_encoder",
        by=_FIFTH + EPOCH_STEPS + 1,
        change=_freeze_the_audio_encoder,
    ),
    Sickness(
        "zero-learning-rate",
        "the schedule returns zero",
        ("lr-zero",),
        by=_KNOWN,
        change=_stop_the_learning_rate,
    ),
    Sickness(
        "nan-in-a-batch",
        "the pictures of one batch in the middle of the run are NaN",
        ("non-finite-scalar",),
        begins=MIDDLE,
        by=MIDDLE,
        change=_put_nan_into_a_batch,
    ),
    Sickness(
        "constant-encoder",
        "the encoder of pictures returns the same for each picture",
        ("constant-embedding", "zero-gradient"),
        tag="image",
        by=_FIFTH + EPOCH_STEPS + 1,
        change=_make_an_encoder_constant,
    ),
    Sickness(
        "tiny-training-set",
        f"{TINY_PICTURES} pictures to train on, {TINY_EPOCHS} epochs",
        ("overfitting",),
        by=_TINY_STEPS,
        steps=_TINY_STEPS,
        settings={"epochs": TINY_EPOCHS},
        change_data=_keep_few_pictures,
    ),
    Sickness(
        "dead-loader",
        "the loader repeats its first batch for ever",
        ("overfitting",),
        by=STEPS,
        change=_repeat_one_batch,
    ),
    Sickness(
        "temperature-pinned",
        "the temperature stays at its lowest value, 0.01",
        ("temperature-range",),
        by=_KNOWN,
        change=_pin_the_temperature,
    ),
    Sickness(
        "exploding-initialisation",
        "all matrices are drawn with a deviation of 1",
        ("exploding-layer", "no-diagonal"),
        by=_FIFTH + 2 * EPOCH_STEPS + 1,
        change=_explode_the_weights,
    ),
    Sickness(
        "slow-rank",
        "from the middle on, each exchange of gradients waits twice as long as a step took",
        ("slower-steps",),
        begins=MIDDLE,
        by=MIDDLE + 50 // 2 + 2 * 25 + CHUNK_POINTS,
        change=_wait_for_a_slow_rank,
    ),
)

HEALTHY: Final = {
    "batches-of-8": {"batch_size": 8, "epochs": 5},
    "batches-of-16": {},
    "batches-of-32": {"batch_size": 32},
    "bf16": {"precision": "bf16"},
}
