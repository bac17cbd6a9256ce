"""``python -m benchmarks.training_thread``: what logging takes from the training thread.

One run logs the same tensors through this project, torch's SummaryWriter and tensorboardX: a logged step (19 scalars),
an epoch's load (three 64x64 heatmaps, 16 pictures, their captions, a 256x128 embedding) and a histogram epoch (weights
and gradients of a ResNet-18). The time counts until the calls return. Between two timed calls the thread runs small
tensor operations, as a training step does: background threads catch up, and the caches are cold for every subject. The
first table times steps without a pause between them. At the end the benchmark times each call of this project alone,
with the logger up, frozen, absent, or unable to write, and with a full outbox.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import matplotlib as mpl
import tensorboardX
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from benchmarks.call_states import measure_calls
from benchmarks.loads import Load, make_load, train
from benchmarks.logger_process import running_logger
from benchmarks.measure import COLUMNS, PERCENTS, Timing, format_ns, measure, print_machine_speed, print_table
from tensorboard_sidecar import Telemetry


class Subject(Protocol):
    """Something that logs the load."""

    name: str

    def step(self, number: int) -> None:
        """Log a step's scalars."""

    def epoch(self, number: int) -> None:
        """Log an epoch's pictures, text and points."""

    def histograms(self, number: int) -> None:
        """Log weights and gradients."""

    def close(self) -> None:
        """End."""


class Sidecar:
    """This project, a record for each group of values."""

    name = "tensorboard-sidecar"

    def __init__(self, load: Load, endpoint: str) -> None:
        self._load = load
        self._telemetry = Telemetry("benchmark/own", endpoint=endpoint, strict=True, drain_seconds=60)

    def step(self, number: int) -> None:
        """Log a step's scalars."""
        self._telemetry.scalars(number, self._load.scalars)

    def epoch(self, number: int) -> None:
        """Log an epoch's pictures, text and points."""
        load, telemetry = self._load, self._telemetry
        for tag, matrix in load.matrices.items():
            telemetry.matrix(number, tag, matrix, title=tag, value_range=(-1.0, 1.0))
        telemetry.images(number, "samples/images", load.images)
        telemetry.text(number, "samples/captions", "\n\n".join(load.captions))
        telemetry.embedding(number, "text", load.vectors, metadata={"caption": load.labels})

    def histograms(self, number: int) -> None:
        """Log weights and gradients."""
        self._telemetry.summaries(number, self._load.tensors)

    def close(self) -> None:
        """End."""
        self._telemetry.close()


class Writer:
    """A SummaryWriter: torch's, tensorboardX's, or this project's look-alike (steps only: it draws no figures)."""

    def __init__(self, name: str, writer: Any, load: Load) -> None:
        self.name, self._writer, self._load = name, writer, load

    def step(self, number: int) -> None:
        """Log a step's scalars."""
        for tag, value in self._load.scalars.items():
            self._writer.add_scalar(tag, value, number)

    def epoch(self, number: int) -> None:
        """Log an epoch's pictures, text and points."""
        load, writer = self._load, self._writer
        for tag, matrix in load.matrices.items():
            writer.add_figure(tag, _heatmap(tag, matrix), number)
        writer.add_images("samples/images", load.images, number)
        writer.add_text("samples/captions", "\n\n".join(load.captions), number)
        writer.add_embedding(load.vectors, load.labels, global_step=number, tag="text")

    def histograms(self, number: int) -> None:
        """Log weights and gradients."""
        for tag, tensor in self._load.tensors.items():
            self._writer.add_histogram(tag, tensor, number)

    def close(self) -> None:
        """End."""
        self._writer.close()


# The pause between two epochs: our logger and the peers' threads finish their work. Real epochs are minutes apart.
_EPOCH_SECONDS: Final = 2.5


def _heatmap(title: str, matrix: Tensor) -> Figure:
    figure = Figure(figsize=(6, 5))
    axes = figure.add_subplot()
    figure.colorbar(axes.imshow(matrix.numpy(), cmap="coolwarm", vmin=-1, vmax=1))
    axes.set_title(title)
    return figure


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_thread", description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="logged steps (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="epoch loads, histogram epochs (default: %(default)s)")
    options = parser.parse_args()
    print_machine_speed()
    logging.getLogger("tensorboardX").setLevel(logging.ERROR)
    mpl.use("agg")
    load = make_load()
    values = sum(tensor.numel() for tensor in load.tensors.values())
    with tempfile.TemporaryDirectory() as name, running_logger(Path(name)) as (endpoint, _):
        own = Sidecar(load, endpoint)
        torchs = Writer("torch SummaryWriter", SummaryWriter(f"{name}/torch"), load)
        xs = Writer("tensorboardX", tensorboardX.SummaryWriter(f"{name}/x"), load)
        like = Telemetry("benchmark/writer", endpoint=endpoint, strict=True)
        writers = Writer("tensorboard-sidecar, 19 x add_scalar", like.writer, load)
        steps: list[Subject] = [own, writers, torchs, xs]
        _table("A logged step, 19 0-d CPU tensors, one after the other", steps, lambda s: s.step, options.steps, 0.0)
        _table("A logged step behind 2 ms of training", steps, lambda s: s.step, options.steps, 0.002)
        peers: list[Subject] = [own, torchs, xs]
        picture = "An epoch: 3 heatmaps, 16 pictures, captions, 256x128 points"
        _table(picture, peers, lambda s: s.epoch, options.epochs, _EPOCH_SECONDS)
        histogram = f"A histogram epoch: {values / 1e6:.1f} M values"
        _table(histogram, peers, lambda s: s.histograms, options.epochs, _EPOCH_SECONDS)
        for subject in [*peers, writers]:
            subject.close()
    measure_calls(load)


def _table(
    title: str,
    subjects: list[Subject],
    call: Callable[[Subject], Callable[[int], None]],
    repetitions: int,
    pause_seconds: float,
) -> None:
    timings: list[tuple[Subject, Timing]] = [
        (subject, measure(call(subject), repetitions, warm_up=3, pause=lambda: train(pause_seconds)))
        for subject in subjects
    ]
    own_ns = timings[0][1].percentile_ns(50)
    rows = [
        [
            subject.name,
            f"{timing.percentile_ns(50) / own_ns:.1f}",
            *(format_ns(timing.percentile_ns(percent)) for percent in PERCENTS),
        ]
        for subject, timing in timings
    ]
    print_table(title, ["", "ratio of p50", *COLUMNS], rows)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
