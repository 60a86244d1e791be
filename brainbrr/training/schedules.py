"""The learning rate over the optimizer steps of the plan."""

import math

import torch

from brainbrr.config.training import Schedule


def rate_factor(config: Schedule, step: int, n_planned: int) -> float:
    """Return the learning rate of optimizer step ``step`` (from 0) as a share of the peak.

    The warm-up starts above zero and ends at the peak; the rest goes down to the floor, which the step *after* the
    last planned one would have, so that no planned step is wasted on it.

    >>> shape = Schedule(name="linear", warmup_share=0.2, floor_share=0)
    >>> [round(rate_factor(shape, step, 10), 3) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.125]
    """
    n_warmup = round(config.warmup_share * n_planned)
    if step < n_warmup:
        return (step + 1) / n_warmup
    if config.name == "constant":
        return 1.0
    progress = min((step - n_warmup) / max(n_planned - n_warmup, 1), 1.0)
    shape = 1 - progress if config.name == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return config.floor_share + (1 - config.floor_share) * shape


def build_schedule(
    config: Schedule, optimizer: torch.optim.Optimizer, n_planned: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of ``optimizer`` over ``n_planned`` optimizer steps."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(config, step, n_planned))
