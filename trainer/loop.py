"""The training loop, top to bottom. ``trainer.reporting`` does the logging; the loop never waits for telemetry."""

import time
import zlib
from dataclasses import dataclass
from functools import partial

import torch

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.trainer import distributed, reporting
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k
from tensorboard_sidecar.trainer.data.loader import Loader, make_loader
from tensorboard_sidecar.trainer.data.report import DataError, EpochCounts, EpochNotes, sum_counts
from tensorboard_sidecar.trainer.data.vocabulary import Vocabulary
from tensorboard_sidecar.trainer.distributed import Placement
from tensorboard_sidecar.trainer.evaluation import Evaluation, evaluate, forward
from tensorboard_sidecar.trainer.interrupt import StopSignals
from tensorboard_sidecar.trainer.losses import PAIRS_MIN, RunningMoments, contrastive_losses, same_items
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.reporting import TrainingSummary
from tensorboard_sidecar.trainer.settings import Config
from tensorboard_sidecar.trainer.state import (
    Checkpoint,
    CheckpointError,
    TrainingState,
    deterministic,
    restore_vocabulary,
    save_checkpoint,
    seed_everything,
)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_ALONE = Placement()


@dataclass(frozen=True)
class RunContext:
    """The settings and collaborators of a run: telemetry, terminal output, stop signals, placement, device."""

    config: Config
    telemetry: Telemetry
    progress: Progress
    stop: StopSignals
    placement: Placement
    device: torch.device

    @property
    def leading(self) -> bool:
        """Whether this process is rank 0, which validates, saves checkpoints and prints."""
        return self.placement.rank == 0

    def autocast(self) -> torch.autocast:
        """Return the autocast context for the configured precision."""
        precision = self.config.precision
        return torch.autocast(self.device.type, _DTYPES[precision], enabled=precision != "fp32")


def train(
    config: Config,
    data: Flickr8k,
    telemetry: Telemetry,
    checkpoint: Checkpoint | None = None,
    *,
    progress: Progress | None = None,
    stop: StopSignals | None = None,
    placement: Placement = _ALONE,
) -> TrainingSummary | None:
    """Train a new run, or resume from ``checkpoint``; return the summary on rank 0, None on other ranks.

    Raises DataError when no readable pairs are left to train or validate on, CheckpointError for a checkpoint of
    another model, ConfigError for a missing device, Interrupted after a stop signal.
    """
    device = distributed.choose_device(config.device, placement)
    context = RunContext(config, telemetry, progress or Progress(None), stop or StopSignals(), placement, device)
    with distributed.process_group(placement, device), deterministic(device):
        seed_everything(config.seed)
        vocabulary = restore_vocabulary(checkpoint) or Vocabulary.build(pair.caption for pair in data.train)
        train_loader, validation_loader = make_loaders(context, data, vocabulary)
        done, epochs = (checkpoint.global_step, checkpoint.epoch) if checkpoint else (0, 0)
        total_steps = done + len(train_loader) * (config.epochs - epochs)
        state = TrainingState.create(config, len(vocabulary), total_steps, device)
        if checkpoint is not None:
            state.restore(checkpoint)
        if placement.world_size > 1:
            distributed.check_agreement(facts_to_agree_on(config, state, vocabulary, total_steps), placement)
        if checkpoint is not None:
            save(context, state, vocabulary, best=False)  # now: the attempt counts even if it finishes no epoch
        if context.leading:
            reporting.report_start(telemetry, done, state.model, state.model.example_inputs(config.image_size))
        if config.compile:
            state.model.compile()  # in place: parameters keep their names
        try:
            return train_epochs(context, state, vocabulary, train_loader, validation_loader)
        except RuntimeError:
            if placement.world_size > 1:
                context.stop.check()  # the error may come from ranks that were stopped a step earlier
            raise


def train_epochs(
    context: RunContext, state: TrainingState, vocabulary: Vocabulary, train_loader: Loader, validation_loader: Loader
) -> TrainingSummary | None:
    """Train, validate, report and save, epoch by epoch; return the summary on rank 0, otherwise None."""
    config, telemetry, started = context.config, context.telemetry, time.perf_counter()
    notes = EpochNotes(config.max_seconds)
    evaluation: Evaluation | None = None
    unsaved: CheckpointError | None = None
    for epoch in range(state.epoch + 1, config.epochs + 1):
        epoch_started = time.perf_counter()
        loss, counts = train_epoch(context, state, train_loader, epoch)
        pairs_per_second = counts.pairs / (time.perf_counter() - epoch_started)
        state.epoch = epoch
        if not context.leading:
            continue

        evaluation = evaluate(state.model, validation_loader.epoch(0), context.device, context.autocast())
        reporting.report_epoch(
            telemetry, state.global_step, epoch, evaluation, loss_mean=loss.mean(), loss_std=loss.std()
        )
        if epoch in (1, config.epochs) or epoch % config.histogram_interval == 0:
            reporting.report_parameters(telemetry, state.global_step, state.model)
        unsaved = save_epoch(context, state, vocabulary, evaluation.losses["total"])

        lag_seconds = telemetry.lag_seconds
        context.progress.lines(
            f"epoch {epoch:{len(str(config.epochs))}}/{config.epochs}  step {state.global_step}"
            f"  loss {float(loss.mean()):.3f}  validation {evaluation.losses['total']:.3f}"
            f"  Recall@1 {evaluation.recall_at_1():.1%}  {pairs_per_second:.0f} pairs/s"
            f"  telemetry lag {lag_seconds:.1f} s"
        )
        context.progress.findings(telemetry.findings())
        context.progress.lines(*notes.lines(sum_counts((counts, validation_loader.counts()))))
    if evaluation is None:
        return None
    recall_at_1, best_loss = evaluation.recall_at_1(), state.best_validation_loss
    reporting.report_end(telemetry, state.global_step, config, best_loss=best_loss, recall_at_1=recall_at_1)
    if unsaved is not None:
        raise unsaved
    return reporting.summarize(config, state, evaluation, telemetry.health(), time.perf_counter() - started)


def train_epoch(
    context: RunContext, state: TrainingState, loader: Loader, epoch: int
) -> tuple[RunningMoments, EpochCounts]:
    """Take the steps of one epoch; return the moments of the total loss, still on the device, and the epoch's counts.

    All ranks make the same number of steps: a batch with too few readable pairs is a step without a loss. Raises
    DataError when no step of any rank had a loss, Interrupted between two steps.
    """
    config, telemetry, device = context.config, context.telemetry, context.device
    moments = RunningMoments(device)
    with context.progress.bar(f"epoch {epoch}/{config.epochs}", loader.rows) as bar:
        for host_batch in loader.epoch(epoch):
            if len(host_batch) < PAIRS_MIN:
                state.update(None, config.clip_norm, context.placement)
                context.stop.check()
                continue
            batch = host_batch.to(device, non_blocking=True)
            lr = state.scheduler.get_last_lr()[0]

            with context.autocast():
                latents = forward(state.model, batch)
            losses = contrastive_losses(latents.unit(), state.model.scale(), same_items(batch.caption_keys))
            norms = state.update(losses.total, config.clip_norm, context.placement)
            moments.add(losses.total)

            if state.global_step % config.log_interval == 0:
                scale = state.model.scale()
                reporting.report_step(
                    telemetry, state.global_step, losses, latents, lr=float(lr), gradient_norms=norms, scale=scale
                )
                bar.show(losses.total, telemetry.lag_seconds)
                context.progress.findings(telemetry.findings())
            bar.advance(len(batch))
            context.stop.check()
    of_all_ranks = distributed.gather((moments.count, loader.counts()), context.placement)
    if not any(steps for steps, _ in of_all_ranks):
        raise DataError("no two pairs of a training batch could be decoded: there is nothing to train on")
    return moments, sum_counts(counts for _, counts in of_all_ranks)


def make_loaders(context: RunContext, data: Flickr8k, vocabulary: Vocabulary) -> tuple[Loader, Loader]:
    """Return the loaders of this rank's training pairs and of validation. Raises DataError below two pictures each."""
    config = context.config
    train_pairs = distributed.shard(data.train, context.placement)
    pictures = [len({pair.image_name for pair in pairs}) for pairs in (train_pairs, data.validation)]
    if min(pictures) < PAIRS_MIN:
        counts = f"{pictures[0]} pictures to train on and {pictures[1]} to validate with"
        raise DataError(f"{config.root_dir} leaves {counts}; two of each are needed for a contrastive loss")
    common = partial(
        make_loader,
        vocabulary=vocabulary,
        batch_size=config.batch_size,
        seed=config.seed,
        image_side_px=config.image_size,
        max_seconds=config.max_seconds,
        pin_memory=context.device.type == "cuda",
    )
    train_loader = common(train_pairs, train=True, num_workers=config.num_workers)
    validation_loader = common(data.validation, train=False, num_workers=min(config.num_workers, 1))
    return train_loader, validation_loader


def facts_to_agree_on(
    config: Config, state: TrainingState, vocabulary: Vocabulary, total_steps: int
) -> dict[str, object]:
    """Return the facts that must be equal on all ranks, so that their gradients belong to the same model."""
    return {
        **config.of_training(),
        "attempt": state.attempt,
        "steps": total_steps,
        "vocabulary": zlib.crc32("\n".join(vocabulary.words).encode()),
        "weights": state.checksum(),
    }


def save(context: RunContext, state: TrainingState, vocabulary: Vocabulary, *, best: bool) -> None:
    """Write a checkpoint of the current state, on rank 0 only. Raises CheckpointError."""
    if context.leading:
        save_checkpoint(context.config.checkpoint_dir, state.snapshot(context.config, vocabulary), best=best)


def save_epoch(
    context: RunContext, state: TrainingState, vocabulary: Vocabulary, validation_loss: float
) -> CheckpointError | None:
    """Write the checkpoint of an epoch; return the error if that fails, so that training goes on."""
    best_before = state.best_validation_loss
    best = state.record_validation_loss(validation_loss)
    try:
        save(context, state, vocabulary, best=best)
    except CheckpointError as error:
        state.best_validation_loss = best_before  # the loss of the checkpoint on disk
        if state.epoch < context.config.epochs:
            context.progress.lines(f"WARNING: {error}; training goes on, and the next epoch is saved again")
        return error
    return None
