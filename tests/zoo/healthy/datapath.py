"""Healthy trainers whose data look, at first sight, like a fault of the data path."""

import copy
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def _rounds(run, model, loader, loss_of, validate=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = 0
    while steps < run.max_steps:
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            loss_of(batch).backward()
            optimizer.step()
            steps += 1
            if steps >= run.max_steps:
                break
        if validate is not None:
            model.eval()
            with torch.no_grad():
                validate()
    torch.save(model.state_dict(), run.workdir / "last.pt")


def samples_repeated(run):
    torch.manual_seed(run.seed)
    x, y = torch.randn(8, 24), torch.arange(8) % 2
    loader = DataLoader(TensorDataset(x.repeat(3, 1), y.repeat(3)), 8, shuffle=True)
    model = nn.Linear(24, 2)
    _rounds(run, model, loader, lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.GRU(3, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.cells(x.transpose(0, 1))[0]).squeeze(-1)


def last_step_trains(run):
    torch.manual_seed(run.seed)
    loader = DataLoader(TensorDataset(torch.randn(30, 12, 3), torch.randn(30)), 10, shuffle=True)
    model = Recurrent()
    _rounds(run, model, loader, lambda batch: (model(batch[0])[-1] - batch[1]).square().mean())


def two_tables_of_flags(run):
    torch.manual_seed(run.seed)
    x, y = torch.randn(24, 3, 16), torch.rand(24, 16)
    known, real = torch.rand(24, 16) < 0.7, torch.arange(16) < torch.randint(8, 17, (24, 1))
    loader = DataLoader(TensorDataset(x[:16], y[:16], known[:16], real[:16]), 8, shuffle=True)
    held_out = DataLoader(TensorDataset(x[16:], y[16:], known[16:], real[16:]), 8)
    model = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 1, 1), nn.Flatten(1))

    def loss_of(batch):
        x, y, known, _ = batch
        return ((model(x) - y).square() * known).sum() / known.sum()

    def validate():
        for x, y, _, real in held_out:
            print(round(float((model(x) - y)[real].abs().mean()), 4))

    _rounds(run, model, loader, loss_of, validate)


def best_by_accuracy(run):
    """The loss gets better with each validation, the accuracy, by which the best is chosen, does not: it is a draw."""
    torch.manual_seed(run.seed)
    x = torch.randn(48, 12)
    y = (x[:, 0] > -2).long()
    loader = DataLoader(TensorDataset(x[:32], y[:32]), 16, shuffle=True)
    held_out = DataLoader(TensorDataset(x[32:], y[32:]), 8)
    model, best, history = nn.Linear(12, 2), {"accuracy": -1.0}, {"val_loss": [], "val_accuracy": []}
    with torch.no_grad():
        model.bias += torch.tensor([-2.0, 2.0])

    def validate():
        loss, right = 0.0, 0
        for a, b in held_out:
            logits = model(a)
            loss += nn.functional.cross_entropy(logits, b, reduction="sum").item()
            right += int((logits.argmax(1) == b).sum())
        history["val_loss"].append(loss / 16)
        history["val_accuracy"].append(right / 16)
        if right / 16 > best["accuracy"]:
            best.update(accuracy=right / 16)
            torch.save(copy.deepcopy(model.state_dict()), run.workdir / "best.pt")

    _rounds(run, model, loader, lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]), validate)
    (run.workdir / "history.json").write_text(json.dumps(history))
