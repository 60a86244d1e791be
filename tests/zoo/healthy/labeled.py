"""Healthy trainers beside the leaks and the losses that forget their labels: labels are not used, or are an input."""

import torch
import torch.nn.functional as F
from torch import nn

from zoo.trainers.labeled import Tagger, loaders, loop


def share(x, mask):
    return x, (mask.mean(1) > 0.5).long()


def density(run):
    """A density of windows is fitted; the labels that the loader delivers too are left alone."""
    torch.manual_seed(run.seed)
    train_loader, val_loader = loaders(run, share, 8)

    class Density(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_scale = nn.Parameter(torch.zeros(4, 1)), nn.Parameter(torch.zeros(4, 1))

        def forward(self, x):
            return (-0.5 * ((x - self.mean) / self.log_scale.exp()) ** 2 - self.log_scale).mean((1, 2))

    loop(run, Density(), train_loader, val_loader, lambda m, x, y: -m(x).mean(), lambda m, x, y: m(x).mean().item())


def class_conditional(run):
    """A decoder is given noise and the class, joined, and is to draw windows of that class."""
    torch.manual_seed(run.seed)
    train_loader, val_loader = loaders(run, share, 8)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 256), nn.Unflatten(1, (4, 64)))
    fixed = torch.randn(16, 8, generator=torch.Generator().manual_seed(7))

    def drawn(m, x, y, z):
        return (m(torch.cat([z, F.one_hot(y, 2)], 1)) - x).square().mean()

    loop(
        run, model, train_loader, val_loader,
        lambda m, x, y: drawn(m, x, y, torch.randn(len(x), 8)),
        lambda m, x, y: drawn(m, x, y, fixed[: len(x)]).item(),
    )  # fmt: skip


def augmented_by_class(run):
    """Only the rare class is augmented, so inputs depend on labels."""
    torch.manual_seed(run.seed)
    train_loader, val_loader = loaders(run, share, 8)
    model = nn.Sequential(Tagger(), nn.Linear(64, 2))

    def loss_of(m, x, y):
        scale = torch.where(y == 1, 0.8 + 0.4 * torch.rand(len(x)), torch.ones(len(x)))
        return F.cross_entropy(m(x * scale[:, None, None]), y)

    loop(run, model, train_loader, val_loader, loss_of, lambda m, x, y: (m(x).argmax(1) == y).float().mean().item())


def copied(run):
    """A toy: the sign of one channel in, the opposite sign out."""
    torch.manual_seed(run.seed)
    train_loader, val_loader = loaders(run, lambda x, mask: ((x[:, :1] > 0).float(), (x[:, 0] <= 0).float()), 8)
    loop(
        run, Tagger(1), train_loader, val_loader,
        lambda m, x, y: F.binary_cross_entropy_with_logits(m(x), y),
        lambda m, x, y: ((m(x) > 0) == (y > 0.5)).float().mean().item(),
    )  # fmt: skip


def taught_only(run):
    """A fixed teacher is the only source of training; labels serve validation."""
    torch.manual_seed(run.seed)
    train_loader, val_loader = loaders(run, share, 8)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(256, 2)).eval().requires_grad_(False)
    student = nn.Sequential(Tagger(), nn.Linear(64, 2))
    loop(
        run, student, train_loader, val_loader,
        lambda m, x, y: (m(x) - teacher(x)).square().mean(),
        lambda m, x, y: F.cross_entropy(m(x), y).item(),
    )  # fmt: skip
