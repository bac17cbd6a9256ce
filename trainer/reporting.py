"""The trainer's reports: telemetry calls with all tags, their layout in TensorBoard, and lines for the terminal."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from tensorboard_sidecar import Finding, Telemetry
from tensorboard_sidecar.protocol.messages import Chart
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.trainer.data.loader import Batch
from tensorboard_sidecar.trainer.data.resampling import RATE_HZ
from tensorboard_sidecar.trainer.evaluation import DIRECTIONS, MODALITY_PAIRS, Evaluation
from tensorboard_sidecar.trainer.losses import Losses
from tensorboard_sidecar.trainer.model import SPACES, Latents
from tensorboard_sidecar.trainer.settings import Config
from tensorboard_sidecar.trainer.state import GradientNorms, TrainingState

EMBEDDING_STATISTICS: Final = ("mean", "std", "dimension_std", "norm")

# The first pairs of the validation split are shown: enough to look at, small enough to log every epoch.
HEATMAP_SIDE: Final = 64
SAMPLE_IMAGES: Final = 16
SAMPLE_CLIPS: Final = 8
# The joint space has four points a pair: 8,000 points, below the 10,000 at which the projector's t-SNE samples.
PROJECTOR_PAIRS: Final = 2_000

# Open findings in the summary; TensorBoard's card has all.
FINDINGS_SHOWN_MAX: Final = 10

# Characters with a meaning in markdown, escaped in table cells.
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|])")


def report_start(telemetry: Telemetry, step: int, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Log the layout of the custom scalars, and the model's graph, traced with ``inputs``."""
    telemetry.layout(step, custom_layout())
    telemetry.graph(step, trace_graph(model, *inputs))


def report_step(
    telemetry: Telemetry,
    step: int,
    losses: Losses,
    latents: Latents,
    *,
    lr: float,
    gradient_norms: GradientNorms,
    scale: Tensor,
) -> None:
    """Log the 25 numbers of a training step in one record; all but the learning rate are on the device.

    ``scale`` is one over the temperature. The embedding statistics describe the latents before normalization: mean and
    standard deviation of all components, the mean over dimensions of the deviation over the batch (0 when all vectors
    are equal, however large their components are), and the mean norm of a vector.
    """
    values: dict[str, Tensor | float] = {f"loss/train/{name}": loss.detach() for name, loss in losses._asdict().items()}
    values["optimization/lr"] = lr
    values["optimization/grad_norm"] = gradient_norms.before_clipping
    values["optimization/grad_norm_clipped"] = gradient_norms.after_clipping
    values["optimization/temperature"] = scale.detach().reciprocal()
    for space, latent in zip(SPACES, latents, strict=True):
        components = latent.detach().float()
        values[f"embeddings/{space}/mean"] = components.mean()
        values[f"embeddings/{space}/std"] = components.std(correction=0)
        values[f"embeddings/{space}/dimension_std"] = components.std(dim=0, correction=0).mean()
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
    telemetry.audio(step, "samples/audio", clips, sample_rate_hz=RATE_HZ, captions=captions[:SAMPLE_CLIPS])


def caption_table(captions: tuple[str, ...]) -> str:
    """Return a markdown table of numbered captions, with markdown characters escaped."""
    cells = (_MARKDOWN.sub(r"\\\1", " ".join(caption.split())) for caption in captions)
    rows = [f"| {number} | {cell} |" for number, cell in enumerate(cells, 1)]
    return "\n".join(["| image | caption |", "| ---: | :--- |", *rows])


def _report_embeddings(telemetry: Telemetry, step: int, evaluation: Evaluation) -> None:
    """Log the embeddings of each space, and of all spaces together as ``joint``, with captions and thumbnails."""
    captions, names = evaluation.captions[:PROJECTOR_PAIRS], evaluation.image_names[:PROJECTOR_PAIRS]
    thumbnails = evaluation.thumbnails[:PROJECTOR_PAIRS]
    spaces = {space: unit[:PROJECTOR_PAIRS] for space, unit in zip(SPACES, evaluation.units, strict=True)}
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


def custom_layout() -> dict[str, dict[str, Chart]]:
    """Return the layout: for each category, charts by title."""
    losses = {
        name: [f"loss/{split}/{name}" for split in ("train", "val")] + ["loss/train/epoch_mean"] * (name == "total")
        for name in Losses._fields
    }
    pairs = [f"{a}_vs_{b}" for a, b in MODALITY_PAIRS]
    return {
        "Training Progress": {
            **{name.replace("_", " "): _chart(tags) for name, tags in losses.items()},
            "all losses": _chart(dict.fromkeys(tag for tags in losses.values() for tag in tags)),
        },
        "Embeddings": {name: _chart(f"embeddings/{space}/{name}" for space in SPACES) for name in EMBEDDING_STATISTICS},
        "Optimization": {
            "learning rate": _chart(["optimization/lr"]),
            "gradient norm": _chart(["optimization/grad_norm", "optimization/grad_norm_clipped"]),
            "temperature": _chart(["optimization/temperature"]),
        },
        "Alignment": {
            pair.replace("_", " "): _chart(f"alignment/{pair}/{name}_similarity" for name in ("diagonal", "mean"))
            for pair in pairs
        },
    }


def _chart(tags: Iterable[str]) -> Chart:
    """Return a chart of exactly these tags, anchored: TensorBoard matches a chart's regular expressions as prefixes."""
    return Chart("multiline", [f"^{re.escape(tag)}$" for tag in tags])


@dataclass(frozen=True)
class TrainingSummary:
    """The results of the last epoch, and the best validation loss of all epochs.

    ``chance`` is the Recall@1 of a random ranking; ``step_cost_us`` the training thread's time in a logged step.
    ``findings`` are those that the logger has told by the end, None without a logger.
    """

    run: str
    epochs: int
    global_step: int
    best_validation_loss: float
    recall_at_1: float
    recalls: Mapping[str, float]
    diagonal_similarity: float
    mean_similarity: float
    chance: float
    checkpoint_dir: Path
    step_cost_us_p50: float
    step_cost_us_p99: float
    seconds: float
    findings: tuple[Finding, ...] | None = None

    def lines(self) -> tuple[str, ...]:
        """Return the summary for a terminal, one line a fact."""
        each = (f"{q} to {a} {self.recalls[f'{q}_to_{a}/recall_at_1']:.0%}" for q, a in DIRECTIONS)
        similarity = f"{self.diagonal_similarity:.2f} of matching pairs, {self.mean_similarity:.2f} of all combinations"
        cost = (
            f"{_duration(self.step_cost_us_p50)} a logged step (p50), {_duration(self.step_cost_us_p99)} (p99:"
            " some steps also log an epoch's pictures and histograms)"
        )
        return (
            f"run                   {self.run}",
            f"trained               {self.epochs} epochs, {self.global_step} steps, {self.seconds:.0f} s",
            f"best validation loss  {self.best_validation_loss:.3f}",
            f"Recall@1              {self.recall_at_1:.1%}, chance is {self.chance:.1%} ({', '.join(each)})",
            f"cosine similarity     {similarity}",
            f"checkpoints           {self.checkpoint_dir}",
            f"telemetry cost        {cost}",
            *_finding_lines(self.findings),
        )


def _finding_lines(findings: tuple[Finding, ...] | None) -> tuple[str, ...]:
    """Return how many findings there are, and a line for each open one."""
    if findings is None:
        return ("findings              nobody watched the run: there was no logger",)
    opened = [finding for finding in findings if finding.state == "open"]
    cleared = f", {len(findings) - len(opened)} cleared" if len(findings) > len(opened) else ""
    count = f"{len(opened) or 'none'} open{cleared}"
    return (
        f'findings              {count}; the card "findings" in TensorBoard says what was not checked',
        *(f"                      {printable(str(finding))}" for finding in opened[:FINDINGS_SHOWN_MAX]),
    )


def summarize(
    config: Config, state: TrainingState, evaluation: Evaluation, health: Mapping[str, float], seconds: float
) -> TrainingSummary:
    """Return the summary of a finished run; similarities are means over the three modality pairs."""
    diagonal, mean = (
        sum(evaluation.alignments[f"{a}_vs_{b}/{name}_similarity"] for a, b in MODALITY_PAIRS) / len(MODALITY_PAIRS)
        for name in ("diagonal", "mean")
    )
    return TrainingSummary(
        run=config.run,
        epochs=state.epoch,
        global_step=state.global_step,
        best_validation_loss=state.best_validation_loss,
        recall_at_1=evaluation.recall_at_1(),
        recalls=evaluation.recalls,
        diagonal_similarity=diagonal,
        mean_similarity=mean,
        chance=evaluation.chance,
        checkpoint_dir=config.checkpoint_dir,
        step_cost_us_p50=health["telemetry/step_cost_us_p50"],
        step_cost_us_p99=health["telemetry/step_cost_us_p99"],
        seconds=seconds,
    )


def _duration(us: float) -> str:
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.1f} ms"
