"""The mutable state of training: model, optimizer, schedule, scaler and counters."""

import math
import zlib
from dataclasses import dataclass
from typing import Self

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from tensorboard_sidecar.trainer.checkpoints.checkpoint import Checkpoint, CheckpointError
from tensorboard_sidecar.trainer.checkpoints.random_state import random_state, restore_random_state
from tensorboard_sidecar.trainer.data import Vocabulary
from tensorboard_sidecar.trainer.distributed import Placement, average_gradients
from tensorboard_sidecar.trainer.model import Brain
from tensorboard_sidecar.trainer.schedule import warmup_cosine
from tensorboard_sidecar.trainer.settings import Config, ConfigError


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
        """Make a new model on the device, with its optimizer and schedule.

        Raises ConfigError when the pretrained weights cannot be fetched.
        """
        try:
            model = Brain(
                vocabulary_size, embed_dim=config.embed_dim, backbone=config.backbone, pretrained=config.pretrained
            ).to(device)
        except OSError as error:
            raise ConfigError(f"the pretrained weights of {config.backbone} cannot be fetched: {error}") from error
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
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

    def update(self, loss: torch.Tensor | None, clip_norm: float, placement: Placement) -> torch.Tensor:
        """Take one optimizer step on ``loss``; return the norm of the gradient before clipping, 0-d.

        ``loss`` is None for a batch with too few readable pairs: the step then uses the gradients of the other ranks.
        Until the next call, ``grad`` holds the gradients as the optimizer used them, unscaled and clipped.
        """
        self.optimizer.zero_grad(set_to_none=True)
        to_learn = loss if loss is not None else self.model.log_scale * 0  # the scaler needs some gradient
        self.scaler.scale(to_learn).backward()  # type: ignore[no-untyped-call]
        average_gradients(self.model.parameters(), placement, counts=loss is not None)
        self.scaler.unscale_(self.optimizer)  # after averaging, so that all ranks skip the same steps
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.model.clamp_scale()
        self.global_step += 1
        return grad_norm

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
