"""The summary of a training run for the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tensorboard_sidecar.trainer.checkpoints.state import TrainingState
from tensorboard_sidecar.trainer.evaluation import Evaluation
from tensorboard_sidecar.trainer.retrieval import DIRECTIONS, MODALITY_PAIRS
from tensorboard_sidecar.trainer.settings import Config


@dataclass(frozen=True)
class TrainingSummary:
    """The results of the last epoch, and the best validation loss of all epochs.

    ``chance`` is the Recall@1 of a random ranking. ``step_cost_us_p50`` and ``step_cost_us_p99`` are the time that
    telemetry took from the training thread in a logged step, in microseconds.
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


def epoch_line(
    config: Config,
    state: TrainingState,
    train_loss: float,
    evaluation: Evaluation,
    pairs_per_second: float,
    lag_seconds: float,
) -> str:
    """Return the line for the terminal about a finished epoch."""
    return (
        f"epoch {state.epoch:{len(str(config.epochs))}}/{config.epochs}  step {state.global_step}"
        f"  loss {train_loss:.3f}  validation {evaluation.losses['total']:.3f}"
        f"  Recall@1 {evaluation.recall_at_1():.1%}  {pairs_per_second:.0f} pairs/s  telemetry lag {lag_seconds:.1f} s"
    )


def _duration(us: float) -> str:
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.1f} ms"
