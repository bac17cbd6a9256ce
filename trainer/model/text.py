"""The text encoder: word and position embeddings, a small transformer, and the mean over a caption's tokens."""

from torch import Tensor, nn

from tensorboard_sidecar.trainer.model.padding import MaskedMean


class TextEncoder(nn.Module):
    """Captions to features ``[B, width]``.

    ``forward`` takes token ids ``[B, L]`` (int64, 0 is padding). Every caption has at least one token; tokens beyond
    ``tokens_max`` are cut off.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        tokens_max: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = width
        self.tokens_max = tokens_max
        self.word = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.position = nn.Embedding(tokens_max, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        # Nested tensors would change shapes inside the encoder, and are no faster on captions.
        self.transformer = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.pool = MaskedMean()
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode the captions."""
        tokens = tokens[:, : self.tokens_max]
        padding = tokens == 0
        hidden = self.word(tokens) + self.position.weight[: tokens.shape[1]]
        hidden = self.transformer(hidden, src_key_padding_mask=padding)
        pooled: Tensor = self.pool(hidden, ~padding)
        return pooled
