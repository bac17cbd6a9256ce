"""The start of a run: its settings, the checkpoint to resume from, and the lock that keeps other trainers out."""

import errno
import math
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.protocol.storage.folder_lock import FolderHeld, hold_folder
from tensorboard_sidecar.trainer.checkpoints.checkpoint import (
    LAST,
    Checkpoint,
    CheckpointError,
    keep_last,
    load_checkpoint,
)
from tensorboard_sidecar.trainer.invocation import how_to_run
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import AUTO_RESUME, Config, ConfigError, from_parameters

LOCK_NAME: Final = ".tensorboard-sidecar-trainer.lock"

_SHAPING: Final = ("embed_dim", "backbone")
_NO_LOCKS_HERE: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def settle_config(given: Mapping[str, Any], checkpoint: Checkpoint | None, *, default_run: str) -> Config:
    """Return the settings of a run: for a resumed run the checkpoint's, overridden by ``given``. Raises ConfigError."""
    if checkpoint is None:
        config = Config(**given)
        return replace(config, run=config.run or default_run)
    settings = {**from_parameters(checkpoint.config), "run": checkpoint.run}
    for name in (*_SHAPING, "run"):
        if given.get(name, settings[name]) != settings[name]:
            raise ConfigError(f"{name} is {given[name]}, but the checkpoint's is {settings[name]}: leave it out")
    config = Config(**{**settings, **given})
    if config.epochs <= checkpoint.epoch:
        raise ConfigError(f"the checkpoint has finished {checkpoint.epoch} epochs: give --epochs above that to go on")
    return config


def is_done(given: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """Tell whether ``--resume auto`` finds all epochs finished: users repeat that command, also after the end."""
    epochs = {**from_parameters(checkpoint.config), **given}.get("epochs", Config.epochs)
    return given.get("resume") == AUTO_RESUME and bool(checkpoint.epoch >= epochs)


@contextmanager
def hold_checkpoints(config: Config, progress: Progress) -> Iterator[None]:
    """Lock the run's checkpoint folder against other trainers; make the folder first. Raises ConfigError."""
    folder = config.checkpoint_dir
    with ExitStack() as lock:
        try:
            lock.enter_context(hold_folder(folder, LOCK_NAME))
        except FolderHeld as held:
            raise ConfigError(
                f"another trainer ({held.holder}) trains run {config.run} and keeps its checkpoints in {folder}:"
                " wait until it ends, stop it, or give another --run or --savedir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise ConfigError(f"checkpoints cannot be kept in {folder}: {error.strerror}") from error
            progress.lines(f"{folder} cannot be locked ({error.strerror}): make sure that no other trainer uses it")
        yield


def settle_checkpoint(
    config: Config, resume: Path | None, named: Checkpoint | None, progress: Progress, *, leading: bool
) -> Checkpoint | None:
    """Return the checkpoint to resume from, or None; call it while holding the run's folder.

    ``named`` is the checkpoint at the path ``resume``, read before the folder was locked. If ``named`` lies outside of
    the run's folder, its attempt number becomes the highest of the run, and the ``leading`` process keeps the run's
    own ``last.pt`` under a second name if that has more steps. Raises CheckpointError; ConfigError when a new run
    would overwrite an existing run.
    """
    last = config.checkpoint_dir / LAST
    if resume is None and last.exists():
        raise ConfigError(f"{last} exists already: go on with --resume {last}, or give another --run or --savedir")
    if not last.exists():
        return named
    if named is None or _is_same(resume, last):
        return load_checkpoint(last)  # read again: the previous holder of the folder may have trained further meanwhile
    return _replacing(named, last, progress, leading=leading)


def comparable(checkpoint: Checkpoint, config: Config, progress: Progress) -> Checkpoint:
    """Return the checkpoint, without its best validation loss if the batch size has changed.

    A contrastive loss depends on the number of pairs in a batch.
    """
    before = checkpoint.config.get("batch_size", config.batch_size)
    if before == config.batch_size:
        return checkpoint
    progress.lines(
        f"batch_size was {before}: losses are not comparable with earlier ones, and the best loss starts anew"
    )
    return replace(checkpoint, best_validation_loss=math.inf)


def how_to_resume(config: Config, processes: int = 1) -> str:
    """Return a hint how to resume an interrupted run. The torchrun command of several processes is the user's."""
    last = config.checkpoint_dir / LAST
    if not last.exists():
        return "No epoch was finished, so there is no checkpoint."
    if config.resume == AUTO_RESUME:
        return "Go on with the same command."
    resume = f"--resume {shlex.quote(str(last))}"
    if processes > 1:
        return f"Go on with torchrun as before, and: {resume}"
    return f"Go on with: {how_to_run('train')} {resume}"


def _is_same(resume: Path | None, last: Path) -> bool:
    return resume is not None and (resume / LAST if resume.is_dir() else resume).samefile(last)


def _replacing(named: Checkpoint, last: Path, progress: Progress, *, leading: bool) -> Checkpoint:
    """Return ``named`` as the run's newest attempt; keep the run's own last checkpoint if that has more steps."""
    try:
        newest = load_checkpoint(last)
    except CheckpointError as error:
        progress.lines(f"{error}; the checkpoint given with --resume replaces it")
        return named
    if leading and newest.global_step > named.global_step:
        kept = keep_last(last.parent, newest.attempt)
        steps = f"step {newest.global_step}, this run resumes from step {named.global_step}"
        progress.lines(f"{last} is ahead ({steps}) and is kept as {kept.name}")
    return replace(named, attempt=max(named.attempt, newest.attempt))
