"""From the given settings to a finished run: check the settings, start telemetry, train."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Final

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.trainer.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tensorboard_sidecar.trainer.checkpoints.resume import (
    comparable,
    hold_checkpoints,
    how_to_resume,
    is_done,
    settle_checkpoint,
    settle_config,
)
from tensorboard_sidecar.trainer.data import DataError, Flickr8k, read_flickr8k
from tensorboard_sidecar.trainer.distributed import Placement, choose_device, read_placement
from tensorboard_sidecar.trainer.interrupt import Interrupted, StopSignals
from tensorboard_sidecar.trainer.loop import train
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import AUTO_RESUME, Config, ConfigError
from tensorboard_sidecar.trainer.summary import TrainingSummary

UserError: Final = (ConfigError, CheckpointError, DataError)
"""Errors that the user can correct: the program prints one clear line for them, and no traceback."""


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
                progress.lines(
                    f"run {config.run} has finished its {checkpoint.epoch} epochs; to train more: --epochs N"
                )
                return None
            config = settle_config(given, checkpoint, default_run=default_run)
            checkpoint = comparable(checkpoint, config, progress)
        return _train(config, checkpoint, progress, placement)


def _train(
    config: Config, checkpoint: Checkpoint | None, progress: Progress, placement: Placement
) -> TrainingSummary | None:
    if not config.num_workers and choose_device(config.device, placement).type == "cuda":
        progress.lines("num_workers is 0: the GPU waits while files are decoded between two steps; try --num_workers 4")
    data = _read_data(config, progress)
    with StopSignals() as stop, _start_telemetry(config, checkpoint, placement) as telemetry:
        try:
            return train(
                config,
                data,
                telemetry,
                checkpoint=checkpoint,
                progress=progress,
                stop=stop,
                placement=placement,
            )
        except Interrupted as stopped:
            progress.lines(f"{stopped}. {how_to_resume(config, placement.world_size)}")
            raise


def _read_data(config: Config, progress: Progress) -> Flickr8k:
    data = read_flickr8k(config.root_dir)
    progress.lines(*data.report.lines(), f"run {config.run}")
    return data


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
