"""From the given settings to a finished run: settings, the checkpoint to resume from, the folder's lock, telemetry."""

import errno
import math
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.command_line import how_to_run
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER
from tensorboard_sidecar.protocol.storage.durable import FolderHeld, hold_folder
from tensorboard_sidecar.trainer.data.flickr8k import read_flickr8k
from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.distributed import Placement, choose_device, read_placement
from tensorboard_sidecar.trainer.interrupt import Interrupted, StopSignals
from tensorboard_sidecar.trainer.loop import train
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.reporting import TrainingSummary
from tensorboard_sidecar.trainer.settings import AUTO_RESUME, Config, ConfigError, from_parameters
from tensorboard_sidecar.trainer.state import LAST, Checkpoint, CheckpointError, keep_last, load_checkpoint

UserError: Final = (ConfigError, CheckpointError, DataError)
"""Errors that the user can correct: the program prints one clear line for them, and no traceback."""

LOCK_NAME: Final = ".tensorboard-sidecar-trainer.lock"

_SHAPING: Final = ("embed_dim", "backbone")
_NO_LOCKS_HERE: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def launch(given: Mapping[str, Any], progress: Progress, *, default_run: str) -> TrainingSummary | None:
    """Train with the given settings; return None on ranks that do not validate, and for a run that was finished.

    Raises one of ``UserError``; Interrupted, after printing how to resume the run.
    """
    placement = read_placement()
    if placement.rank > 0:
        progress = Progress(None)  # rank 0 prints for all processes
    resume = given.get("resume")
    if resume == AUTO_RESUME and not given.get("run"):
        raise ConfigError("resume is auto, and run is not given: name the run to begin or to resume, --run NAME")
    named = load_checkpoint(resume) if resume and resume != AUTO_RESUME else None
    config = settle_config(given, named, default_run=default_run)
    if placement.world_size > 1 and not (given.get("run") or named):
        raise ConfigError("several processes train one run: name it with --run")
    choose_device(config.device, placement)
    leading = placement.rank == 0
    with hold_checkpoints(config, progress) if leading else nullcontext():
        checkpoint = settle_checkpoint(config, resume, named, progress, leading=leading)
        if checkpoint is not None:
            if is_done(given, checkpoint):
                finished = f"run {config.run} has finished its {checkpoint.epoch} epochs"
                progress.lines(f"{finished}; to train more: --epochs N")
                return None
            config = settle_config(given, checkpoint, default_run=default_run)
            checkpoint = comparable(checkpoint, config, progress)
        return _train(config, checkpoint, progress, placement)


def _train(
    config: Config, checkpoint: Checkpoint | None, progress: Progress, placement: Placement
) -> TrainingSummary | None:
    if not config.num_workers and choose_device(config.device, placement).type == "cuda":
        progress.lines("num_workers is 0: the GPU waits while files are decoded between two steps; try --num_workers 4")
    data = read_flickr8k(config.root_dir)
    progress.lines(*data.report.lines(), f"run {config.run}")
    with StopSignals() as stop, _start_telemetry(config, checkpoint, placement) as telemetry:
        try:
            summary = train(config, data, telemetry, checkpoint, progress=progress, stop=stop, placement=placement)
        except Interrupted as stopped:
            progress.lines(f"{stopped}. {how_to_resume(config, placement.world_size)}")
            raise
    watched = config.endpoint not in (None, "", NO_LOGGER)
    return summary and replace(summary, findings=telemetry.findings() if watched else None)


def _start_telemetry(config: Config, checkpoint: Checkpoint | None, placement: Placement) -> Telemetry:
    try:
        return Telemetry(
            config.run,
            endpoint=config.endpoint,
            server_key=config.server_key,
            client_key=config.client_key,
            record=config.record,
            strict=config.strict,
            attempt=checkpoint.attempt + 1 if checkpoint else 0,
            first_step=checkpoint.global_step if checkpoint else 0,
            rank=placement.rank,
            config=config.parameters(),
            drain_seconds=config.drain_seconds,
            outbox_bytes=config.outbox_bytes,
            outbox_dir=config.outbox_dir,
            spill_dir=config.spill_dir,
            spill_bytes=config.spill_bytes,
        )
    except (ProtocolError, ValueError, OSError) as error:
        raise ConfigError(f"telemetry cannot start: {error}") from error


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
    if named is None or resume is None or (resume / LAST if resume.is_dir() else resume).samefile(last):
        return load_checkpoint(last)  # read again: the previous holder of the folder may have trained further meanwhile
    return _replacing(named, last, progress, leading=leading)


def comparable(checkpoint: Checkpoint, config: Config, progress: Progress) -> Checkpoint:
    """Return the checkpoint, without its best loss if the batch size, on which a contrastive loss depends, changed."""
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
