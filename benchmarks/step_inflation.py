"""``python -m benchmarks.step_inflation``: step time with logging over step time without.

A small convolutional network trains on one CPU thread. At random, half of the steps log 19 0-d tensors and half log
nothing, so that both halves run on the same machine at the same time. The states of the logger are up, frozen (SIGSTOP)
and absent.
"""

import random
import statistics
from time import perf_counter

import torch
from torch import Tensor, nn

from benchmarks.loads import SCALARS
from benchmarks.loggers import telemetry_beside
from benchmarks.measure import begin, print_table
from tensorboard_sidecar import Telemetry


class Training:
    """A training loop that can be asked for one step at a time."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self._model = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(1024, 10),
        )
        self._optimizer = torch.optim.AdamW(self._model.parameters())
        self._images, self._labels = torch.rand(32, 3, 32, 32), torch.randint(10, (32,))

    def step(self) -> dict[str, Tensor]:
        """Train a step; return 19 0-d tensors to log."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self._model(self._images), self._labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return dict.fromkeys(SCALARS, loss.detach())


def compare(training: Training, telemetry: Telemetry, steps: int) -> tuple[list[float], list[float]]:
    """Return the durations in seconds of steps with and without logging."""
    durations: tuple[list[float], list[float]] = ([], [])
    turns = random.Random(0)
    for number in range(steps):
        logged = turns.random() < 0.5
        started = perf_counter()
        values = training.step()
        if logged:
            telemetry.scalars(number, values)
        durations[0 if logged else 1].append(perf_counter() - started)
    return durations


def main() -> None:
    """Measure and print a table."""
    options = begin(__doc__, steps=(4000, "steps for each state"))
    torch.set_num_threads(1)
    training = Training()
    rows = []
    for name in ("up", "frozen", "absent"):
        with telemetry_beside(name, "benchmark", strict=True) as telemetry:
            compare(training, telemetry, options.steps // 10)
            logged, bare = compare(training, telemetry, options.steps)
        ratios = [average(logged) / average(bare) for average in (statistics.median, statistics.fmean)]
        rows.append([name, *(f"{ratio:.4f}" for ratio in ratios), f"{statistics.median(bare) * 1e3:.2f} ms"])
    columns = ["logger", "ratio of medians", "of means", "step (median)"]
    print_table("Step time with logging over without", columns, rows)


if __name__ == "__main__":
    main()
