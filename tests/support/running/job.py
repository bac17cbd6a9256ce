"""The main job of the system tests: its settings, and the paths of its results."""

from dataclasses import dataclass
from pathlib import Path

from support.running.programs import LoggerProcess

EPOCHS = 2
LOG_INTERVAL = 2
RUN = "main/job"
TRAINER = (
    *("--epochs", EPOCHS, "--batch_size", 8, "--log_interval", LOG_INTERVAL, "--histogram_interval", 1),
    *("--embed_dim", 32, "--image_size", 64, "--num_workers", 0, "--seed", 7),
)


@dataclass(frozen=True)
class Job:
    """A finished run: its paths, and the trainer's output."""

    data: Path
    logger: LoggerProcess
    local_recordings: Path
    output: str

    @property
    def run_directory(self) -> Path:
        return self.logger.logdir / RUN
