"""The function of a rank in a spawned process, which imports the function by name."""

from pathlib import Path

import torch

from tensorboard_sidecar import Telemetry


def log_as_a_rank(rank: int, record: Path, memory: Path) -> None:
    """Log a hundred steps and a summary to a separate telemetry."""
    with Telemetry("run", endpoint=None, record=record, outbox_dir=memory, rank=rank, strict=True) as telemetry:
        for step in range(100):
            telemetry.scalars(step, {"loss": torch.tensor(float(rank))})
        telemetry.summaries(100, {"weights/a": torch.ones(1000), "weights/b": torch.ones(1000)})
