"""What the odd trainers share: the windows of a run as tensors, and one small network."""

from pathlib import Path

import torch
from torch import nn

from zoo.corpus import read_windows


def load(run, scale_uv=50.0):
    """Return train and validation tensors: signals (N, 4, 64) and labels (N,) in {0, 1}."""
    torch.manual_seed(run.seed)
    tensors = []
    for split in ("train", "val"):
        signals, shares, _ = read_windows(Path(run.workdir) / "data" / split)
        tensors += [torch.from_numpy(signals) / scale_uv, torch.from_numpy((shares > 0.5).astype("float32"))]
    return tensors


def small_net(width=8, outputs=1):
    return nn.Sequential(
        nn.Conv1d(4, width, 7, padding=3),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(4 * width, outputs),
    )


def batches(x, y, seed, size=8):
    """Yield shuffled batches for ever, a new order each epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(x), generator=generator).split(size):
            yield x[chosen], y[chosen]


@torch.no_grad()
def accuracy(model, x, y):
    """Return the share of windows on the right side, leaving the model's mode as it was."""
    was_training = model.training
    model.eval()
    right = ((model(x).squeeze(-1) > 0) == (y > 0.5)).float().mean().item()
    model.train(was_training)
    return right
