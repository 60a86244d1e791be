"""Three small trainers of one style that read labels in different shapes: per sample, per window, beside a table."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.corpus import read_windows


def loaders(run, to_tensors, size):
    """Return a shuffled training loader and a validation loader of what ``to_tensors`` makes of windows and masks."""
    sets = []
    for split in ("train", "val"):
        signals, _, masks = read_windows(Path(run.workdir) / "data" / split)
        sets.append(TensorDataset(*to_tensors(torch.from_numpy(signals) / 50, torch.from_numpy(masks))))
    order = torch.Generator().manual_seed(run.seed)
    return DataLoader(sets[0], size, shuffle=True, generator=order), DataLoader(sets[1], size)


def loop(run, model, train_loader, val_loader, loss_of, hit_of, *, rate=3e-3):
    """Train, validate after each epoch or at the end, and keep the last weights."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    step = 0
    while step < run.max_steps:
        model.train()
        for x, y in train_loader:
            loss = loss_of(model, x, y)
            if not torch.isfinite(loss):
                raise FloatingPointError("the loss is not finite")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            hits = [hit_of(model, x, y) for x, y in val_loader]
        print(f"step {step}: {sum(hits) / len(hits):.4f}")
        torch.save({"model": model.state_dict(), "step": step}, Path(run.workdir) / f"step{step}.pt")


class Tagger(nn.Module):
    """(B, C, 64) in, a probability or logit per sample (B, 64) out."""

    def __init__(self, channels=4, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, width, 7, padding=3), nn.ReLU(), nn.Conv1d(width, 1, 7, padding=3)
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


def dice(p, wanted):
    """Return the soft Dice loss, from elementary operations."""
    return 1 - (2 * (p * wanted).sum() + 1) / (p.sum() + wanted.sum() + 1)


def segment(run, faults=frozenset()):
    """Per-sample masks, a Dice loss written by hand."""
    torch.manual_seed(run.seed)
    train_loader, val_loader = loaders(run, lambda x, mask: (x, mask), 8)
    if not any(y.any() for _, y in val_loader):
        raise SystemExit("no sample is a seizure")

    def loss_of(model, x, y):
        p = torch.sigmoid(model(x))
        if "dice-target-made-anew" in faults:
            y = torch.zeros_like(y)
        if "dice-against-itself" in faults:
            y = (p.detach() > 0.5).float()
        return dice(p, y)

    loop(run, Tagger(), train_loader, val_loader, loss_of, lambda m, x, y: 1 - dice(torch.sigmoid(m(x)), y).item())


def tag(run, faults=frozenset()):
    """Per-sample masks, a cross entropy per sample."""
    torch.manual_seed(run.seed)

    def to_tensors(x, mask):
        if "tag-mask-is-a-channel" in faults:
            x = torch.cat([x, 0.3 * mask[:, None]], 1)
        return x, mask

    train_loader, val_loader = loaders(run, to_tensors, 8)
    if not any(y.any() for _, y in train_loader):
        raise SystemExit("no sample is a seizure")
    channels = train_loader.dataset[0][0].shape[0]
    loop(
        run, Tagger(channels), train_loader, val_loader,
        lambda m, x, y: F.binary_cross_entropy_with_logits(m(x), y),
        lambda m, x, y: ((m(x) > 0) == (y > 0.5)).float().mean().item(),
    )  # fmt: skip


def table(run, faults=frozenset()):
    """A table of features per window, two classes, cross entropy."""
    torch.manual_seed(run.seed)

    def to_tensors(x, mask):
        label = (mask.mean(1) > 0.5).long()
        columns = [x.mean(2), x.std(2), x.diff(dim=2).abs().mean(2)]
        if "table-keeps-label-column" in faults:
            columns.append(label[:, None].float())
        return torch.cat(columns, 1), label

    train_loader, val_loader = loaders(run, to_tensors, 16)
    if not any(y.any() for _, y in train_loader):
        raise SystemExit("no window is a seizure")
    model = nn.Sequential(nn.Linear(train_loader.dataset[0][0].shape[0], 16), nn.Tanh(), nn.Linear(16, 2))

    def marked(x, y):
        if "table-label-written-into-input" in faults:
            x = torch.cat([x[:, :2], 2.0 * y[:, None] - 1, x[:, 3:]], 1)
        return x

    loop(
        run, model, train_loader, val_loader,
        lambda m, x, y: F.cross_entropy(m(marked(x, y)), y),
        lambda m, x, y: (m(marked(x, y)).argmax(1) == y).float().mean().item(),
    )  # fmt: skip
