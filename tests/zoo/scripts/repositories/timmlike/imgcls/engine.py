"""Model, averages, schedule, checkpoints."""

import math
import os
import random
import shutil
from copy import deepcopy

import torch
from torch import nn


def drop_path(x, p, training):
    if p == 0.0 or not training:
        return x
    keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - p)
    return x * keep / (1 - p)


class ConvNextish(nn.Module):
    class Block(nn.Module):
        def __init__(self, dim, rate):
            super().__init__()
            self.dw, self.norm = nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.GroupNorm(1, dim)
            self.pw1, self.pw2 = nn.Conv2d(dim, 2 * dim, 1), nn.Conv2d(2 * dim, dim, 1)
            self.gamma, self.rate = nn.Parameter(1e-6 * torch.ones(dim, 1, 1)), rate

        def forward(self, x):
            return x + drop_path(
                self.gamma * self.pw2(nn.functional.gelu(self.pw1(self.norm(self.dw(x))))), self.rate, self.training
            )

    def __init__(self, num_classes, dim=12, drop=0.2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dim, 3, stride=2, bias=False), nn.BatchNorm2d(dim))
        self.stages = nn.Sequential(*(self.Block(dim, drop * i / 2) for i in range(3)))
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def param_groups_layer_decay(model, weight_decay, decay=0.75):
    groups = {}
    for name, p in model.named_parameters():
        layer = 0 if name.startswith("stem") else int(name.split(".")[1]) + 1 if name.startswith("stages") else 4
        wd = 0.0 if p.ndim <= 1 or name.endswith(".bias") or "gamma" in name else weight_decay
        group = groups.setdefault((layer, wd), {"lr_scale": decay ** (4 - layer), "weight_decay": wd, "params": []})
        group["params"].append(p)
    return list(groups.values())


class CosineLRScheduler:
    """Steps once per update, by number, and honors ``lr_scale``."""

    def __init__(self, optimizer, t_initial, warmup_t, warmup_lr_init=1e-6, lr_min=1e-5):
        self.optimizer, self.t, self.warm, self.start, self.low = optimizer, t_initial, warmup_t, warmup_lr_init, lr_min
        self.base = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.update([self.start] * len(self.base))

    def update(self, values):
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group["lr"] = value * group.get("lr_scale", 1.0)

    def step_update(self, num_updates):
        if num_updates < self.warm:
            self.update([self.start + num_updates * (v - self.start) / self.warm for v in self.base])
        else:
            self.update(
                [
                    self.low + 0.5 * (v - self.low) * (1 + math.cos(math.pi * min(num_updates / self.t, 1)))
                    for v in self.base
                ]
            )


class ModelEma:
    def __init__(self, model, decay):
        self.module, self.decay = deepcopy(model).eval(), decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            ema_v.copy_(self.decay * ema_v + (1 - self.decay) * model_v if ema_v.is_floating_point() else model_v)


class CheckpointSaver:
    """Keeps the best few; ``last`` and ``model_best`` are links or copies."""

    def __init__(self, model, optimizer, ema, folder, keep=2):
        self.model, self.optimizer, self.ema, self.folder, self.keep = model, optimizer, ema, folder, keep
        self.files, self.best = [], None

    def save(self, epoch, metric):
        tmp, last = os.path.join(self.folder, "tmp.pth.tar"), os.path.join(self.folder, "last.pth.tar")
        torch.save(
            {
                "epoch": epoch,
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "state_dict_ema": self.ema.module.state_dict(),
                "metric": metric,
            },
            tmp,
        )
        if os.path.exists(last):
            os.unlink(last)
        os.rename(tmp, last)
        if len(self.files) < self.keep or metric > self.files[-1][1]:
            if len(self.files) >= self.keep:
                os.remove(self.files.pop()[0])
            name = os.path.join(self.folder, f"checkpoint-{epoch}.pth.tar")
            os.link(last, name)
            self.files = sorted([*self.files, (name, metric)], key=lambda pair: -pair[1])
            if self.best is None or metric > self.best:
                self.best = metric
                best = os.path.join(self.folder, "model_best.pth.tar")
                shutil.copyfile(last, best)


def random_seed(seed, rank=0):
    import numpy as np

    torch.manual_seed(seed + rank)
    np.random.seed(seed + rank)
    random.seed(seed + rank)
