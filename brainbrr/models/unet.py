"""Encoder ``unet``: a U-Net over time with a multi-kernel residual bottleneck, then one strided step down to T / 16.

Sources: Ronneberger, Fischer and Brox, "U-Net" (2015), in one dimension. The contracting path halves the rate at every
stage, the bottleneck works at the lowest rate, and the mirrored decoder returns to the full rate with the skips, so
that the features hold fine timing as well as wide context.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from brainbrr.config.model import EncoderConfig
from brainbrr.models.encoder import STRIDE, Channels

Kernels = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)]
Norm = Literal["batch", "group"]

GROUPS = 8


class UNetConfig(EncoderConfig):
    """Keys of ``model.encoder`` for ``unet``."""

    name: Literal["unet"] = "unet"
    channels: Channels = (64, 128, 256, 512)
    """Width of each stage; every stage halves the rate, and the last width is that of the features."""
    kernel_size: int = Field(default=5, ge=1)
    """Taps of the convolutions in the stages: odd."""
    bottleneck_kernels: Kernels = (3, 5, 7)
    """Taps of the parallel convolutions in the bottleneck: odd."""
    norm: Norm = "batch"
    """Batch normalisation, or group normalisation, which does not mix the windows of a batch."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of channels dropped in the bottleneck and after each decoder stage in training."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        even = [size for size in (self.kernel_size, *self.bottleneck_kernels) if size % 2 == 0]
        if even:
            raise ValueError(f"kernel sizes must be odd to keep samples in place, and one is {even[0]}")
        if 2 ** len(self.channels) > STRIDE:
            raise ValueError(
                f"at most 4 stages, since lengths are multiples of {STRIDE} only: got {len(self.channels)}"
            )
        if self.norm == "group" and any(width % GROUPS for width in self.channels):
            raise ValueError(f"channels must be multiples of {GROUPS} with norm 'group', and are {list(self.channels)}")
        return self

    @property
    def out_channels(self) -> int:
        """Return the width of the last stage."""
        return self.channels[-1]


def _norm(kind: Norm, width: int) -> nn.Module:
    return nn.BatchNorm1d(width) if kind == "batch" else nn.GroupNorm(GROUPS, width)


def _conv(into: int, out: int, taps: int) -> nn.Conv1d:
    conv = nn.Conv1d(into, out, taps, padding=taps // 2, bias=False)  # a norm with its own bias follows
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


class Stage(nn.Module):
    """Two convolutions at one rate."""

    def __init__(self, into: int, out: int, config: UNetConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(into, out, config.kernel_size),
            _norm(config.norm, out),
            nn.ReLU(),
            _conv(out, out, config.kernel_size),
            _norm(config.norm, out),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        out: Tensor = self.layers(x)
        return out


class Bottleneck(nn.Module):
    """Add to the input what convolutions of several widths see in it."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(_conv(width, width, taps), _norm(config.norm, width), nn.ReLU())
            for taps in config.bottleneck_kernels
        )
        self.dropout = nn.Dropout1d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C, T)."""
        seen = torch.stack([branch(x) for branch in self.branches]).mean(0)
        out: Tensor = x + self.dropout(seen)
        return out


class Up(nn.Module):
    """Double the rate, join the skip, and convolve."""

    def __init__(self, into: int, out: int, config: UNetConfig) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose1d(into, out, 2, stride=2)
        self.stage = Stage(2 * out, out, config)
        self.dropout = nn.Dropout1d(config.dropout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C, T) and a skip (B, C', 2T) to (B, C', 2T)."""
        out: Tensor = self.dropout(self.stage(torch.cat([self.grow(x), skip], dim=1)))
        return out


class UNet(nn.Module):
    """Encode (B, N, T) as (B, D, T / 16)."""

    Config = UNetConfig
    causal = False

    def __init__(self, config: UNetConfig, in_channels: int) -> None:
        super().__init__()
        widths = list(config.channels)
        self.out_channels = widths[-1]
        self.down = nn.ModuleList(Stage(into, out, config) for into, out in pairwise([in_channels, *widths]))
        self.bottleneck = Bottleneck(widths[-1], config)
        self.up = nn.ModuleList(
            Up(into, out, config) for into, out in zip([widths[-1], *widths[:0:-1]], reversed(widths), strict=True)
        )
        self.out = nn.Conv1d(widths[0], self.out_channels, STRIDE, stride=STRIDE)

    def forward(self, signal_BCT: Tensor) -> Tensor:
        """Map (B, N, T) to (B, D, T / 16)."""
        x = signal_BCT
        skips = []
        for stage in self.down:
            skip = stage(x)
            skips.append(skip)
            x = functional.max_pool1d(skip, 2)
        x = self.bottleneck(x)
        for up in self.up:
            x = up(x, skips.pop())
        features: Tensor = self.out(x)
        return features
