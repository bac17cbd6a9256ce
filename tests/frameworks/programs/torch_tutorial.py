"""The shape of PyTorch's TensorBoard tutorial, on drawn pictures: a convolutional net that tells stripes apart.

``python torch_tutorial.py FOLDER``
"""

import sys

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

CLASSES = ("columns", "rows")
EPOCHS = 2


class Net(nn.Module):
    """Two layers: a convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.out = nn.Linear(4 * 6 * 6, len(CLASSES))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(pictures)).flatten(1))


def pictures_and_labels(count: int) -> tuple[Tensor, Tensor]:
    """Return pictures ``[count, 1, 8, 8]`` of stripes, columns or rows, and their labels."""
    labels = torch.arange(count) % 2
    stripes = (torch.arange(8) % 2).float().expand(count, 1, 8, 8)
    pictures = torch.where(labels[:, None, None, None] == 0, stripes, stripes.transpose(2, 3))
    return (pictures + torch.randn(count, 1, 8, 8) / 4).clamp(0, 1), labels


def guesses(net: Net, pictures: Tensor) -> Figure:
    """Draw pictures with the class that the net finds likeliest."""
    chances = functional.softmax(net(pictures), 1).detach()
    figure = Figure(figsize=(4, 2))
    for place, (picture, chance) in enumerate(zip(pictures[:2], chances, strict=False)):
        axes = figure.add_subplot(1, 2, place + 1, xticks=[], yticks=[])
        axes.imshow(picture[0], cmap="Greys")
        axes.set_title(f"{CLASSES[chance.argmax()]}, {chance.max():.0%}")
    return figure


def train(folder: str) -> None:
    """Show the data, the model and its projection, train, and show the precision and recall of each class."""
    torch.manual_seed(0)
    writer = SummaryWriter(folder)
    pictures, labels = pictures_and_labels(32)
    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    writer.add_image("stripes", make_grid(pictures[:4]))
    writer.add_graph(net, pictures[:1])
    writer.add_embedding(
        pictures.flatten(1), metadata=[CLASSES[label] for label in labels], label_img=pictures, tag="stripes"
    )
    data = DataLoader(TensorDataset(pictures, labels), batch_size=8)
    for epoch in range(EPOCHS):
        for index, (batch, wanted) in enumerate(data):
            optimizer.zero_grad()
            loss = criterion(net(batch), wanted)
            loss.backward()
            optimizer.step()
            step = epoch * len(data) + index
            writer.add_scalar("training loss", loss.item(), step)
        writer.add_figure("predictions vs. actuals", guesses(net, pictures), global_step=step)
        writer.add_histogram("conv/weight", net.conv.weight, epoch)
        writer.add_scalars("accuracy", {"train": accuracy(net, pictures, labels), "chance": 0.5}, epoch)
    chances = functional.softmax(net(pictures), 1).detach()
    for number, name in enumerate(CLASSES):
        writer.add_pr_curve(name, labels == number, chances[:, number], global_step=0)
    writer.add_hparams({"lr": 0.1, "batch": 8}, {"hparam/accuracy": accuracy(net, pictures, labels)})
    writer.close()


def accuracy(net: Net, pictures: Tensor, labels: Tensor) -> float:
    """Return the share of pictures whose class the net finds."""
    return (net(pictures).argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    train(sys.argv[1])
