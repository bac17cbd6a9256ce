"""The tensors that every subject logs, from a fixed seed, and the work between two timed calls."""

from dataclasses import dataclass
from time import perf_counter

import torch
import torchvision
from torch import Tensor

SCALARS = (
    *(f"loss/train/{name}" for name in ("total", "text_image", "text_audio", "image_audio", "global_modal")),
    *(f"optimization/{name}" for name in ("lr", "grad_norm")),
    *(
        f"embeddings/{name}/{value}"
        for name in ("text", "image", "audio", "global")
        for value in ("mean", "std", "norm")
    ),
)
# The timed calls that log a step, in a row of a table.
SCALAR_CALLS = 20_000


@dataclass(frozen=True)
class Load:
    """A step's 19 0-d tensors; an epoch's pictures, captions and points; a ResNet-18's weights and gradients."""

    scalars: dict[str, Tensor]
    matrices: dict[str, Tensor]  # three, float32 [64, 64]
    images: Tensor  # float32 [16, 3, 224, 224] in 0..1
    captions: list[str]
    vectors: Tensor  # float32 [256, 128]
    labels: list[str]
    tensors: dict[str, Tensor]  # 124 tensors, 23.4 M values


def make_load() -> Load:
    """Make the load."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    weights = {f"weights/{name.replace('.', '/')}": p.detach() for name, p in model.named_parameters()}
    gradients = {f"gradients{name[7:]}": torch.randn_like(weight) * 1e-3 for name, weight in weights.items()}
    return Load(
        scalars={tag: torch.rand(()) for tag in SCALARS},
        matrices={f"similarity/{name}": torch.rand(64, 64) * 2 - 1 for name in ("a_vs_b", "a_vs_c", "b_vs_c")},
        images=torch.rand(16, 3, 224, 224),
        captions=[f"A caption of some length for picture number {number}." for number in range(16)],
        vectors=torch.randn(256, 128),
        labels=[f"caption {number}" for number in range(256)],
        tensors=weights | gradients,
    )


def train(seconds: float) -> None:
    """Run small tensor operations for some seconds, as a training step does when it launches kernels."""
    values, end = torch.zeros(64, 64), perf_counter() + seconds
    while perf_counter() < end:
        values = torch.tanh(values @ values + 1.0)
