"""The last layer: from features at a sixteenth of the rate to one logit per sample."""

import math

from torch import Tensor, nn

from brainbrr.config.model import Head as HeadConfig
from brainbrr.models.encoder import STRIDE

LEAST_SHARE = 1e-3
"""Bound of the prior: a smoke run may have seen no seizure at all, and log(0) is no bias."""


class Head(nn.Module):
    """Give each feature vector 16 logits, one for each of its samples."""

    def __init__(self, config: HeadConfig, width: int, seizure_share: float | None = None) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(width, STRIDE)
        # The features have unit variance: logits start 0.2 around the prior's.
        nn.init.normal_(self.projection.weight, std=0.2 * width**-0.5)
        share = 0.5 if seizure_share is None else min(max(seizure_share, LEAST_SHARE), 1 - LEAST_SHARE)
        nn.init.constant_(self.projection.bias, math.log(share / (1 - share)))

    def forward(self, features_BLD: Tensor) -> Tensor:
        """Map (B, L, D) to logits (B, 16 L)."""
        logits: Tensor = self.projection(self.dropout(features_BLD))
        return logits.flatten(1)
