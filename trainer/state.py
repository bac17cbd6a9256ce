"""The state of training: in memory (model, optimizer, schedule, scaler, counters, generators), and in checkpoint files.

A checkpoint file holds plain values and tensors. It is written atomically, and read without running code from the file.
"""

import math
import os
import random
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, get_origin, get_type_hints

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.storage.durable import replacing, sync_file, sync_folder
from tensorboard_sidecar.trainer.data.vocabulary import Vocabulary
from tensorboard_sidecar.trainer.distributed import Placement, average_gradients
from tensorboard_sidecar.trainer.model import Brain
from tensorboard_sidecar.trainer.settings import Config, ConfigError

FORMAT: Final = "tensorboard-sidecar checkpoint 1"
LAST: Final = "last.pt"
BEST: Final = "best.pt"


class CheckpointError(ValueError):
    """A checkpoint cannot be written, read or used; the message names the file and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """The state from which a run resumes exactly: lists, dicts, numbers, strings and tensors only."""

    run: str
    attempt: int
    epoch: int
    """The number of finished epochs."""
    global_step: int
    best_validation_loss: float
    config: dict[str, ParameterValue]
    vocabulary: list[str]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    scaler: dict[str, Any]
    random: dict[str, Any]


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
            misfit = f"the checkpoint of run {checkpoint.run} does not fit this model"
            raise CheckpointError(f"{misfit}: {_reason(error)}") from error
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


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, best: bool = False) -> None:
    """Write ``last.pt`` and, with ``best``, the same checkpoint as ``best.pt``.

    Each file is replaced atomically; an incomplete file is removed. Raises CheckpointError for a failed write.
    """
    contents = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    last = folder / LAST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(last) as unfinished:
            with unfinished.open("wb") as file:
                torch.save({"format": FORMAT, **contents}, file)
            sync_file(unfinished)
            if best:  # first: the best loss in last.pt must have its checkpoint on disk
                _copy(unfinished, folder / BEST)
        sync_folder(folder)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {last}: {_reason(error)}") from error


def keep_last(folder: Path, attempt: int) -> Path:
    """Keep ``last.pt`` also as ``last-attempt-<attempt>.pt``; return that path. Raises CheckpointError."""
    kept = folder / f"last-attempt-{attempt}.pt"
    try:
        _copy(folder / LAST, kept)
    except OSError as error:
        raise CheckpointError(f"cannot keep {folder / LAST} as {kept}: {_reason(error)}") from error
    return kept


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file, or ``last.pt`` of a folder, into host memory. Raises CheckpointError."""
    file = path / LAST if path.is_dir() else path
    try:
        opened = file.open("rb")
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {file}: {_reason(error)}") from error
    with opened:
        try:
            contents = torch.load(opened, map_location="cpu", weights_only=True)
        except Exception as error:  # on foreign bytes torch raises errors of many types
            raise CheckpointError(f"{file} is no checkpoint, or a broken one ({type(error).__name__})") from error
    if not isinstance(contents, dict) or contents.pop("format", None) != FORMAT:
        raise CheckpointError(f"{file} is no checkpoint of this trainer (expected the format {FORMAT!r})")
    hints = {name: get_origin(hint) or hint for name, hint in get_type_hints(Checkpoint).items()}
    wrong = [name for name, kind in hints.items() if not isinstance(contents.get(name), kind)]
    if wrong:
        raise CheckpointError(f"the checkpoint {file} is broken: {', '.join(wrong)} missing or of another type")
    return Checkpoint(**{name: contents[name] for name in hints})


def _copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, which is never changed; copy where hard links are not supported."""
    with replacing(target) as unfinished:
        unfinished.unlink(missing_ok=True)
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
            sync_file(unfinished)


def _reason(error: Exception) -> str:
    """Return the first line of an error; torch raises its own error and keeps the system's as context."""
    behind = error if isinstance(error, OSError) else error.__context__
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror
    return str(error).partition("\n")[0] or type(error).__name__
