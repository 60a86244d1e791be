"""Healthy trainers with unusual state: averages, statistics, modes, generated and shared weights."""

import copy
import math
import os
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.patients import read


def data(run):
    x, y, _ = read(run, range(4))
    vx, vy, _ = read(run, (4, 5))
    return (torch.from_numpy(x), torch.from_numpy(y)), (torch.from_numpy(vx), torch.from_numpy(vy))


def epochs(run, tensors, size, start=0):
    """Endless shuffled batches from a given batch on, the order a function of seed and epoch."""
    number = start
    per = len(tensors[0]) // size
    while True:
        epoch, place = divmod(number, per)
        order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(run.seed + 7919 * epoch))
        rows = order[place * size : (place + 1) * size]
        yield tuple(column[rows] for column in tensors)
        number += 1


def cnn(batch_norm=True):
    return nn.Sequential(
        nn.Conv1d(4, 8, 7, padding=3),
        nn.BatchNorm1d(8) if batch_norm else nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv1d(8, 8, 7, padding=3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


def write(path, state):
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


def rng(run, step):
    """Reseed per step, so that a resumed run draws what the uninterrupted one would have drawn."""
    torch.manual_seed(run.seed * 1_000_003 + step)


class Average:
    """Weights averaged by hand every n steps with a decay that warms up; buffers are copied, not averaged."""

    def __init__(self, model, decay=0.9, every=2):
        self.kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.decay, self.every, self.count = decay, every, 0

    @torch.no_grad()
    def update(self, model):
        self.count += 1
        if self.count % self.every:
            return
        updates = self.count // self.every
        decay = min(self.decay, (1 + updates) / (10 + updates))
        parameters = dict(model.named_parameters())
        for name, value in model.state_dict().items():
            if name in parameters:
                self.kept[name].mul_(decay).add_(value, alpha=1 - decay)
            else:
                self.kept[name].copy_(value)

    @contextmanager
    def worn_by(self, model):
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.kept)
        try:
            yield model
        finally:
            model.load_state_dict(own)


@torch.no_grad()
def score(model, held, size=8):
    model.eval()
    right = 0
    for x, y in DataLoader(TensorDataset(*held), batch_size=size):
        right += int((model(x).argmax(-1) == y).sum())
    model.train()
    return right / len(held[0])


def swapped(run):
    """An average every second step; validation wears it and gives the own weights back."""
    torch.manual_seed(run.seed)
    train, held = data(run)
    model = cnn()
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.kept, average.count = state["average"], state["count"]
        step = state["step"]
    stream = epochs(run, train, 8, step)
    while step < run.max_steps:
        rng(run, step)
        x, y = next(stream)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        average.update(model)
        step += 1
        if step % 3 == 0:
            with average.worn_by(model) as worn:
                print("average", score(worn, held))
            write(
                run.workdir / "ema.pt",
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average.kept,
                    "count": average.count,
                    "step": step,
                },
            )


def recalibrated(run):
    """Before each validation the norms' statistics are estimated afresh, in train mode and without gradients."""
    torch.manual_seed(run.seed)
    train, held = data(run)
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    stream = epochs(run, train, 8, step)
    while step < run.max_steps:
        rng(run, step)
        x, y = next(stream)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
            model.train()
            with torch.no_grad():
                for (part,) in DataLoader(TensorDataset(train[0]), batch_size=16):
                    model(part)
            for norm in norms:
                norm.momentum = 0.1
            print(step, score(model, held))
            write(
                run.workdir / f"r{step}.pt",
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )


def frozen_norms(run):
    """Fine-tuning: pretrained norms stay in eval during training; dropout only from step 3 on; MC dropout at test."""
    torch.manual_seed(run.seed)
    train, held = data(run)
    model = cnn()
    with torch.no_grad():
        for _ in range(3):
            model(train[0])

    class Tuned(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def train(self, mode=True):
            super().train(mode)
            for m in self.modules():
                if isinstance(m, nn.BatchNorm1d):
                    m.eval()
            return self

        def forward(self, x):
            return self.inner(x)

    tuned = Tuned(model).train()
    dropout = next(m for m in model if isinstance(m, nn.Dropout))
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        tuned.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    stream = epochs(run, train, 8, step)
    while step < run.max_steps:
        rng(run, step)
        dropout.p = 0.0 if step < 3 else 0.3
        x, y = next(stream)
        optimizer.zero_grad()
        F.cross_entropy(tuned(x), y).backward()
        optimizer.step()
        step += 1
        if step % 3 == 0:
            write(
                run.workdir / "tuned.pt",
                {"model": tuned.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )
    tuned.eval()
    dropout.train()
    with torch.no_grad():
        passes = torch.stack([tuned(held[0]).softmax(-1) for _ in range(5)])
    print("uncertainty", float(passes.var(0).mean()))


def normed(run):
    """Weight norm, spectral norm and an orthogonal layer; a tied decoder; parametrizations folded in at the end."""
    torch.manual_seed(run.seed)
    train, held = data(run)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = parametrizations.weight_norm(nn.Conv1d(4, 8, 5, padding=2))
            self.mid = parametrizations.spectral_norm(nn.Linear(8, 8))
            self.turn = parametrizations.orthogonal(nn.Linear(8, 8, bias=False))
            self.codes = nn.Linear(8, 16, bias=False)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            h = F.relu(self.conv(x)).mean(-1)
            h = self.turn(F.relu(self.mid(h)))
            back = F.linear(torch.tanh(self.codes(h)), self.codes.weight.t())
            return self.head(h), (h, back)

    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    stream = epochs(run, train, 8, step)
    while step < run.max_steps:
        x, y = next(stream)
        out, (h, back) = model(x)
        loss = F.cross_entropy(out, y) + 0.1 * F.mse_loss(back, h)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            write(
                run.workdir / "tied.pt",
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )
    model.eval()
    with torch.no_grad():
        model(held[0])
    final = copy.deepcopy(model)
    for layer in (final.conv, final.turn):
        parametrize.remove_parametrizations(layer, "weight")
    write(run.workdir / "folded.weights", final.state_dict())


class Codebook(nn.Module):
    """Codes that are a buffer and learn by a moving mean of what falls to them."""

    def __init__(self, count=8, width=8):
        super().__init__()
        self.register_buffer("codes", torch.randn(count, width))
        self.register_buffer("sizes", torch.ones(count))
        self.register_buffer("sums", self.codes.clone())

    def forward(self, h):
        near = torch.cdist(h, self.codes).argmin(-1)
        if self.training:
            with torch.no_grad():
                one = F.one_hot(near, len(self.codes)).float()
                self.sizes.mul_(0.9).add_(one.sum(0), alpha=0.1)
                self.sums.mul_(0.9).add_(one.t() @ h, alpha=0.1)
                self.codes.copy_(self.sums / self.sizes.clamp(min=1e-3).unsqueeze(1))
        chosen = self.codes[near]
        return h + (chosen - h).detach(), (h - chosen.detach()).square().mean()


def quantized(run):
    """An autoencoder around the codebook, straight-through; lazy layers; activations recomputed in backward."""
    torch.manual_seed(run.seed)
    train, held = data(run)

    class Auto(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = nn.Sequential(nn.LazyConv1d(8, 4, stride=4), nn.Tanh(), nn.LazyConv1d(8, 1))
            self.book = Codebook()
            self.dec = nn.LazyConvTranspose1d(4, 4, stride=4)

        def forward(self, x):
            h = checkpoint(self.enc, x, use_reentrant=False).transpose(1, 2)
            flat, commit = self.book(h.reshape(-1, 8))
            return self.dec(flat.view_as(h).transpose(1, 2)), commit

    model = Auto()
    with torch.no_grad():
        model.eval()(train[0][:1])
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    stream = epochs(run, train, 8, step)
    while step < run.max_steps:
        x, _ = next(stream)
        again, commit = model(x)
        loss = F.mse_loss(again, x) + 0.25 * commit
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            model.eval()
            with torch.no_grad():
                print(float(F.mse_loss(model(held[0])[0], held[0])))
            model.train()
            write(
                run.workdir / "codes.pt",
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )


def teacher(run):
    """Mean teacher: a copy follows the student at every step and judges unlabelled windows; both are saved."""
    torch.manual_seed(run.seed)
    train, held = data(run)
    student = cnn()
    guide = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    chained = torch.optim.lr_scheduler.ChainedScheduler(
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=3),
            torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99),
        ]
    )
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        student.load_state_dict(state["student"])
        guide.load_state_dict(state["guide"])
        optimizer.load_state_dict(state["optimizer"])
        chained.load_state_dict(state["schedule"])
        step = state["step"]
    stream = epochs(run, train, 8, step)
    while step < run.max_steps:
        rng(run, step)
        x, y = next(stream)
        noisy = x + 0.1 * torch.randn_like(x)
        out = student(noisy)
        with torch.no_grad():
            wish = guide(x).softmax(-1)
        weight = 0.5 * math.exp(-5 * (1 - min(1, step / 4)) ** 2)
        loss = F.cross_entropy(out[:4], y[:4]) + weight * F.mse_loss(out.softmax(-1), wish)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        chained.step()
        with torch.no_grad():
            decay = min(0.99, 1 - 1 / (step + 2))
            for p, q in zip(guide.parameters(), student.parameters(), strict=True):
                p.mul_(decay).add_(q, alpha=1 - decay)
        step += 1
        if step % 2 == 0:
            print(score(guide, held), score(student, held))
            write(
                run.workdir / "both.pt",
                {
                    "student": student.state_dict(),
                    "guide": guide.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": chained.state_dict(),
                    "step": step,
                },
            )
