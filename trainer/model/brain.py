"""The whole model: three encoders, adapters into one latent space, and a fusion core.

caption   -> text_encoder  -> text_adapter  -.
picture   -> image_encoder -> image_adapter -+-> fusion_core -> global
recording -> audio_encoder -> audio_adapter -'
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tensorboard_sidecar.trainer.model.audio import AudioEncoder
from tensorboard_sidecar.trainer.model.image import ImageEncoder
from tensorboard_sidecar.trainer.model.text import TextEncoder

SPACES: Final = ("text", "image", "audio", "global")

# The temperature starts at 0.07 and stays above 0.01, as in CLIP (arXiv:2103.00020, section 2.5).
_SCALE_START: Final = 1 / 0.07
_SCALE_MAX: Final = 100.0


class Latents(NamedTuple):
    """One latent vector for each pair and space, ``[B, D]`` each, in the order of :data:`SPACES`."""

    text: Tensor
    image: Tensor
    audio: Tensor
    global_: Tensor

    def unit(self) -> "Latents":
        """Return unit vectors in float32, whose dot products are cosine similarities."""
        return Latents(*(functional.normalize(latent.float(), dim=-1) for latent in self))


class Adapter(nn.Module):
    """Projects an encoder's features into the shared latent space."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * embed_dim)
        self.activation = nn.GELU()
        self.project = nn.Linear(2 * embed_dim, embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return latents ``[B, embed_dim]``."""
        latents: Tensor = self.project(self.activation(self.hidden(self.norm(features))))
        return latents


class FusionCore(nn.Module):
    """A transformer over one token for each modality and a learned memory token, whose output is the global latent."""

    def __init__(self, embed_dim: int, *, heads: int, layers: int = 1, modalities: int = 3) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.randn(embed_dim) * 0.02)
        self.modality = nn.Parameter(torch.randn(modalities, embed_dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            embed_dim, heads, 2 * embed_dim, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.project = nn.Linear(embed_dim, embed_dim)

    def forward(self, text: Tensor, image: Tensor, audio: Tensor) -> Tensor:
        """Return the global latent ``[B, D]``."""
        tokens = torch.stack((text, image, audio), dim=1) + self.modality
        memory = self.memory.expand(text.shape[0], 1, -1).to(tokens.dtype)
        hidden = self.transformer(torch.cat((memory, tokens), dim=1))
        latent: Tensor = self.project(hidden[:, 0])
        return latent


class Brain(nn.Module):
    """Three modalities and their fusion in one latent space of ``embed_dim`` dimensions (a multiple of ``heads``)."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        embed_dim: int = 128,
        heads: int = 4,
        backbone: str = "resnet18",
        pretrained: bool = False,
        sample_rate_hz: int = 16_000,
    ) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.text_encoder = TextEncoder(vocabulary_size, heads=heads)
        self.image_encoder = ImageEncoder(backbone, pretrained=pretrained)
        self.audio_encoder = AudioEncoder(sample_rate_hz)
        self.text_adapter = Adapter(self.text_encoder.width, embed_dim)
        self.image_adapter = Adapter(self.image_encoder.width, embed_dim)
        self.audio_adapter = Adapter(self.audio_encoder.width, embed_dim)
        self.fusion_core = FusionCore(embed_dim, heads=heads)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE_START)))

    def forward(self, tokens: Tensor, images: Tensor, waveforms: Tensor, lengths: Tensor) -> Latents:
        """Return the latents before normalization, so that their norms can be logged."""
        text = self.text_adapter(self.text_encoder(tokens))
        image = self.image_adapter(self.image_encoder(images))
        audio = self.audio_adapter(self.audio_encoder(waveforms, lengths))
        return Latents(text, image, audio, self.fusion_core(text, image, audio))

    def example_inputs(self, image_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return inputs of ``forward`` for two empty pairs, for tracing the model."""
        device = self.log_scale.device
        return (
            torch.ones(2, 16, dtype=torch.int64, device=device),
            torch.zeros(2, 3, image_size, image_size, device=device),
            torch.zeros(2, self.sample_rate_hz, device=device),
            torch.full((2,), self.sample_rate_hz, device=device),
        )

    def scale(self) -> Tensor:
        """Return the factor on similarities before the softmax, one over the temperature, 0-d."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Clamp the temperature to its range after an optimizer step.

        Clamped in place, not inside ``forward``: there the gradient beyond the bound would be zero, and the parameter
        would stay beyond the bound.
        """
        self.log_scale.clamp_(0, math.log(_SCALE_MAX))
