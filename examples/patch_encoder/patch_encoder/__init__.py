"""Encoder ``patch``: every 16 samples of all channels become one token, and a small transformer relates the tokens.

An example of an encoder that lives outside brainbrr. It needs a ``Config``, ``out_channels``, ``causal`` and a
``forward`` from (B, N, T) to (B, D, T / 16); see :class:`brainbrr.models.Encoder`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from brainbrr.config.model import EncoderConfig
from brainbrr.models import STRIDE


class PatchConfig(EncoderConfig):
    """Keys of ``model.encoder`` for ``patch``."""

    name: Literal["patch"] = "patch"
    width: int = Field(default=256, ge=1)
    """Width of the tokens, and of the features."""
    layers: int = Field(default=4, ge=1)
    """Transformer layers."""
    heads: int = Field(default=4, ge=1)
    """Attention heads per layer."""
    reach: int = Field(default=9, ge=1)
    """Tokens that the position filter spans: odd."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout inside the transformer."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, and is {self.width} with {self.heads} heads")
        if self.reach % 2 == 0:
            raise ValueError(f"reach must be odd, and is {self.reach}")
        return self

    @property
    def out_channels(self) -> int:
        """Return the width of the tokens."""
        return self.width


class PatchTransformer(nn.Module):
    """Encode (B, N, T) as (B, D, T / 16)."""

    Config = PatchConfig
    causal = False

    def __init__(self, config: PatchConfig, in_channels: int) -> None:
        super().__init__()
        self.out_channels = config.width
        self.patch = nn.Conv1d(in_channels, config.width, STRIDE, stride=STRIDE)
        # A depthwise filter tells neighbours apart at any length; position embeddings would fix the window.
        self.position = nn.Conv1d(config.width, config.width, config.reach, padding="same", groups=config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def forward(self, signal_BCT: Tensor) -> Tensor:
        """Map (B, N, T) to (B, D, T / 16)."""
        tokens = self.patch(signal_BCT)
        tokens = tokens + self.position(tokens)
        related: Tensor = self.layers(tokens.transpose(1, 2))
        return related.transpose(1, 2)
