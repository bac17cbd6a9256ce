"""The model: an encoder each for text, image and audio, adapters into one latent space, and a fusion core.

caption   -> text_encoder  -> text_adapter  -.
picture   -> image_encoder -> image_adapter -+-> fusion_core -> global
recording -> audio_encoder -> audio_adapter -'

Captions and recordings of a batch are padded to the longest. Padding never changes features: the features of a caption
or a recording do not depend on the others of its batch.
"""

import math
from itertools import pairwise
from typing import Final, NamedTuple

import torch
import torchaudio
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from tensorboard_sidecar.trainer.data.resampling import RATE_HZ

SPACES: Final = ("text", "image", "audio", "global")
HEADS: Final = 4
WINDOW_SECONDS: Final = 0.032
HOP_SECONDS: Final = 0.016

# ImageNet statistics, as the pretrained weights expect; see torchvision.transforms._presets.ImageClassification.
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)

# The temperature starts at 0.07 and stays above 0.01, as in CLIP (arXiv:2103.00020, section 2.5).
_SCALE_START: Final = 1 / 0.07
_SCALE_MAX: Final = 100.0


class Valid(nn.Module):
    """Lengths ``[B]`` to a bool mask ``[B, positions]``, true for the first ``lengths[b]`` positions of row ``b``."""

    def forward(self, lengths: Tensor, positions: int) -> Tensor:
        """Return the mask."""
        return torch.arange(positions, device=lengths.device) < lengths[:, None]


class ZeroPadding(nn.Module):
    """Sets features ``[B, C, T]`` to zero where a mask ``[B, T]`` is false."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return the masked features."""
        return features * valid[:, None]


class MaskedMean(nn.Module):
    """The mean of features ``[B, L, C]`` over valid positions, ``[B, C]``; zeros for a row without valid positions."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return the means."""
        weights = valid[..., None].to(features.dtype)
        return (features * weights).sum(1) / weights.sum(1).clamp(min=1)


class TextEncoder(nn.Module):
    """Captions to features: word and position embeddings, a small transformer, the mean over a caption's tokens."""

    def __init__(
        self, vocabulary_size: int, *, width: int = 128, layers: int = 2, heads: int = 4, tokens_max: int = 64
    ) -> None:
        super().__init__()
        self.width = width
        self.tokens_max = tokens_max
        self.word = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.position = nn.Embedding(tokens_max, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        # Nested tensors would change shapes inside the encoder, and are no faster on captions.
        self.transformer = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.pool = MaskedMean()
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Take int64 token ids ``[B, L]``, 0 is padding, and cut them at ``tokens_max``; return ``[B, width]``."""
        tokens = tokens[:, : self.tokens_max]
        padding = tokens == 0
        hidden = self.word(tokens) + self.position.weight[: tokens.shape[1]]
        hidden = self.transformer(hidden, src_key_padding_mask=padding)
        pooled: Tensor = self.pool(hidden, ~padding)
        return pooled


class ImageEncoder(nn.Module):
    """Pictures to features: a ResNet of torchvision without its classifier; ``pretrained`` downloads its weights."""

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
        """Take RGB ``[B, 3, H, W]``, floats in 0..1; return features ``[B, width]``."""
        features: Tensor = self.backbone((images - self.mean) / self.std)
        return features


class LogMel(nn.Module):
    """Waveforms ``[B, samples]`` to log-mel frames ``[B, bands, T]``, for speech of about zero mean and unit deviation.

    Computed in float32: the squares in a spectrogram exceed the range of float16.
    """

    def __init__(self, sample_rate_hz: int, bands: int) -> None:
        super().__init__()
        window = round(WINDOW_SECONDS * sample_rate_hz)
        self.hop = round(HOP_SECONDS * sample_rate_hz)
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate_hz,
            n_fft=1 << (window - 1).bit_length(),
            win_length=window,
            hop_length=self.hop,
            n_mels=bands,
            pad_mode="constant",  # zeros on both sides, equal to the padding
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the frames; frame ``t`` is centred on sample ``t * hop``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            power: Tensor = self.mel(waveforms.float())
            # Power is 1e-6 (silence) to about 1e2; its natural logarithm is -14 to 5.
            return (torch.log(power + 1e-6) + 5) / 5

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the number of frames for each length in samples."""
        return lengths // self.hop + 1


class ConvBlock(nn.Module):
    """Convolution over time, layer norm, GELU; halves the frames and zeroes those beyond a recording's end."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel_size=5, stride=2, padding=2)
        self.norm = nn.LayerNorm(channels)  # per frame: batch statistics would include the padding
        self.activation = nn.GELU()
        self.zero_padding = ZeroPadding()

    def forward(self, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Take features ``[B, C, T]`` and their mask ``[B, T]``; return both for ``ceil(T / 2)`` frames."""
        features = self.conv(features)
        features = self.activation(self.norm(features.transpose(1, 2))).transpose(1, 2)
        valid = valid[:, ::2]
        return self.zero_padding(features, valid), valid


class AudioEncoder(nn.Module):
    """Recordings to features: log-mel spectrogram and convolutions over time; padding is set to zero after each."""

    def __init__(self, sample_rate_hz: int, *, bands: int = 64, width: int = 192, blocks: int = 4) -> None:
        super().__init__()
        self.width = width
        self.log_mel = LogMel(sample_rate_hz, bands)
        self.valid = Valid()
        self.zero_padding = ZeroPadding()
        sizes = [bands] + [width] * blocks
        self.blocks = nn.ModuleList(ConvBlock(a, b) for a, b in pairwise(sizes))
        self.pool = MaskedMean()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Take waveforms ``[B, samples]`` in -1..1 and int64 lengths without padding; return ``[B, width]``."""
        features = self.log_mel(waveforms)
        valid = self.valid(self.log_mel.frames(lengths), features.shape[2])
        features = self.zero_padding(features, valid)
        for block in self.blocks:
            features, valid = block(features, valid)
        pooled: Tensor = self.pool(features.transpose(1, 2), valid)
        return pooled


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
    """Three modalities and their fusion in one latent space of ``embed_dim`` dimensions (a multiple of HEADS)."""

    def __init__(
        self, vocabulary_size: int, *, embed_dim: int = 128, backbone: str = "resnet18", pretrained: bool = False
    ) -> None:
        super().__init__()
        self.text_encoder = TextEncoder(vocabulary_size, heads=HEADS)
        self.image_encoder = ImageEncoder(backbone, pretrained=pretrained)
        self.audio_encoder = AudioEncoder(RATE_HZ)
        self.text_adapter = Adapter(self.text_encoder.width, embed_dim)
        self.image_adapter = Adapter(self.image_encoder.width, embed_dim)
        self.audio_adapter = Adapter(self.audio_encoder.width, embed_dim)
        self.fusion_core = FusionCore(embed_dim, heads=HEADS)
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
            torch.zeros(2, RATE_HZ, device=device),
            torch.full((2,), RATE_HZ, device=device),
        )

    def scale(self) -> Tensor:
        """Return the factor on similarities before the softmax, one over the temperature, 0-d."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Clamp the temperature to its range, in place, after an optimizer step.

        Inside ``forward``, the gradient beyond the bound would be zero, and the parameter would stay there.
        """
        self.log_scale.clamp_(0, math.log(_SCALE_MAX))
