"""The mutable state of training: model, optimizer, schedule, scaler, counters and random number generators."""

import math
import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from tensorboard_sidecar.trainer.checkpoint import Checkpoint, CheckpointError
from tensorboard_sidecar.trainer.data.vocabulary import Vocabulary
from tensorboard_sidecar.trainer.distributed import Placement, average_gradients
from tensorboard_sidecar.trainer.model import Brain
from tensorboard_sidecar.trainer.settings import Config, ConfigError


class GradientNorms(NamedTuple):
    """The norm of all gradients together in one optimizer step, 0-d tensors on the device."""

    before_clipping: torch.Tensor
    after_clipping: torch.Tensor


@dataclass
class TrainingState:
    """The state of a run. ``epoch`` and ``global_step`` count finished epochs and steps, ``attempt`` earlier starts."""

    model: Brain
    optimizer: AdamW
    scheduler: LambdaLR
    scaler: GradScaler
    epoch: int = 0
    global_step: int = 0
    attempt: int = 0
    best_validation_loss: float = math.inf

    @classmethod
    def create(cls, config: Config, vocabulary_size: int, total_steps: int, device: torch.device) -> Self:
        """Make a model, its optimizer and schedule. Raises ConfigError when pretrained weights cannot be fetched."""
        try:
            model = Brain(
                vocabulary_size, embed_dim=config.embed_dim, backbone=config.backbone, pretrained=config.pretrained
            ).to(device)
        except OSError as error:
            raise ConfigError(f"the pretrained weights of {config.backbone} cannot be fetched: {error}") from error
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        # Fused: one pass over all parameters, and the scaler's overflow check stays on the device.
        optimizer = AdamW(groups, lr=config.lr, fused=True)
        scheduler = LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup_steps=config.warmup_steps, total_steps=total_steps)
        )
        return cls(model, optimizer, scheduler, GradScaler(device.type, enabled=config.precision == "fp16"))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint, as the run's next attempt.

        Weights, optimizer moments and counters are the checkpoint's; learning rate, weight decay and schedule follow
        the settings of this run. Raises CheckpointError for a checkpoint of another model.
        """
        made = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        try:
            self.model.load_state_dict(checkpoint.model)
            self.optimizer.load_state_dict(checkpoint.optimizer)
            for group, settings in zip(self.optimizer.param_groups, made, strict=True):
                group.update(settings)
            # One step behind: LambdaLR takes its first step in its constructor.
            behind = checkpoint.scheduler["last_epoch"] - 1
            self.scheduler = LambdaLR(self.optimizer, self.scheduler.lr_lambdas[0], last_epoch=behind)
            if checkpoint.scaler:  # empty without scaling: the scaler then starts as in a new run
                self.scaler.load_state_dict(checkpoint.scaler)
            restore_random_state(checkpoint.random)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"the checkpoint of run {checkpoint.run} does not fit this model: {reason}"
            ) from error
        self.epoch, self.global_step = checkpoint.epoch, checkpoint.global_step
        self.attempt = checkpoint.attempt + 1
        self.best_validation_loss = checkpoint.best_validation_loss

    def snapshot(self, config: Config, vocabulary: Vocabulary) -> Checkpoint:
        """Return a checkpoint that shares the live tensors: write the file before the next step."""
        return Checkpoint(
            run=config.run,
            attempt=self.attempt,
            epoch=self.epoch,
            global_step=self.global_step,
            best_validation_loss=self.best_validation_loss,
            config=config.parameters(),
            vocabulary=list(vocabulary.words),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=self.scheduler.state_dict(),
            scaler=self.scaler.state_dict(),
            random=random_state(),
        )

    def update(self, loss: torch.Tensor | None, clip_norm: float, placement: Placement) -> GradientNorms:
        """Take one optimizer step on ``loss``; return the norms of the gradient.

        ``loss`` is None for a batch with too few readable pairs: the step then uses the gradients of the other ranks.
        Until the next call, ``grad`` holds the gradients as the optimizer used them, unscaled and clipped.
        """
        self.optimizer.zero_grad(set_to_none=True)
        to_learn = loss if loss is not None else self.model.log_scale * 0  # the scaler needs some gradient
        self.scaler.scale(to_learn).backward()  # type: ignore[no-untyped-call]
        average_gradients(self.model.parameters(), placement, counts=loss is not None)
        self.scaler.unscale_(self.optimizer)  # after averaging, so that all ranks skip the same steps
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.model.clamp_scale()
        self.global_step += 1
        # clip_grad_norm_ has multiplied all gradients by this factor
        return GradientNorms(norm, norm * (clip_norm / (norm + 1e-6)).clamp(max=1.0))

    def checksum(self) -> int:
        """Return the CRC-32 of all weights and buffers, for comparing models between ranks."""
        number = 0
        for tensor in self.model.state_dict().values():
            number = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy(), number)
        return number

    def record_validation_loss(self, loss: float) -> bool:
        """Tell whether ``loss`` is the lowest validation loss so far, and keep the lowest; NaN never is."""
        best = loss < self.best_validation_loss
        if best:
            self.best_validation_loss = loss
        return best


def restore_vocabulary(checkpoint: Checkpoint | None) -> Vocabulary | None:
    """Return the vocabulary of a checkpoint; None for None. Raises CheckpointError for an invalid word list."""
    if checkpoint is None:
        return None
    try:
        return Vocabulary.restore(checkpoint.vocabulary)
    except ValueError as error:
        raise CheckpointError(f"the checkpoint of run {checkpoint.run} is broken: {error}") from error


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the factor on the peak learning rate after ``step`` finished steps.

    The factor rises linearly over ``warmup_steps`` (at most half of the run), then falls along a half cosine to zero at
    ``total_steps`` (arXiv:1608.03983, equation 5, without restarts).
    """
    warmup_steps = min(warmup_steps, total_steps // 2)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch (``seed`` below 2**32)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from numpy's global generator
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the states of all generators as lists, numbers and byte tensors."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - as above
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore states from :func:`random_state`. The states of GPUs are restored only if the number of GPUs is equal."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Restrict torch on the CPU to algorithms with bit-identical results; on GPUs such algorithms are too slow."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
