"""Checkpoints: plain values and tensors, written whole or not at all, read without running anything in them."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_origin, get_type_hints

import torch

from tensorboard_sidecar.protocol.messages import ParameterValue

FORMAT: Final = "tensorboard-sidecar checkpoint 1"
LAST: Final = "last.pt"
BEST: Final = "best.pt"


class CheckpointError(ValueError):
    """A file is no checkpoint this program can use; the message names the file and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on as if nothing had happened; lists, dicts, numbers, strings and tensors only."""

    run: str
    attempt: int
    epoch: int
    """Epochs that are finished."""
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
    """Write ``last.pt``, and let ``best.pt`` be the same if it is the best. Either file is the old or the new one.

    Raises CheckpointError when it cannot be written; nothing unfinished stays behind.
    """
    contents = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    last = folder / LAST
    unfinished = folder / f"{LAST}.unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            torch.save({"format": FORMAT, **contents}, file)
            file.flush()
            os.fsync(file.fileno())
        if best:  # first, so that no last.pt ever tells of a best loss whose checkpoint is not there
            _copy(unfinished, folder / BEST)
        unfinished.replace(last)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {last}: {_reason(error)}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def keep_last(folder: Path, attempt: int) -> Path:
    """Give ``last.pt`` a second name, of the attempt that wrote it; return that. Raises CheckpointError."""
    kept = folder / f"last-attempt-{attempt}.pt"
    try:
        _copy(folder / LAST, kept)
    except OSError as error:
        raise CheckpointError(f"cannot keep {folder / LAST} as {kept}: {_reason(error)}") from error
    return kept


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or ``last.pt`` in a folder, onto the CPU. Raises CheckpointError."""
    file = path / LAST if path.is_dir() else path
    try:
        opened = file.open("rb")
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {file}: {_reason(error)}") from error
    with opened:
        try:
            contents = torch.load(opened, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises nearly anything on foreign bytes
            raise CheckpointError(f"{file} is no checkpoint, or a broken one ({type(error).__name__})") from error
    if not isinstance(contents, dict) or contents.pop("format", None) != FORMAT:
        raise CheckpointError(f"{file} is no checkpoint of this trainer (expected the format {FORMAT!r})")
    hints = {name: get_origin(hint) or hint for name, hint in get_type_hints(Checkpoint).items()}
    wrong = [name for name, kind in hints.items() if not isinstance(contents.get(name), kind)]
    if wrong:
        raise CheckpointError(f"the checkpoint {file} is broken: {', '.join(wrong)} missing or of another type")
    return Checkpoint(**{name: contents[name] for name in hints})


def _copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file: a second name where the file system has those, as sources are never changed."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Say why a file could not be written; torch hides the operating system's error behind one of its own."""
    behind = error if isinstance(error, OSError) else error.__context__
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror
    return str(error).partition("\n")[0] or type(error).__name__


def _sync_folder(folder: Path) -> None:
    """Bring the new names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
