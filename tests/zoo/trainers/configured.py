"""Trainers that are told what to do: by a TOML file, and by a dataclass. Each fault loses one thing that was told."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

TOLD = """
seed = 5

[optim]
kind = "sgd"
lr = 0.03
momentum = 0.8
{decay} = 0.02
max_grad_norm = 0.05

[net]
width = 12
dropout = 0.15

[data]
batch_size = 12

[loss]
label_smoothing = 0.1
"""


def prepare(run):
    """Lay out a table and the file of settings."""
    folder = Path(run.workdir)
    torch.manual_seed(4)
    x = torch.randn(90, 6)
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    torch.save({"x": x, "y": y}, folder / "table.pt")
    (folder / "settings.toml").write_text(TOLD.format(decay="weight_decay"))


def network(width, dropout):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3))


def _rounds(run, model, optimizer, batch, loss_of, clip=None):
    table = torch.load(Path(run.workdir) / "table.pt")
    x, y = table["x"], table["y"]
    train = DataLoader(TensorDataset(x[:60], y[:60]), batch, shuffle=True)
    held_out = DataLoader(TensorDataset(x[60:], y[60:]), 15)
    steps = 0
    while steps < run.max_steps:
        model.train()
        for a, b in train:
            optimizer.zero_grad()
            loss_of(model(a), b).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            steps += 1
            if steps >= run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            right = sum(int((model(a).argmax(1) == b).sum()) for a, b in held_out)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(run.workdir) / "last.pt")
    (Path(run.workdir) / "scores.json").write_text(json.dumps({"accuracy": right / 30}))


def _optimizer(model, told, fault):
    """Make the optimizer apart from those who read the file."""
    if fault == "kind-ignored":
        return torch.optim.Adam(model.parameters(), lr=told["rate"], weight_decay=told["decay"])
    momentum = 0.0 if fault == "momentum-ignored" else told["momentum"]
    decay = 0.0 if fault == "decay-under-another-name" else told["decay"]
    if fault == "rate-never-passed":
        return torch.optim.SGD(model.parameters(), momentum=momentum, weight_decay=decay)
    return torch.optim.SGD(model.parameters(), lr=told["rate"], momentum=momentum, weight_decay=decay)


def from_file(run, faults=frozenset()):
    """Everything stands in settings.toml."""
    fault = next(iter(faults), "").removeprefix("toml-")
    path = Path(run.workdir) / "settings.toml"
    if fault == "key-misspelled":
        path.write_text(TOLD.format(decay="weigth_decay"))
    with path.open("rb") as file:
        read = tomllib.load(file)
    optim = read["optim"]
    told = {"rate": optim["lr"], "momentum": optim["momentum"], "decay": optim.get("weight_decay", 0.0)}
    torch.manual_seed(run.seed + read["seed"])
    model = network(read["net"]["width"], 0.5 if fault == "dropout-not-passed" else read["net"]["dropout"])
    smoothing = 0.0 if fault == "smoothing-not-passed" else read["loss"]["label_smoothing"]
    clip = None if fault == "never-clips" else optim["max_grad_norm"]
    batch = read["data"].get("bs", 20) if fault == "batch-from-wrong-key" else read["data"]["batch_size"]
    loss_of = nn.CrossEntropyLoss(label_smoothing=smoothing)
    _rounds(run, model, _optimizer(model, told, fault), batch, loss_of, clip)


@dataclass
class Settings:
    lr: float = 4e-3
    betas: tuple[float, float] = (0.8, 0.95)
    dropout: float = 0.2
    batch_size: int = 10


def from_class(run, faults=frozenset()):
    """Everything stands in a dataclass."""
    fault = next(iter(faults), "").removeprefix("class-")
    settings = Settings()
    setattr(settings, "learning_rate" if fault == "attribute-of-another-name" else "lr", 6e-3)
    torch.manual_seed(run.seed)
    model = network(12, 0.5 if fault == "dropout-not-passed" else settings.dropout)
    rate = getattr(settings, "learning_rate_", 0.03) if fault == "rate-under-another-name" else settings.lr
    betas = (0.9, 0.999) if fault == "betas-not-passed" else settings.betas
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=betas)
    _rounds(run, model, optimizer, settings.batch_size, F.cross_entropy)
