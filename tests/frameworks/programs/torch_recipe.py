"""The shape of PyTorch's TensorBoard recipe: fit a line, and log the loss. ``python torch_recipe.py FOLDER``."""

import sys

import torch
from torch.utils.tensorboard import SummaryWriter

EPOCHS = 10


def train(folder: str) -> None:
    """Fit ``y = -5 x`` and log each loss."""
    torch.manual_seed(0)
    writer = SummaryWriter(folder)
    x = torch.arange(-5, 5, 0.1).view(-1, 1)
    y = -5 * x + 0.1 * torch.randn(x.size())
    model = torch.nn.Linear(1, 1)
    criterion = torch.nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(EPOCHS):
        loss = criterion(model(x), y)
        writer.add_scalar("Loss/train", loss, epoch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    writer.flush()
    writer.close()


if __name__ == "__main__":
    train(sys.argv[1])
