"""The training loop, top to bottom. What it logs is in :mod:`trainer.reporting`; nothing here waits for telemetry."""

import time
from dataclasses import dataclass

import torch

from trainer.checkpoint import Checkpoint, save_checkpoint
from trainer.config import Config
from trainer.data import DataError, Flickr8k, Loader, Problem, Vocabulary, make_loader
from trainer.distributed import Placement, choose_device, process_group, share
from trainer.evaluation import Evaluation, evaluate, forward
from trainer.interrupt import StopSignals
from trainer.losses import contrastive_losses, same_items
from trainer.moments import RunningMoments
from trainer.progress import Progress
from trainer.random_state import deterministic, seed_everything
from trainer.reporting import report_end, report_epoch, report_parameters, report_start, report_step
from trainer.state import TrainingState, restore_vocabulary
from trainer.summary import TrainingSummary, epoch_line, summarize
from trainer.telemetry import Telemetry

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_ALONE = Placement()


@dataclass(frozen=True)
class RunContext:
    """What a run is given: its settings, whom it tells, when to stop, and where it computes."""

    config: Config
    telemetry: Telemetry
    progress: Progress
    stop: StopSignals
    placement: Placement
    device: torch.device

    @property
    def leading(self) -> bool:
        """Whether this process validates, saves, and speaks for the run."""
        return self.placement.rank == 0

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass in the precision that was set."""
        precision = self.config.precision
        return torch.autocast(self.device.type, _DTYPES[precision], enabled=precision != "fp32")


def train(
    config: Config,
    data: Flickr8k,
    telemetry: Telemetry,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    stop: StopSignals | None = None,
    placement: Placement = _ALONE,
) -> TrainingSummary | None:
    """Train as the settings say, from the checkpoint on if there is one; ``config.run`` names the run.

    Returns None on ranks that do not validate. Raises DataError when nothing is left to train or validate on,
    CheckpointError for a checkpoint that does not fit, ConfigError for a device that is not there, and Interrupted.
    """
    device = choose_device(config.device, placement)
    context = RunContext(config, telemetry, progress or Progress(None), stop or StopSignals(), placement, device)
    with process_group(placement, device), deterministic(device):
        seed_everything(config.seed)
        vocabulary = restore_vocabulary(checkpoint) or Vocabulary.build(pair.caption for pair in data.train)
        train_loader, validation_loader = make_loaders(context, data, vocabulary)
        state = TrainingState.create(config, len(vocabulary), len(train_loader) * config.epochs, device)
        if checkpoint is not None:
            state.restore(checkpoint)
            # Now, so that the next resume counts one attempt more even if this one does not finish an epoch.
            save(context, state, vocabulary, best=False)
        if context.leading:
            report_start(telemetry, state.global_step, state.model, state.model.example_inputs(config.image_size))
        if config.compile:
            state.model.compile()  # in place: parameters keep their names
        return train_epochs(context, state, vocabulary, train_loader, validation_loader)


def train_epochs(
    context: RunContext, state: TrainingState, vocabulary: Vocabulary, train_loader: Loader, validation_loader: Loader
) -> TrainingSummary | None:
    """Train, validate, report and save, epoch by epoch; return what came of it."""
    config, telemetry, started = context.config, context.telemetry, time.perf_counter()
    evaluation: Evaluation | None = None
    problems: tuple[Problem, ...] = ()
    for epoch in range(state.epoch + 1, config.epochs + 1):
        epoch_started = time.perf_counter()
        loss = train_epoch(context, state, train_loader, epoch)
        pairs_per_second = loss.count * config.batch_size / (time.perf_counter() - epoch_started)
        state.epoch = epoch
        if not context.leading:
            continue

        evaluation = evaluate(state.model, validation_loader.epoch(0), context.device, context.autocast())
        report_epoch(telemetry, state.global_step, epoch, evaluation, loss_mean=loss.mean(), loss_std=loss.std())
        if epoch in (1, config.epochs) or epoch % config.histogram_interval == 0:
            report_parameters(telemetry, state.global_step, state.model)
        best = state.note_validation(evaluation.losses["total"])
        save(context, state, vocabulary, best=best)

        lag_seconds = telemetry.lag_seconds
        context.progress.lines(epoch_line(config, state, float(loss.mean()), evaluation, pairs_per_second, lag_seconds))
        if (found := train_loader.problems() + validation_loader.problems()) != problems:
            problems = found
            context.progress.lines(*map(str, problems))
    if evaluation is None:
        return None
    recall_at_1, best_loss = evaluation.recall_at_1(), state.best_validation_loss
    report_end(telemetry, state.global_step, config, best_loss=best_loss, recall_at_1=recall_at_1)
    return summarize(config, state, evaluation, telemetry.health(), time.perf_counter() - started)


def train_epoch(context: RunContext, state: TrainingState, loader: Loader, epoch: int) -> RunningMoments:
    """Take the steps of one epoch; return mean and deviation of the total loss, still on the device.

    Raises DataError if there was no batch, and Interrupted between two steps.
    """
    config, telemetry, device = context.config, context.telemetry, context.device
    moments = RunningMoments(device)
    with context.progress.bar(f"epoch {epoch}/{config.epochs}", len(loader) * config.batch_size) as bar:
        for host_batch in loader.epoch(epoch):
            batch = host_batch.to(device, non_blocking=True)
            duplicates = same_items(batch.captions).to(device, non_blocking=True)
            lr = state.scheduler.get_last_lr()[0]

            with context.autocast():
                latents = forward(state.model, batch)
            losses = contrastive_losses(latents.unit(), state.model.scale(), duplicates)
            grad_norm = state.update(losses.total, config.clip_norm, context.placement)
            moments.add(losses.total)

            if state.global_step % config.log_interval == 0:
                report_step(telemetry, state.global_step, losses, latents, lr=float(lr), grad_norm=grad_norm)
                bar.show(losses.total, telemetry.lag_seconds)
            bar.advance(len(batch))
            context.stop.check()
    if not moments.count:
        raise DataError("no pair of the training split could be decoded: there is nothing to train on")
    return moments


def make_loaders(context: RunContext, data: Flickr8k, vocabulary: Vocabulary) -> tuple[Loader, Loader]:
    """Return the loaders of this rank's training pairs, and of the validation split.

    Raises DataError where either is empty.
    """
    config = context.config
    train_pairs = share(data.train, context.placement)
    if not train_pairs or not data.validation:
        counts = f"{len(train_pairs)} pairs to train on and {len(data.validation)} to validate with"
        raise DataError(f"{config.root_dir} leaves {counts}; both are needed")
    common = {"batch_size": config.batch_size, "seed": config.seed, "image_side_px": config.image_size}
    pin_memory = context.device.type == "cuda"
    workers = config.num_workers
    train_loader = make_loader(
        train_pairs, vocabulary, train=True, num_workers=workers, pin_memory=pin_memory, **common
    )
    validation_loader = make_loader(
        data.validation, vocabulary, train=False, num_workers=min(workers, 1), pin_memory=pin_memory, **common
    )
    return train_loader, validation_loader


def save(context: RunContext, state: TrainingState, vocabulary: Vocabulary, *, best: bool) -> None:
    """Write the checkpoint of this moment; only the leading rank does. Raises OSError when it cannot be written."""
    if context.leading:
        save_checkpoint(context.config.checkpoint_dir, state.snapshot(context.config, vocabulary), best=best)
