"""Bidirectional Mamba-2: each layer reads the sequence in both directions."""

import torch
from torch import Tensor, nn

from brainbrr.config.model import Mamba
from brainbrr.models.mamba import Mamba2


class BiMamba2Layer(nn.Module):
    """A Mamba-2 forward in time and one backward, concatenated, projected, added to the input, normalised."""

    def __init__(self, config: Mamba, width: int) -> None:
        super().__init__()
        options = config.model_dump(
            include={"d_state", "d_conv", "expand", "headdim", "ngroups", "chunk_size", "kernel"}
        )
        self.forward_mamba = Mamba2(width, **options)
        self.backward_mamba = Mamba2(width, **options)
        self.projection = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D): step t sees the past through one half, the future through the other."""
        past = self.forward_mamba(x)
        future = self.backward_mamba(x.flip(1)).flip(1)
        mixed = self.projection(torch.cat([past, future], dim=-1))
        normed: Tensor = self.norm(x + self.dropout(mixed))
        return normed


class BiMamba2(nn.Module):
    """A stack of bidirectional layers, (B, L, D) to (B, L, D).

    Raises:
        ConfigError: ``config`` and ``width`` are a combination that the CUDA kernels refuse.
    """

    def __init__(self, config: Mamba, width: int) -> None:
        super().__init__()
        config.check_width(width)
        self.layers = nn.ModuleList(BiMamba2Layer(config, width) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        for layer in self.layers:
            x = layer(x)
        return x
