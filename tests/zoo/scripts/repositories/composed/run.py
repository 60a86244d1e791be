"""Algorithms that act on events of a state, as in Composer: blur pooling by surgery, label smoothing, cut-out, progressive resizing, an average."""

import enum
import pathlib
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ruamel.yaml import YAML
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Event(enum.Enum):
    INIT = enum.auto()
    EPOCH_START = enum.auto()
    AFTER_DATALOADER = enum.auto()
    BEFORE_LOSS = enum.auto()
    AFTER_TRAIN_BATCH = enum.auto()
    BATCH_END = enum.auto()
    EPOCH_END = enum.auto()
    EVAL_START = enum.auto()
    EVAL_END = enum.auto()


@dataclass
class State:
    model: nn.Module
    train_loader: Any
    eval_loader: Any
    max_batches: int
    optimizer: Any = None
    scheduler: Any = None
    batch: Any = None
    outputs: Any = None
    loss: Any = None
    batches: int = 0
    epoch: int = 0
    metrics: dict = field(default_factory=dict)


class Algorithm:
    events: tuple = ()

    def apply(self, event, state):
        raise NotImplementedError


class BlurPool(Algorithm):
    events = (Event.INIT,)

    class Blurred(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv = conv
            self.register_buffer(
                "kernel",
                torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).div(16).expand(conv.in_channels, 1, 3, 3).clone(),
            )

        def forward(self, x):
            return self.conv(F.conv2d(x, self.kernel, padding=1, groups=x.shape[1]))

    def apply(self, event, state):
        for name, child in list(state.model.named_children()):
            if isinstance(child, nn.Conv2d) and max(child.stride) > 1:
                setattr(state.model, name, self.Blurred(child))


class LabelSmoothing(Algorithm):
    events = (Event.BEFORE_LOSS,)

    def __init__(self, amount):
        self.amount = amount

    def apply(self, event, state):
        x, y = state.batch
        onehot = F.one_hot(y, state.outputs.shape[1]).float()
        state.batch = (x, onehot * (1 - self.amount) + self.amount / state.outputs.shape[1])


class CutOut(Algorithm):
    events = (Event.AFTER_DATALOADER,)

    def apply(self, event, state):
        x, y = state.batch
        x = x.clone()
        r, c = np.random.randint(0, x.shape[-1] - 1, 2)
        x[..., r : r + 2, c : c + 2] = 0
        state.batch = (x, y)


class ProgressiveResizing(Algorithm):
    events = (Event.AFTER_DATALOADER,)

    def __init__(self, initial):
        self.initial = initial

    def apply(self, event, state):
        share = min(1.0, self.initial + (1 - self.initial) * state.batches / (0.5 * state.max_batches))
        x, y = state.batch
        size = int(x.shape[-1] * share)
        if size < x.shape[-1]:
            state.batch = (F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False), y)


class EMA(Algorithm):
    events = (Event.BATCH_END, Event.EVAL_START, Event.EVAL_END)

    def __init__(self, smoothing):
        self.smoothing, self.average, self.kept = smoothing, None, None

    def apply(self, event, state):
        current = state.model.state_dict()
        if event is Event.BATCH_END:
            if self.average is None:
                self.average = {k: v.clone() for k, v in current.items()}
            for k, v in self.average.items():
                v.copy_(self.smoothing * v + (1 - self.smoothing) * current[k] if v.is_floating_point() else current[k])
        elif self.average is not None:
            if event is Event.EVAL_START:
                self.kept = {k: v.clone() for k, v in current.items()}
                state.model.load_state_dict(self.average)
            else:
                state.model.load_state_dict(self.kept)


ALGORITHMS = {
    "blurpool": BlurPool,
    "label_smoothing": LabelSmoothing,
    "cutout": CutOut,
    "progressive_resizing": ProgressiveResizing,
    "ema": EMA,
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))).mean((2, 3)))


class Trainer:
    def __init__(self, state, algorithms, folder, save_interval):
        self.state, self.algorithms, self.folder, self.save_interval = (
            state,
            algorithms,
            pathlib.Path(folder),
            save_interval,
        )
        self.fire(Event.INIT)
        state.optimizer = torch.optim.SGD(
            state.model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        state.scheduler = torch.optim.lr_scheduler.OneCycleLR(state.optimizer, 0.1, total_steps=state.max_batches + 1)

    def fire(self, event):
        for algorithm in self.algorithms:
            if event in algorithm.events:
                algorithm.apply(event, self.state)

    def fit(self):
        s = self.state
        self.folder.mkdir(parents=True, exist_ok=True)
        while s.batches < s.max_batches:
            self.fire(Event.EPOCH_START)
            for s.batch in s.train_loader:
                s.model.train()
                self.fire(Event.AFTER_DATALOADER)
                micro = list(zip(*(part.chunk(2) for part in s.batch), strict=True))
                whole = len(s.batch[0])
                s.optimizer.zero_grad()
                for s.batch in micro:
                    s.outputs = s.model(s.batch[0])
                    self.fire(Event.BEFORE_LOSS)
                    s.loss = F.cross_entropy(s.outputs, s.batch[1]) * (len(s.batch[0]) / whole)
                    s.loss.backward()
                s.optimizer.step()
                self.fire(Event.AFTER_TRAIN_BATCH)
                s.scheduler.step()
                s.batches += 1
                self.fire(Event.BATCH_END)
                if s.batches % self.save_interval == 0:
                    self.save(f"ba{s.batches}.pt")
                if s.batches >= s.max_batches:
                    break
            self.fire(Event.EPOCH_END)
            s.epoch += 1
            self.evaluate()

    @torch.no_grad()
    def evaluate(self):
        s = self.state
        self.fire(Event.EVAL_START)
        s.model.eval()
        right = sum((s.model(x).argmax(1) == y).sum().item() for x, y in s.eval_loader)
        self.fire(Event.EVAL_END)
        s.metrics["accuracy"] = right / len(s.eval_loader.dataset)
        print(s.epoch, s.metrics)

    def save(self, name):
        s = self.state
        torch.save(
            {
                "state": {
                    "model": s.model.state_dict(),
                    "optimizers": s.optimizer.state_dict(),
                    "schedulers": s.scheduler.state_dict(),
                    "timestamp": {"batch": s.batches, "epoch": s.epoch},
                    "algorithms": [type(a).__name__ for a in self.algorithms],
                }
            },
            self.folder / name,
        )


def images(count, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = rng.normal(0, 0.4, (count, 1, 16, 16))
    for image, label in zip(x, y, strict=True):
        image[0, 5 * label : 5 * label + 5] += 1
    return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))


if __name__ == "__main__":
    config = YAML(typ="safe").load(pathlib.Path(sys.argv[1]))
    torch.manual_seed(config["seed"])
    np.random.seed(config["seed"])
    chosen = [ALGORITHMS[name](**(options or {})) for name, options in config["algorithms"].items()]
    state = State(
        Net(),
        DataLoader(images(50, 1), 12, shuffle=True, drop_last=True),
        DataLoader(images(18, 2), 9),
        config["max_batches"],
    )
    Trainer(state, chosen, config["save_folder"], config["save_interval"]).fit()
