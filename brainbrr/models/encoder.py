"""What an encoder is: a module from (B, N, T) to (B, D, T / 16) that can be registered under ``brainbrr.encoders``."""

from typing import Annotated, ClassVar, Protocol, runtime_checkable

from pydantic import Field, PositiveInt
from torch import Tensor

from brainbrr.config.model import EncoderConfig

STRIDE = 16
"""Samples per feature of every encoder."""

Channels = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
"""A list of widths in a configuration."""


@runtime_checkable
class Encoder(Protocol):
    """A ``torch.nn.Module`` that turns a signal into features at a sixteenth of its rate.

    It is built as ``cls(config, in_channels)`` with a ``cls.Config``, must accept every T that is a multiple of
    :data:`STRIDE`, and reaches all of its parameters in one forward.
    """

    Config: ClassVar[type[EncoderConfig]]
    """The keys of ``model.encoder`` for this encoder; bad combinations are refused by its validators."""
    out_channels: int
    """D, the width of the features, as ``config.out_channels`` says."""
    causal: bool
    """True when feature i depends on samples before ``(i + 1) * STRIDE`` only, in eval mode."""

    def forward(self, signal_BCT: Tensor) -> Tensor:
        """Map (B, N, T) to (B, D, T / 16)."""
        ...
