"""``python -m benchmarks.training_thread``: what logging takes from the training thread.

One run logs the same tensors through this project, torch's SummaryWriter and tensorboardX: a logged step (19 scalars;
also with a flight recorder), an epoch's load (three 64x64 heatmaps, 16 pictures, their captions, a 256x128 embedding)
and a histogram epoch (weights and gradients of a ResNet-18). The time counts until the calls return. Between two timed
calls the thread runs small tensor operations, as a training step does: background threads catch up, and the caches are
cold for every subject. The first table times steps without a pause between them. At the end the benchmark times each
call of this project alone, with the logger up, frozen, absent, or unable to write, and with a full outbox.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import matplotlib as mpl
import tensorboardX
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from benchmarks.loads import SCALAR_CALLS, Load, make_load, train
from benchmarks.loggers import STATES, running_logger, telemetry_beside
from benchmarks.measure import COLUMNS, begin, measure, print_table
from tensorboard_sidecar import Telemetry

Call: TypeAlias = Callable[[int], None]
"""Logs something, at a step."""

# The pause between two epochs: our logger and the peers' threads finish their work. Real epochs are minutes apart.
_EPOCH_SECONDS: Final = 2.5
# The pause between two large calls: background work of the first call ends. Real calls are minutes apart.
_PAUSE_SECONDS: Final = 0.5
_CALLS: Final = 25
_FULL: Final = "outbox full"
_FULL_BYTES: Final = 2**20


@dataclass(frozen=True)
class Subject:
    """A library that logs the load: a step's scalars; an epoch's pictures, text and points; weights and gradients."""

    name: str
    step: Call
    epoch: Call
    histograms: Call
    close: Callable[[], object]


def sidecar(load: Load, endpoint: str) -> Subject:
    """Return this project, a record for each group of values."""
    telemetry = Telemetry("benchmark/own", endpoint=endpoint, strict=True, drain_seconds=60)

    def epoch(number: int) -> None:
        for tag, matrix in load.matrices.items():
            telemetry.matrix(number, tag, matrix, title=tag, value_range=(-1.0, 1.0))
        telemetry.images(number, "samples/images", load.images)
        telemetry.text(number, "samples/captions", "\n\n".join(load.captions))
        telemetry.embedding(number, "text", load.vectors, metadata={"caption": load.labels})

    return Subject(
        "tensorboard-sidecar",
        step=lambda number: telemetry.scalars(number, load.scalars),
        epoch=epoch,
        histograms=lambda number: telemetry.summaries(number, load.tensors),
        close=telemetry.close,
    )


def summary_writer(name: str, writer: Any, load: Load) -> Subject:
    """Return a SummaryWriter: torch's, tensorboardX's, or this project's (steps only, since it draws no figures)."""

    def step(number: int) -> None:
        for tag, value in load.scalars.items():
            writer.add_scalar(tag, value, number)

    def epoch(number: int) -> None:
        for tag, matrix in load.matrices.items():
            writer.add_figure(tag, _heatmap(tag, matrix), number)
        writer.add_images("samples/images", load.images, number)
        writer.add_text("samples/captions", "\n\n".join(load.captions), number)
        writer.add_embedding(load.vectors, load.labels, global_step=number, tag="text")

    def histograms(number: int) -> None:
        for tag, tensor in load.tensors.items():
            writer.add_histogram(tag, tensor, number)

    return Subject(name, step, epoch, histograms, writer.close)


def _heatmap(title: str, matrix: Tensor) -> Figure:
    figure = Figure(figsize=(6, 5))
    axes = figure.add_subplot()
    figure.colorbar(axes.imshow(matrix.numpy(), cmap="coolwarm", vmin=-1, vmax=1))
    axes.set_title(title)
    return figure


def main() -> None:
    """Measure and print the tables."""
    options = begin(__doc__, steps=(2000, "logged steps"), epochs=(15, "epoch loads, histogram epochs"))
    logging.getLogger("tensorboardX").setLevel(logging.ERROR)
    mpl.use("agg")
    load = make_load()
    values = sum(tensor.numel() for tensor in load.tensors.values())
    with tempfile.TemporaryDirectory() as name, running_logger(Path(name)) as (endpoint, _):
        own = sidecar(load, endpoint)
        torchs = summary_writer("torch SummaryWriter", SummaryWriter(f"{name}/torch"), load)
        xs = summary_writer("tensorboardX", tensorboardX.SummaryWriter(f"{name}/x"), load)
        like = Telemetry("benchmark/writer", endpoint=endpoint, strict=True)
        writers = summary_writer("tensorboard-sidecar, 19 x add_scalar", like.writer, load)
        flying = Telemetry("benchmark/flight", endpoint=endpoint, strict=True, flight_recorder=500)
        steps = {subject.name: subject.step for subject in (own, writers, torchs, xs)}
        steps |= {
            "tensorboard-sidecar, flight": lambda number: flying.flight(number, load.scalars),
            "tensorboard-sidecar, scalars with a flight recorder": lambda number: flying.scalars(number, load.scalars),
        }
        _compare("A logged step, 19 0-d CPU tensors, one after the other", steps, options.steps, 0.0)
        _compare("A logged step behind 2 ms of training", steps, options.steps, 0.002)
        peers = (own, torchs, xs)
        epochs = {subject.name: subject.epoch for subject in peers}
        title = "An epoch: 3 heatmaps, 16 pictures, captions, 256x128 points"
        _compare(title, epochs, options.epochs, _EPOCH_SECONDS)
        histograms = {subject.name: subject.histograms for subject in peers}
        _compare(f"A histogram epoch: {values / 1e6:.1f} M values", histograms, options.epochs, _EPOCH_SECONDS)
        for closing in (*peers, writers, flying):
            closing.close()
    _measure_calls(load)


def _compare(title: str, calls: Mapping[str, Call], repetitions: int, pause_seconds: float) -> None:
    """Measure the call of each subject, and print a table with the ratios to the first."""
    timings = {name: measure(call, repetitions, pause=lambda: train(pause_seconds)) for name, call in calls.items()}
    own_ns = next(iter(timings.values())).percentile_ns(50)
    rows = [[name, f"{timing.percentile_ns(50) / own_ns:.1f}", *timing.cells()] for name, timing in timings.items()]
    print_table(title, ["", "ratio of p50", *COLUMNS], rows)


def _measure_calls(load: Load) -> None:
    """Measure each call of this project in each state of the logger and with a full outbox, and print a table."""
    rows = []
    for state in (*STATES, _FULL):
        full = state == _FULL
        options: dict[str, Any] = {"outbox_bytes": _FULL_BYTES, "spill_dir": "none"} if full else {}
        run = f"benchmark/{state.replace(' ', '_')}"
        with telemetry_beside("absent" if full else state, run, **options) as telemetry:
            while full and not telemetry.health()["telemetry/refused"]:
                telemetry.text(0, "filler", "x" * 1000)
                telemetry.scalars(0, {"filler": 0.0})
            timing = measure(lambda step: telemetry.scalars(step, load.scalars), SCALAR_CALLS)
            rows.append(["scalars (19)", state, *timing.cells()])
            for name, call in _large_calls(load, telemetry).items():
                rows.append([name, state, *measure(call, _CALLS, pause=lambda: train(_PAUSE_SECONDS)).cells()])
    rows.sort(key=lambda row: row[0])  # the states of a call beside each other
    print_table("Each call, by the state of the logger", ["call", "logger", *COLUMNS], rows)


def _large_calls(load: Load, telemetry: Telemetry) -> dict[str, Call]:
    tag, matrix = next(iter(load.matrices.items()))
    text = "\n\n".join(load.captions)
    labels = {"caption": load.labels}
    return {
        "matrix (64x64)": lambda step: telemetry.matrix(step, tag, matrix, value_range=(-1.0, 1.0)),
        "images (16x3x224x224)": lambda step: telemetry.images(step, "samples/images", load.images),
        "text": lambda step: telemetry.text(step, "samples/captions", text),
        "embedding (256x128)": lambda step: telemetry.embedding(step, "text", load.vectors, metadata=labels),
        "summaries (23.4 M)": lambda step: telemetry.summaries(step, load.tensors),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
