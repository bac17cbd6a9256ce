"""The main job that system tests look at: what is run, and where everything is afterwards."""

from dataclasses import dataclass
from pathlib import Path

from support.programs import LoggerProcess

EPOCHS = 2
LOG_INTERVAL = 2
RUN = "main/job"
TRAINER = (
    *("--epochs", EPOCHS, "--batch_size", 8, "--log_interval", LOG_INTERVAL, "--histogram_interval", 1),
    *("--embed_dim", 32, "--num_workers", 0, "--seed", 7),
)


@dataclass(frozen=True)
class Job:
    """A finished run: where everything is, and what the trainer said."""

    data: Path
    logger: LoggerProcess
    local_recordings: Path
    output: str

    @property
    def run_directory(self) -> Path:
        return self.logger.logdir / RUN
