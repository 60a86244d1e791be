"""Healthy trainers in which what is told and what is in force differ, as they should."""

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DEFAULTS = {"lr": 0.1, "weight_decay": 0.3, "batch_size": 64, "dropout": 0.7, "optimizer": "rmsprop"}
"""What everybody starts from, and nobody uses as it is."""


def _data(rows=96):
    x = torch.randn(rows, 8)
    return TensorDataset(x, (x[:, :2].sum(1) > 0).long())


def _net(dropout=0.1):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))


def _train(run, model, loader, optimizer, every=1, each=None):
    done = 0
    while done < run.max_steps:
        for number, (x, y) in enumerate(loader):
            (F.cross_entropy(model(x), y) / every).backward()
            if (number + 1) % every:
                continue
            if each is not None:
                each(done)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done >= run.max_steps:
                break
    torch.save(model.state_dict(), Path(run.workdir) / "last.pt")


def scaled_by_batch(run):
    """The rate is meant for 256 samples, the size of the batch for the world; both are brought to what is here."""
    torch.manual_seed(run.seed)
    config = {"lr": 0.4, "batch_size": 48, "accumulate": 4, "weight_decay": 0.01, "weigth_decay_note": "see paper"}
    micro = config["batch_size"] // config["accumulate"]
    model = _net()
    rate = config["lr"] * config["batch_size"] / 256
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, weight_decay=config["weight_decay"])
    _train(run, model, DataLoader(_data(), micro, shuffle=True), optimizer, config["accumulate"])


def parts_of_their_own(run):
    """Two models, each with settings of its own, and defaults that are overridden."""
    torch.manual_seed(run.seed)
    config = {**DEFAULTS, "teacher": {"lr": 0.02, "dropout": 0.5}, "lr": 0.005, "weight_decay": 0.05, "dropout": 0.1}
    config |= {"batch_size": 16, "optimizer": "adamw"}
    model, critic = _net(config["dropout"]), _net(config["teacher"]["dropout"])
    first = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    second = torch.optim.SGD(critic.parameters(), lr=config["teacher"]["lr"])
    loader = DataLoader(_data(), config["batch_size"], shuffle=True)
    for _, (x, y) in zip(range(run.max_steps), loader, strict=False):
        for net, optimizer in ((model, first), (critic, second)):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    torch.save({"model": model.state_dict(), "critic": critic.state_dict()}, Path(run.workdir) / "last.pt")


@dataclass
class PlanConfig:
    lr: float = 0.02
    warmup: int = 3
    batch_size: int = 128
    grad_clip: float = 1e9
    layers: dict = field(default_factory=lambda: {"decay": 0.5})

    def __post_init__(self):
        self.learning_rate = self.lr * 3


def rate_by_hand(run):
    """The rate warms up by hand and never reaches what is told; the data are fewer than one batch."""
    torch.manual_seed(run.seed)
    cfg = PlanConfig()
    data = _data(40)
    model = _net(0.2)
    groups = [
        {"params": part.parameters(), "depth": depth} for depth, part in enumerate(model) if list(part.parameters())
    ]
    optimizer = torch.optim.Adam(groups, lr=1e-5)

    def each(done):
        nn.utils.clip_grad_norm_(model.parameters(), cfg.grad_clip)
        for group in optimizer.param_groups:
            plan = 0.5 * (1 + math.cos(math.pi * done / 100)) * min(1, (done + 1) / (10 * cfg.warmup))
            group["lr"] = cfg.lr * plan * cfg.layers["decay"] ** group["depth"]

    _train(run, model, DataLoader(data, min(cfg.batch_size, len(data)), shuffle=True), optimizer, each=each)


def overridden(run):
    """A file of settings of which arguments override some; keys of the file that nothing here needs."""
    torch.manual_seed(run.seed)
    path = Path(run.workdir) / "experiment.json"
    told = {"lr": 0.3, "batch_norm": 7, "dropouts": 0.9, "momentum": 0.9, "optimizer": "lion", "label_smoothing": 0.0}
    path.write_text(json.dumps({"training": told, "finetuning": {"lr": 1e-4}}))
    read = json.loads(path.read_text())["training"]
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=None)
    args = parser.parse_args(["--lr", "0.01"])
    options = SimpleNamespace(**{**read, **{key: value for key, value in vars(args).items() if value is not None}})
    model = _net(0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=options.momentum)
    _train(run, model, DataLoader(_data(), 16, shuffle=True), optimizer)


def keeps_its_locals(run, width=8, rate=0.01):
    """A function that keeps its own variables as a mapping, to store them."""
    hparams = locals()
    torch.manual_seed(run.seed)
    model = _net()
    optimizer = torch.optim.Adam(model.parameters(), lr=hparams["rate"])
    _train(run, model, DataLoader(_data(), width, shuffle=True), optimizer)
    (Path(run.workdir) / "hparams.json").write_text(json.dumps(sorted(hparams)))
