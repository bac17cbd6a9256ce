"""From the given settings to a finished run: all is checked before telemetry starts, and that before training."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from protocol.errors import ProtocolError
from trainer.checkpoint import LAST, Checkpoint, CheckpointError, load_checkpoint
from trainer.config import AUTO_RESUME, NO_ENDPOINT, Config, from_parameters
from trainer.data import DataError, Flickr8k, read_flickr8k
from trainer.distributed import Placement, choose_device, read_placement
from trainer.interrupt import Interrupted, StopSignals
from trainer.invocation import how_to_run
from trainer.loop import train
from trainer.progress import Progress
from trainer.setting import ConfigError
from trainer.summary import TrainingSummary
from trainer.telemetry import Telemetry

UserError: Final = (ConfigError, CheckpointError, DataError)
"""What the user can put right: one clear line, no traceback."""

_SHAPING: Final = ("embed_dim", "backbone")


def launch(given: Mapping[str, Any], progress: Progress, *, default_run: str) -> TrainingSummary | None:
    """Train with the given settings; return None on ranks that do not validate, and for a run that was finished.

    Raises one of ``UserError``, or Interrupted after saying how to go on.
    """
    checkpoint = _find_checkpoint(given)
    if checkpoint is not None and _is_done(given, checkpoint):
        progress.lines(f"run {checkpoint.run} has finished its {checkpoint.epoch} epochs; more of them: --epochs N")
        return None
    placement = read_placement()
    if placement.world_size > 1 and not (given.get("run") or checkpoint):
        raise ConfigError("several processes train one run: name it with --run")
    config = settle_config(given, checkpoint, default_run=default_run)
    choose_device(config.device, placement)
    _check_checkpoints(config, checkpoint)
    data = _read_data(config, progress if placement.rank == 0 else Progress(None))
    with StopSignals() as stop, _start_telemetry(config, checkpoint, placement) as telemetry:
        try:
            return train(
                config,
                data,
                telemetry,
                checkpoint=checkpoint,
                progress=progress if placement.rank == 0 else None,
                stop=stop,
                placement=placement,
            )
        except Interrupted as stopped:
            progress.lines(f"{stopped}. {how_to_resume(config)}")
            raise


def settle_config(given: Mapping[str, Any], checkpoint: Checkpoint | None, *, default_run: str) -> Config:
    """Return the settings of a new run, or those of a resumed one with what was given instead. Raises ConfigError."""
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


def _find_checkpoint(given: Mapping[str, Any]) -> Checkpoint | None:
    """Return the checkpoint to go on from, if any; ``--resume auto`` looks for it where the run's are kept."""
    resume = given.get("resume")
    if resume == AUTO_RESUME:
        if not given.get("run"):
            raise ConfigError(
                "resume is auto, and run is not given: name the run to begin or to go on with, --run NAME"
            )
        last = Config(**given).checkpoint_dir / LAST
        resume = last if last.exists() else None
    return load_checkpoint(resume) if resume else None


def _is_done(given: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """Tell whether nothing is left to do: who asks for ``--resume auto`` types the same again, finished or not."""
    epochs = {**from_parameters(checkpoint.config), **given}.get("epochs", Config.epochs)
    return given.get("resume") == AUTO_RESUME and bool(checkpoint.epoch >= epochs)


def how_to_resume(config: Config) -> str:
    """Return what to type to go on with an interrupted run."""
    last = config.checkpoint_dir / LAST
    if not last.exists():
        return "No epoch was finished, so there is no checkpoint."
    if config.resume == AUTO_RESUME:
        return "Go on with the same command."
    return f"Go on with: {how_to_run('trainer')} --resume {shlex.quote(str(last))}"


def _check_checkpoints(config: Config, checkpoint: Checkpoint | None) -> None:
    last = config.checkpoint_dir / LAST
    if checkpoint is None and last.exists():
        raise ConfigError(f"{last} exists already: go on with --resume {last}, or give another --run or --savedir")
    try:
        config.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"checkpoints cannot be kept in {config.checkpoint_dir}: {error.strerror}") from error


def _read_data(config: Config, progress: Progress) -> Flickr8k:
    data = read_flickr8k(config.root_dir)
    progress.lines(*data.report.lines(), f"run {config.run}")
    return data


def _start_telemetry(config: Config, checkpoint: Checkpoint | None, placement: Placement) -> Telemetry:
    try:
        return Telemetry(
            config.run,
            endpoint=None if config.endpoint == NO_ENDPOINT else config.endpoint,
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
