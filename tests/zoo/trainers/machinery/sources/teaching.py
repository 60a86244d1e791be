# ruff: noqa: B905 (in the style of scripts found elsewhere)
"""A student and its teacher: two optimizers, a moving-average target network, stochastic weight averaging at the end."""

import copy
import itertools
import math
import os

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset


def make(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    t = torch.arange(64) / 64.0
    x = torch.randn(n, 3, 64, generator=g) * 0.5
    x += torch.sin(2 * math.pi * t[None, None] * (3.0 + 4.0 * y[:, None, None]))
    return x, y


class Trunk(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(3, width, 9, padding=4),
            nn.BatchNorm1d(width),
            nn.GELU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.BatchNorm1d(width),
            nn.GELU(),
            nn.AdaptiveAvgPool1d(4),
            nn.Flatten(),
            nn.Linear(4 * width, 16),
        )

    def forward(self, x):
        return self.net(x)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.predictor = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        self.classes = nn.Linear(16, 3)

    def forward(self, z):
        return self.predictor(z), self.classes(z)


def augment(x):
    return x * (1 + 0.1 * torch.randn(len(x), 1, 1)) + 0.05 * torch.randn_like(x)


class Learner:
    def __init__(self, run):
        self.run = run
        torch.manual_seed(run.seed)
        self.loader = DataLoader(
            TensorDataset(*make(24, 1)), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(run.seed)
        )
        self.val_loader = DataLoader(TensorDataset(*make(12, 2)), batch_size=6)
        self.student, self.heads = Trunk(), Heads()
        self.teacher = copy.deepcopy(self.student)
        for p in self.teacher.parameters():
            p.requires_grad_(False)
        self.average = AveragedModel(self.student)
        self.opt_trunk = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        self.opt_heads = torch.optim.Adam(self.heads.parameters(), lr=2e-3)
        self.sched_trunk = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt_trunk, T_max=30)
        self.sched_heads = torch.optim.lr_scheduler.StepLR(self.opt_heads, step_size=4, gamma=0.5)
        self.tau, self.done = 0.95, 0

    @torch.no_grad()
    def follow(self):
        for a, b in zip(self.teacher.parameters(), self.student.parameters()):
            a.lerp_(b, 1 - self.tau)
        for a, b in zip(self.teacher.buffers(), self.student.buffers()):
            a.copy_(b)

    def step(self, x, y):
        self.student.train()
        self.heads.train()
        self.teacher.eval()
        a, b = augment(x), augment(x)
        prediction, logits = self.heads(self.student(a))
        with torch.no_grad():
            goal = self.teacher(b)
        agreement = nn.functional.mse_loss(prediction, goal)
        supervised = nn.functional.cross_entropy(logits, y)
        loss = supervised + 0.5 * agreement
        self.opt_trunk.zero_grad()
        self.opt_heads.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(itertools.chain(self.student.parameters(), self.heads.parameters()), 2.0)
        self.opt_trunk.step()
        self.opt_heads.step()
        self.sched_trunk.step()
        self.sched_heads.step()
        self.follow()
        self.done += 1
        if self.done >= 2:
            self.average.update_parameters(self.student)
        return loss.item()

    def validate(self, trunk):
        trunk.eval()
        self.heads.eval()
        right = total = 0
        with torch.no_grad():
            for x, y in self.val_loader:
                right += (self.heads(trunk(x))[1].argmax(1) == y).sum().item()
                total += len(y)
        return right / total

    def fit(self):
        losses = []
        best, best_weights = -1.0, None
        while self.done < self.run.max_steps:
            for x, y in self.loader:
                losses.append(self.step(x, y))
                if self.done >= self.run.max_steps:
                    break
            accuracy = self.validate(self.student)
            if accuracy > best:
                best, best_weights = accuracy, copy.deepcopy(self.student.state_dict())
        update_bn(self.loader, self.average)
        final = self.validate(self.average)
        path = self.run.workdir / "result.pt"
        torch.save(
            {
                "student": self.student.state_dict(),
                "best": best_weights,
                "heads": self.heads.state_dict(),
                "teacher": self.teacher.state_dict(),
                "average": self.average.state_dict(),
                "accuracy": final,
                "losses": losses,
            },
            str(path) + "~",
        )
        os.replace(str(path) + "~", path)


def train(run):
    Learner(run).fit()
