"""Leave one subject out: `python -m netkit.experiment`."""

import functools
import json
import os
import pathlib

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut
from torch import nn

from . import NeuralNetClassifier
from .net import ValidSplit


class Conv2dWithConstraint(nn.Conv2d):
    def __init__(self, *args, max_norm=1.0, **kwargs):
        self.max_norm = max_norm
        super().__init__(*args, **kwargs)

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=self.max_norm)
        return super().forward(x)


class EEGNet(nn.Sequential):
    def __init__(self, chans=6, samples=64, classes=2, f1=4, d=2):
        super().__init__()
        self.add_module("unsqueeze", nn.Unflatten(1, (1, chans)))
        self.add_module("conv_temporal", nn.Conv2d(1, f1, (1, 17), padding=(0, 8), bias=False))
        self.add_module("bnorm_temporal", nn.BatchNorm2d(f1, momentum=0.01, eps=1e-3))
        self.add_module("conv_spatial", Conv2dWithConstraint(f1, f1 * d, (chans, 1), groups=f1, bias=False, max_norm=1))
        self.add_module("bnorm_1", nn.BatchNorm2d(f1 * d, momentum=0.01, eps=1e-3))
        self.add_module("elu_1", nn.ELU())
        self.add_module("pool_1", nn.AvgPool2d((1, 4)))
        self.add_module("drop_1", nn.Dropout(0.25))
        self.add_module(
            "separable",
            nn.Sequential(
                nn.Conv2d(8, 8, (1, 7), groups=8, padding=(0, 3), bias=False), nn.Conv2d(8, 8, 1, bias=False)
            ),
        )
        self.add_module("bnorm_2", nn.BatchNorm2d(8, momentum=0.01, eps=1e-3))
        self.add_module("elu_2", nn.ELU())
        self.add_module("pool_2", nn.AvgPool2d((1, 8)))
        self.add_module("final_layer", nn.Sequential(nn.Flatten(), nn.Linear(16, classes)))


class CosinePerEpoch:
    def on_train_begin(self, net):
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(net.optimizer_, T_max=max(1, net.max_epochs - 1))

    def on_epoch_end(self, net):
        net.history_.record("event_lr", self.schedule.get_last_lr()[0])
        self.schedule.step()


class Checkpoint:
    def __init__(self, dirname):
        self.dirname, self.best = dirname, np.inf

    def on_epoch_end(self, net):
        if net.history_[-1]["valid_loss"] < self.best:
            self.best = net.history_[-1]["valid_loss"]
            os.makedirs(self.dirname, exist_ok=True)
            torch.save(net.module_.state_dict(), os.path.join(self.dirname, "params.pt"))
            torch.save(net.optimizer_.state_dict(), os.path.join(self.dirname, "optimizer.pt"))
            with open(os.path.join(self.dirname, "history.json"), "w") as f:
                json.dump(list(net.history_), f)

    def on_train_end(self, net):
        net.module_.load_state_dict(torch.load(os.path.join(self.dirname, "params.pt")))


def motor_imagery(subjects=4, trials=40):
    rng = np.random.default_rng(20)
    X, y, subject = [], [], []
    t = np.arange(64) / 64
    for s in range(subjects):
        gain, rate = rng.uniform(5, 15), rng.uniform(9, 12)
        for i in range(trials):
            label = i % 2
            x = 1e-6 * 10 * rng.normal(size=(6, 64))
            x[label * 3 : label * 3 + 3] += 1e-6 * gain * np.sin(2 * np.pi * rate * t + rng.uniform(0, 6))
            X.append(x), y.append(label), subject.append(s)
    return np.stack(X), np.array(y), np.array(subject)


def exponential_moving_standardize(X, factor=0.1):
    mean, square, out = X[..., 0], X.var(-1), np.empty_like(X)
    for i in range(X.shape[-1]):
        mean = factor * X[..., i] + (1 - factor) * mean
        square = factor * (X[..., i] - mean) ** 2 + (1 - factor) * square
        out[..., i] = (X[..., i] - mean) / np.maximum(1e-4, np.sqrt(square))
    return out


def main():
    X, y, subject = motor_imagery()
    X = exponential_moving_standardize(X * 1e6)
    scores = {}
    for train, test in LeaveOneGroupOut().split(X, y, subject):
        torch.manual_seed(20200220)
        name = f"subject-{subject[test][0]}"
        net = NeuralNetClassifier(
            EEGNet,
            lr=2e-3,
            max_epochs=4,
            batch_size=24,
            train_split=ValidSplit(),
            callbacks=[CosinePerEpoch, functools.partial(Checkpoint, f"results/{name}")],
            optimizer_kwargs={"weight_decay": 0},
        )
        net.fit(X[train], y[train])
        scores[name] = balanced_accuracy_score(y[test], net.predict(X[test]))
        print(name, scores[name])
    pathlib.Path("results/scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    main()
