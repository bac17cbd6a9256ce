"""The trainer's telemetry calls. All tags of the trainer are defined in this module and in ``trainer.layout``."""

import re
from typing import Final

import torch
from torch import Tensor, nn

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.trainer.data import Batch
from tensorboard_sidecar.trainer.evaluation import Evaluation
from tensorboard_sidecar.trainer.layout import custom_layout
from tensorboard_sidecar.trainer.losses import Losses
from tensorboard_sidecar.trainer.model import SPACES, Latents
from tensorboard_sidecar.trainer.retrieval import MODALITY_PAIRS
from tensorboard_sidecar.trainer.settings import Config

SAMPLE_RATE_HZ: Final = 16_000

# The first pairs of the validation split are shown: enough to look at, small enough to log every epoch.
HEATMAP_SIDE: Final = 64
SAMPLE_IMAGES: Final = 16
SAMPLE_CLIPS: Final = 8
# The joint space has four points a pair: 8,000 points, below the 10,000 at which the projector's t-SNE samples.
PROJECTOR_PAIRS: Final = 2_000

# Characters with a meaning in markdown, escaped in table cells.
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|])")


def report_start(telemetry: Telemetry, step: int, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Log the layout of the custom scalars, and the model's graph, traced with ``inputs``."""
    telemetry.layout(step, custom_layout())
    telemetry.graph(step, trace_graph(model, *inputs))


def report_step(
    telemetry: Telemetry, step: int, losses: Losses, latents: Latents, *, lr: float, grad_norm: Tensor
) -> None:
    """Log the 19 numbers of a training step in one record; all but the learning rate are on the device.

    The embedding statistics describe the latents before normalization: mean and standard deviation of all components,
    and the mean norm of a vector.
    """
    values: dict[str, Tensor | float] = {f"loss/train/{name}": loss.detach() for name, loss in losses._asdict().items()}
    values["optimization/lr"] = lr
    values["optimization/grad_norm"] = grad_norm
    for space, latent in zip(SPACES, latents, strict=True):
        components = latent.detach().float()
        values[f"embeddings/{space}/mean"] = components.mean()
        values[f"embeddings/{space}/std"] = components.std(correction=0)
        values[f"embeddings/{space}/norm"] = components.norm(dim=-1).mean()
    telemetry.scalars(step, values)


def report_epoch(
    telemetry: Telemetry, step: int, epoch: int, evaluation: Evaluation, *, loss_mean: Tensor, loss_std: Tensor
) -> None:
    """Log an epoch's numbers, heatmaps, samples and embeddings; ``loss_mean`` and ``loss_std`` are over its steps."""
    telemetry.scalars(
        step,
        {
            "loss/train/epoch_mean": loss_mean,
            "loss/train/epoch_std": loss_std,
            **{f"loss/val/{name}": loss for name, loss in evaluation.losses.items()},
            **{f"alignment/{name}": value for name, value in evaluation.alignments.items()},
            **{f"retrieval/{name}": value for name, value in evaluation.recalls.items()},
            "progress/epoch": float(epoch),
            **telemetry.health(),
        },
    )
    _report_similarities(telemetry, step, evaluation.units)
    _report_samples(telemetry, step, evaluation.first)
    _report_embeddings(telemetry, step, evaluation)


def report_parameters(telemetry: Telemetry, step: int, model: nn.Module) -> None:
    """Log histograms of all trainable parameters and of their gradients after clipping."""
    named = {name.replace(".", "/"): p for name, p in model.named_parameters() if p.requires_grad}
    telemetry.summaries(step, {f"weights/{name}": p.detach() for name, p in named.items()})
    telemetry.summaries(step, {f"gradients/{name}": p.grad for name, p in named.items() if p.grad is not None})


def report_end(telemetry: Telemetry, step: int, config: Config, *, best_loss: float, recall_at_1: float) -> None:
    """Log the settings as hyperparameters, with the run's best loss and Recall@1."""
    metrics = {"hparam/best_val_loss": best_loss, "hparam/recall_at_1": recall_at_1}
    telemetry.hparams(step, config.parameters(), metrics)


def _report_similarities(telemetry: Telemetry, step: int, units: Latents) -> None:
    for a, b in MODALITY_PAIRS:
        rows, columns = getattr(units, a)[:HEATMAP_SIDE], getattr(units, b)[:HEATMAP_SIDE]
        telemetry.matrix(
            step,
            f"similarity/{a}_vs_{b}",
            rows @ columns.T,
            title=f"{a} vs {b}: cosine similarity, validation",
            row_label=a,
            column_label=b,
            value_range=(-1.0, 1.0),
        )


def _report_samples(telemetry: Telemetry, step: int, batch: Batch) -> None:
    """Log images, captions and spoken captions, numbered from 1 like the logger's contact sheet."""
    captions = batch.captions[:SAMPLE_IMAGES]
    telemetry.images(step, "samples/images", batch.images[:SAMPLE_IMAGES], captions)
    telemetry.text(step, "samples/captions", caption_table(captions))
    pairs = zip(batch.waveforms[:SAMPLE_CLIPS], batch.waveform_lengths.tolist(), strict=False)
    clips = [waveform[:length] for waveform, length in pairs]
    telemetry.audio(step, "samples/audio", clips, sample_rate_hz=SAMPLE_RATE_HZ, captions=captions[:SAMPLE_CLIPS])


def caption_table(captions: tuple[str, ...]) -> str:
    """Return a markdown table of numbered captions, with markdown characters escaped."""
    rows = [f"| {number} | {_cell(caption)} |" for number, caption in enumerate(captions, 1)]
    return "\n".join(["| image | caption |", "| ---: | :--- |", *rows])


def _cell(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def projector_pairs(units: Latents, thumbnails: Tensor) -> int:
    """Return how many pairs the projector shows: vectors and thumbnails take at most 3/4 of the ``joint`` record."""
    bytes_a_pair = sum(unit[0].numel() * 4 + thumbnails[0].numel() for unit in units)
    return min(PROJECTOR_PAIRS, RECORD_SIZE_MAX_BYTES * 3 // 4 // bytes_a_pair)


def _report_embeddings(telemetry: Telemetry, step: int, evaluation: Evaluation) -> None:
    """Log the embeddings of each space, and of all spaces together as ``joint``, with captions and thumbnails."""
    pairs = projector_pairs(evaluation.units, evaluation.thumbnails)
    captions, names = evaluation.captions[:pairs], evaluation.image_names[:pairs]
    thumbnails = evaluation.thumbnails[:pairs]
    spaces = {space: unit[:pairs] for space, unit in zip(SPACES, evaluation.units, strict=True)}
    for space, vectors in spaces.items():
        metadata = {"caption": captions, "modality": [space] * len(captions), "image": names}
        telemetry.embedding(step, space, vectors, metadata=metadata, images=thumbnails)
    joint = {
        "caption": captions * len(SPACES),
        "modality": [space for space in SPACES for _ in captions],
        "image": names * len(SPACES),
    }
    vectors = torch.cat(tuple(spaces.values()))
    telemetry.embedding(step, "joint", vectors, metadata=joint, images=thumbnails.repeat(len(SPACES), 1, 1, 1))
