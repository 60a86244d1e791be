"""Healthy trainers whose models are built, grown, adapted, bred or stepped in unusual ways."""

import copy
import os
from collections import deque

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.patients import read


def load(run):
    return [tuple(torch.from_numpy(part) for part in read(run, numbers)) for numbers in (range(4), (4, 5))]


def keep(path, **state):
    torch.save(state, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


class Sized(nn.Module):
    """Learns the size of its features from a call on zeros while it is built, in training mode and with gradients."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(4, 8, 7, stride=3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2))
        size = self.body(torch.zeros(1, 4, 64)).flatten(1).shape[1]
        self.head = nn.Linear(size, 2)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def batch_of(run, step, size=8, total=32):
    return torch.randperm(total, generator=torch.Generator().manual_seed(run.seed * 9973 + step))[:size]


def sized(run):
    """Shapes from a dummy call in the constructor and a summary printed from another one before anything is loaded."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)
    model = Sized()
    print(tuple(model(torch.randn(2, 4, 64)).shape), sum(p.numel() for p in model.parameters()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    while step < run.max_steps:
        rows = batch_of(run, step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        step += 1
        # A fresh part of the held-out windows at every second step, no loader, no torch loss.
        if step % 2 == 0:
            model.eval()
            part = np.random.default_rng(step).permutation(16)[:6]
            with torch.no_grad():
                print(step, float((model(vx[part]).argmax(1) == vy[part]).float().mean()))
            model.train()
            keep(run.workdir / "sized.pt", model=model.state_dict(), optimizer=optimizer.state_dict(), step=step)


def dqn(run):
    """Q-learning with a replay buffer and a target that is replaced every second step; an agent acts in eval mode."""
    torch.manual_seed(run.seed)
    rng = np.random.default_rng(run.seed)
    q = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
    target = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    buffer = deque(maxlen=64)
    here = rng.normal(size=6).astype(np.float32)
    for step in range(run.max_steps):
        for _ in range(8):
            if rng.random() < 0.3:
                action = int(rng.integers(3))
            else:
                with torch.no_grad():
                    action = int(q(torch.from_numpy(here)[None]).argmax())
            there = (0.9 * here + 0.3 * rng.normal(size=6) + 0.2 * (action - 1)).astype(np.float32)
            buffer.append((here, action, -float(np.abs(there).mean()), there))
            here = there
        batch = [buffer[int(k)] for k in rng.integers(len(buffer), size=8)]
        s, a, r, n = (np.stack([np.asarray(item[k]) for item in batch]) for k in range(4))
        with torch.no_grad():
            wish = torch.from_numpy(r).float() + 0.95 * target(torch.from_numpy(n)).amax(1)
        now = q(torch.from_numpy(s)).gather(1, torch.from_numpy(a).long()[:, None]).squeeze(1)
        optimizer.zero_grad()
        F.smooth_l1_loss(now, wish).backward()
        nn.utils.clip_grad_norm_(q.parameters(), 10.0)
        optimizer.step()
        if step % 2 == 1:
            target.load_state_dict(q.state_dict())
    torch.save({"q": q.state_dict(), "target": target.state_dict()}, run.workdir / "q.pt")


def schedule_free(run):
    """Schedule-free SGD: the optimizer itself has a train and an eval point and swaps the weights between them."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)

    class Free(torch.optim.Optimizer):
        def __init__(self, params, lr=0.05, beta=0.9):
            super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "training": True})

        @torch.no_grad()
        def swap(self, training):
            for group in self.param_groups:
                if group["training"] != training:
                    for p in group["params"]:
                        if "z" in self.state[p]:
                            beta = group["beta"]
                            p.lerp_(self.state[p]["z"], 1 - beta if training else 1 - 1 / beta)
                    group["training"] = training

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                group["k"] += 1
                weight = 1 / group["k"]
                for p in group["params"]:
                    z = self.state[p].setdefault("z", p.clone())
                    p.lerp_(z, weight)
                    p.add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - weight) - 1))
                    z.sub_(p.grad, alpha=group["lr"])

    model = nn.Sequential(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(12, 2))
    optimizer = Free(model.parameters())
    held = DataLoader(TensorDataset(vx, vy), batch_size=8)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    optimizer.swap(True)
    while step < run.max_steps:
        rows = batch_of(run, step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            optimizer.swap(False)
            model.eval()
            with torch.no_grad():
                print(sum(float((model(a).argmax(1) == b).sum()) for a, b in held) / 16)
            keep(run.workdir / "free.pt", model=model.state_dict(), optimizer=optimizer.state_dict(), step=step)
            model.train()
            optimizer.swap(True)


def growing(run):
    """A block is added at step 3, its parameters as a new group; the checkpoint knows how deep the model was."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)

    class Grown(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv1d(4, 8, 5, padding=2)
            self.blocks = nn.ModuleList()
            self.head = nn.Linear(8, 2)

        def grow(self):
            block = nn.Conv1d(8, 8, 3, padding=1)
            nn.init.zeros_(block.weight)
            nn.init.zeros_(block.bias)
            self.blocks.append(block)
            return block.parameters()

        def forward(self, x):
            h = F.gelu(self.first(x))
            for block in self.blocks:
                h = h + F.gelu(block(h)) + 0.1 * block(h)
            return self.head(h.mean(-1))

    model = Grown()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    step = 0
    state = torch.load(run.resume_from) if run.resume_from else None
    if state:
        for _ in range(state["depth"]):
            optimizer.add_param_group({"params": list(model.grow()), "lr": 1e-3})
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    while step < run.max_steps:
        if step == 3 and not model.blocks:
            optimizer.add_param_group({"params": list(model.grow()), "lr": 1e-3})
        rows = batch_of(run, step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            model.eval()
            with torch.no_grad():
                F.cross_entropy(model(vx), vy)
            model.train()
            keep(
                run.workdir / "grown.pt",
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                depth=len(model.blocks),
                step=step,
            )


class Low(nn.Module):
    """A frozen linear map and a low-rank one beside it, zero at first."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) * 0.1)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.down), self.up)


def adapters(run):
    """Only low-rank adapters and the head are trained and saved; the frozen rest comes from a file of its own."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)
    body = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
    path = run.workdir / "pretrained.npz"
    if not path.exists():
        rng = np.random.default_rng(77)
        np.savez(
            path,
            **{
                k: (rng.normal(size=v.shape) / v.shape[-1] ** 0.5).astype(np.float32)
                for k, v in body.state_dict().items()
            },
        )
    with np.load(path) as file:
        body.load_state_dict({key: torch.from_numpy(file[key]) for key in file})
    body[1], body[3] = Low(body[1]), Low(body[3])
    model = nn.Sequential(body, nn.Linear(16, 2))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from)
        missing, unexpected = model.load_state_dict(state["adapters"], strict=False)
        assert not unexpected
        assert all(".base." in name for name in missing)
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    held = DataLoader(TensorDataset(vx, vy), batch_size=8)
    while step < run.max_steps:
        rows = batch_of(run, step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            model.eval()
            with torch.inference_mode():
                for a, b in held:
                    F.cross_entropy(model(a), b)
            model.train()
            small = {name: p for name, p in model.state_dict().items() if ".base." not in name}
            keep(run.workdir / "adapter.pt", adapters=small, optimizer=optimizer.state_dict(), step=step)


def population(run):
    """Three members with rates of their own; after each round the worst takes the weights of the best and mutates."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)
    members = []
    for k in range(3):
        model = nn.Sequential(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(12, 2))
        members.append([model, torch.optim.SGD(model.parameters(), lr=0.01 * 3**k, momentum=0.9), 0.0])
    held = DataLoader(TensorDataset(vx, vy), batch_size=16)
    for step in range(run.max_steps):
        for member in members:
            model, optimizer, _ = member
            rows = torch.randint(32, (8,))
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        if step % 2 == 1:
            for member in members:
                member[0].eval()
                with torch.no_grad():
                    member[2] = -sum(float(F.cross_entropy(member[0](a), b)) for a, b in held)
                member[0].train()
            members.sort(key=lambda member: member[2])
            members[0][0].load_state_dict(members[-1][0].state_dict())
            members[0][1].load_state_dict(copy.deepcopy(members[-1][1].state_dict()))
            for group in members[0][1].param_groups:
                group["lr"] *= 1.2
    torch.save([member[0].state_dict() for member in members], run.workdir / "population.pt")


JUDGE = """
import json, sys, torch
from torch import nn
state = torch.load(sys.argv[1])
data = torch.load(sys.argv[2])
model = nn.Sequential(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(12, 2))
model.load_state_dict(state["model"])
model.eval()
with torch.no_grad():
    right = (model(data["x"]).argmax(1) == data["y"]).float().mean().item()
print(json.dumps({"right": right}))
"""
