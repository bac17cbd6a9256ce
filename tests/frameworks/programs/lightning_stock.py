"""A Lightning training that logs through ``TensorBoardLogger``. ``python lightning_stock.py FOLDER``."""

import sys

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

BATCHES = 4
EPOCHS = 2


class Classifier(LightningModule):
    """Learns whether the sum of four numbers is positive. Fails at step ``fails_at``."""

    def __init__(
        self,
        width: int = 8,
        lr: float = 0.1,  # noqa: ARG002 - save_hyperparameters reads it
        fails_at: int | None = None,  # noqa: ARG002 - as above
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(1, 4)
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if self.global_step == self.hparams["fails_at"]:
            raise ArithmeticError("the loss is lost")
        loss = cross_entropy(self(batch[0]), batch[1])
        self.log("loss/train", loss, on_step=True, on_epoch=True)
        if index == 0:
            self.logger.experiment.add_histogram("weights", self.layers[0].weight, self.global_step)
            self.logger.experiment.add_text("note", f"epoch {self.current_epoch} begins", self.global_step)
            self.logger.log_metrics({"both": {"one": 1.0, "two": 2.0}}, self.global_step)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("loss/val", cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], index: int) -> None:  # noqa: ARG002 - Lightning passes the index
        self.log("accuracy/test", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


def train(logger: Logger, *, fails_at: int | None = None) -> None:
    """Train, validate and test; ``logger`` logs everything."""
    seed_everything(0, verbose=False)
    inputs = torch.randn(8 * BATCHES, 4)
    data = DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=8)
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        max_epochs=EPOCHS,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = Classifier(fails_at=fails_at)
    trainer.fit(model, data, data)
    trainer.test(model, data, verbose=False)


if __name__ == "__main__":
    train(TensorBoardLogger(sys.argv[1], log_graph=True))
