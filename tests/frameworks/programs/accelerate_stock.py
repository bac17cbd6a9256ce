"""An Accelerate training that logs through ``log_with="tensorboard"``. ``python accelerate_stock.py FOLDER``."""

import sys

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 6


def train(folder: str, log_with: str | GeneralTracker) -> None:
    """Fit a line; log the loss, a pair of curves, a text and pictures. The run is ``folder/line``."""
    set_seed(0)
    accelerator = Accelerator(cpu=True, log_with=log_with, project_dir=folder)
    accelerator.init_trackers("line", config={"lr": 0.1, "layers": 1, "shuffle": False, "optimizer": "SGD"})
    model = nn.Linear(3, 1)
    inputs = torch.randn(4 * STEPS, 3)
    data = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4)
    model, optimizer, data = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), data)
    for step, (given, wanted) in enumerate(data):
        loss = nn.functional.mse_loss(model(given), wanted)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"loss": loss.item(), "norms": {"weight": 1.5, "bias": 0.5}, "count": step}, step=step)
    accelerator.log({"note": "the line is **fitted**"}, step=STEPS)
    pictures = np.linspace(0, 1, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)
    accelerator.get_tracker("tensorboard").log_images({"ramp": pictures}, step=STEPS)
    accelerator.end_training()


if __name__ == "__main__":
    train(sys.argv[1], "tensorboard")
