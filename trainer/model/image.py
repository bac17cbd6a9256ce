"""The image encoder: a ResNet of torchvision without its classifier."""

from typing import Final

import torch
import torchvision
from torch import Tensor, nn

# ImageNet statistics, as the pretrained weights expect; see torchvision.transforms._presets.ImageClassification.
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)


class ImageEncoder(nn.Module):
    """Pictures to features ``[B, width]``; ``forward`` takes RGB ``[B, 3, H, W]``, floats in 0..1.

    ``backbone`` is the name of a ResNet in torchvision. ``pretrained`` loads its default weights, which the first use
    downloads.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str = "resnet18", *, pretrained: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.backbone = torchvision.models.get_model(backbone, weights="DEFAULT" if pretrained else None)
        self.width: int = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Encode the pictures."""
        features: Tensor = self.backbone((images - self.mean) / self.std)
        return features
