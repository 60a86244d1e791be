"""Optimizers of ``torch.optim``, by name."""

from typing import Any

import torch

from brainbrr.config.training import Optimizer


def build_optimizer(config: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return the optimizer of parameter ``groups`` (each with its own ``weight_decay``).

    The fused implementations update all parameters in one pass over memory, on the CPU too.
    """
    match config.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=config.learning_rate, betas=config.betas, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)
