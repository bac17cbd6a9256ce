"""Checkpoint files: plain values and tensors, written atomically, read without running code from the file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_origin, get_type_hints

import torch

from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.storage.durable import sync_file, sync_folder

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


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, best: bool = False) -> None:
    """Write ``last.pt`` and, with ``best``, the same checkpoint as ``best.pt``.

    Each file is replaced atomically; an incomplete file is removed. Raises CheckpointError for a failed write.
    """
    contents = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    last = folder / LAST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _replacing(last) as unfinished:
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


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield the path of a file that replaces ``target`` at the end of the block, or is removed."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, which is never changed; copy where hard links are not supported."""
    with _replacing(target) as unfinished:
        unfinished.unlink(missing_ok=True)
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
            sync_file(unfinished)


def _reason(error: Exception) -> str:
    """Return why a file could not be written; torch raises its own error and keeps the system's as context."""
    behind = error if isinstance(error, OSError) else error.__context__
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror
    return str(error).partition("\n")[0] or type(error).__name__
