"""Two processes train with ``SidecarLogger``. ``python lightning_parallel.py FOLDER STRATEGY``."""

import sys

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tensorboard_sidecar.integrations.lightning import SidecarLogger

STEPS = 2


class Line(LightningModule):
    """Each process logs its rank."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        self.logger.log_metrics({"rank": self.global_rank}, self.global_step)
        self.logger.experiment.add_scalar("also/rank", self.global_rank, self.global_step)
        return self.layer(batch).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    Trainer(
        accelerator="cpu",
        devices=2,
        strategy=sys.argv[2],
        logger=SidecarLogger(sys.argv[1], name="", version="one"),
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Line(), DataLoader(torch.randn(8 * STEPS, 4), batch_size=4))
