"""Encoder ``tcn``: dilated residual convolutions at the full rate, then one strided step down to T / 16.

Source: Bai, Kolter and Koltun, "An empirical evaluation of generic convolutional and recurrent networks" (2018).
Where it differs: no activation after the residual sum, so a straight path leads from the output to the input; dropout
takes whole channels, which neighbouring samples cannot give back; the convolutions look both ways unless ``causal``.
"""

import math
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from brainbrr.config.model import EncoderConfig
from brainbrr.models.encoder import STRIDE, Channels


class TCNConfig(EncoderConfig):
    """Keys of ``model.encoder`` for ``tcn``."""

    name: Literal["tcn"] = "tcn"
    channels: Channels = (64, 128, 256, 512)
    """Widths of the blocks, repeated until all blocks have one; the last block's is the width of the features."""
    blocks: int = Field(default=8, ge=1, le=16)
    """Residual blocks of two convolutions each."""
    kernel_size: int = Field(default=7, ge=2)
    """Taps of a convolution: odd, unless causal."""
    dilation_base: int = Field(default=2, ge=1)
    """Block i spaces its taps ``dilation_base ** i`` samples apart."""
    causal: bool = False
    """Look at past samples only."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of channels dropped after each convolution in training."""

    @model_validator(mode="after")
    def _centred(self) -> Self:
        if not self.causal and self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd unless causal is true, and is {self.kernel_size}")
        return self

    @property
    def out_channels(self) -> int:
        """Return the width of the last block."""
        return self.widths()[-1]

    def widths(self) -> list[int]:
        """Return the width of each block."""
        return [self.channels[block % len(self.channels)] for block in range(self.blocks)]


class DilatedConv(nn.Module):
    """A weight-normalised convolution that keeps the length."""

    def __init__(self, into: int, out: int, config: TCNConfig, dilation: int, gain: float) -> None:
        super().__init__()
        reach = (config.kernel_size - 1) * dilation
        self.left = reach if config.causal else 0
        conv = nn.Conv1d(into, out, config.kernel_size, dilation=dilation, padding=0 if config.causal else reach // 2)
        # Before the parametrization: afterwards ``conv.weight`` is a product that cannot be initialised.
        nn.init.normal_(conv.weight, std=gain * math.sqrt(2 / (into * config.kernel_size)))
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        self.conv = weight_norm(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        out: Tensor = self.conv(functional.pad(x, (self.left, 0)) if self.left else x)
        return out


class Block(nn.Module):
    """Two dilated convolutions beside a straight path."""

    def __init__(self, into: int, out: int, config: TCNConfig, dilation: int) -> None:
        super().__init__()
        self.conv1 = DilatedConv(into, out, config, dilation, gain=1)
        # The branches of all blocks together add about as much variance as the input has.
        self.conv2 = DilatedConv(out, out, config, dilation, gain=config.blocks**-0.5)
        self.dropout = nn.Dropout1d(config.dropout)
        self.straight = nn.Identity() if into == out else nn.Conv1d(into, out, 1)
        if isinstance(self.straight, nn.Conv1d):
            nn.init.normal_(self.straight.weight, std=into**-0.5)
            assert self.straight.bias is not None
            nn.init.zeros_(self.straight.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        branch = self.dropout(functional.relu(self.conv1(x)))
        branch = self.dropout(functional.relu(self.conv2(branch)))
        out: Tensor = self.straight(x) + branch
        return out


class TCN(nn.Module):
    """Encode (B, N, T) as (B, D, T / 16)."""

    Config = TCNConfig

    def __init__(self, config: TCNConfig, in_channels: int) -> None:
        super().__init__()
        self.causal = config.causal
        widths = [in_channels, *config.widths()]
        self.out_channels = widths[-1]
        self.blocks = nn.Sequential(
            *(
                Block(into, out, config, config.dilation_base**block)
                for block, (into, out) in enumerate(pairwise(widths))
            )
        )
        width = self.out_channels
        self.down = nn.Conv1d(width, width, STRIDE, stride=STRIDE, groups=width)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, signal_BCT: Tensor) -> Tensor:
        """Map (B, N, T) to (B, D, T / 16); feature i is centred on samples 16 i to 16 i + 15."""
        features: Tensor = self.mix(self.down(self.blocks(signal_BCT)))
        return features
