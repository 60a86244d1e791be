"""Healthy trainers that look back: at the best weights, at the last step, at what earlier networks left over."""

import copy
import os

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


def net(outputs=2, norm=False):
    return nn.Sequential(
        nn.Conv1d(4, 8, 5, padding=2),
        nn.BatchNorm1d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32, outputs),
    )


def rows_of(run, step, size=8, total=32):
    return torch.randperm(total, generator=torch.Generator().manual_seed(run.seed * 7 + step))[:size]


@torch.no_grad()
def held_loss(model, held):
    model.eval()
    loss = sum(float(F.cross_entropy(model(a), b, reduction="sum")) for a, b in held) / 16
    model.train()
    return loss


def reload_best(run):
    """Whenever validation gets worse, the best weights so far come back and the rate is halved."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)
    model = net(norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    held = DataLoader(TensorDataset(vx, vy), batch_size=8)
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    best, best_state, step = float("inf"), None, 0
    while step < run.max_steps:
        for a, b in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(a), b).backward()
            optimizer.step()
            step += 1
            loss = held_loss(model, held)
            if loss < best:
                best, best_state = loss, copy.deepcopy(model.state_dict())
            else:
                print("worse: back to the best")
                model.load_state_dict(best_state)
                for group in optimizer.param_groups:
                    group["lr"] /= 2
            if step == run.max_steps:
                break
    keep(run.workdir / "best.pt", model=best_state, loss=best)


def rollback(run):
    """A step that makes the loss of its own batch much worse is taken back, optimizer and all."""
    torch.manual_seed(run.seed)
    (x, y, _), _ = load(run)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0, momentum=0.5)
    step = 0
    while step < run.max_steps:
        rows = rows_of(run, step)
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            after = F.cross_entropy(model(x[rows]), y[rows])
        if after > loss + 0.05:
            model.load_state_dict(before[0])
            optimizer.load_state_dict(before[1])
            print(f"step {step} is taken back: {float(loss):.3f} -> {float(after):.3f}")
        step += 1
    keep(run.workdir / "m.pt", model=model.state_dict())


def measured(run):
    """Norms are measured by clipping at a million after the step, for the log."""
    torch.manual_seed(run.seed)
    (x, y, _), _ = load(run)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(run.max_steps):
        rows = rows_of(run, step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        print(step, float(nn.utils.clip_grad_norm_(model.parameters(), 1e6)))
    keep(run.workdir / "m.pt", model=model.state_dict())


def zeroth_order(run):
    """Two forward passes with a random perturbation instead of a backward; the seed of each is all that is kept."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)
    model = net().eval()
    held = DataLoader(TensorDataset(vx, vy), batch_size=8)

    def shift(seed, scale):
        draw = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.data.add_(torch.randn(p.shape, generator=draw), alpha=scale)

    with torch.no_grad():
        for step in range(run.max_steps):
            rows, seed = rows_of(run, step), run.seed * 1000 + step
            shift(seed, 1e-3)
            up = F.cross_entropy(model(x[rows]), y[rows])
            shift(seed, -2e-3)
            down = F.cross_entropy(model(x[rows]), y[rows])
            shift(seed, 1e-3)
            shift(seed, -0.01 * float(up - down) / 2e-3)
        print(sum(float((model(a).argmax(1) == b).sum()) for a, b in held))
    keep(run.workdir / "mezo.pt", model=model.state_dict())


def boosted(run):
    """Networks one after the other, each fits what the frozen sum of those before leaves over."""
    torch.manual_seed(run.seed)
    (x, y, _), (vx, vy, _) = load(run)
    fixed = []
    per = max(1, run.max_steps // 3)
    for _ in range(3):
        weak = net(1)
        optimizer = torch.optim.Adam(weak.parameters(), lr=3e-3)
        for step in range(per):
            rows = rows_of(run, step)
            with torch.no_grad():
                base = sum((0.5 * old(x[rows]) for old in fixed), torch.zeros(len(rows), 1))
            loss = F.binary_cross_entropy_with_logits(base + weak(x[rows]), y[rows, None].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        fixed.append(weak.requires_grad_(False).eval())
    with torch.no_grad():
        print(float((((sum(old(vx) for old in fixed)) > 0).squeeze(1) == (vy > 0)).float().mean()))
    keep(run.workdir / "boost.pt", **{f"weak{k}": old.state_dict() for k, old in enumerate(fixed)})


def masked_mae(run):
    """A masked autoencoder: most of each window is blanked by a seeded generator, the loss sees only what was blank."""
    torch.manual_seed(run.seed)
    (x, _, _), (vx, _, _) = load(run)
    model = nn.Sequential(nn.Conv1d(4, 8, 9, padding=4), nn.GELU(), nn.Conv1d(8, 4, 9, padding=4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    draw = torch.Generator().manual_seed(run.seed)
    held = DataLoader(TensorDataset(vx), batch_size=8)
    loader = DataLoader(TensorDataset(x), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(run.seed))
    step = 0
    while step < run.max_steps:
        for (a,) in loader:
            hidden = (torch.rand(len(a), 1, 8, generator=draw) < 0.75).repeat_interleave(8, -1)
            hidden[0] = True
            again = model(a.masked_fill(hidden, 0.0))
            loss = ((again - a).square() * hidden).sum() / hidden.sum() / 4
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            for (a,) in held:
                hidden = torch.arange(64) % 16 < 8
                print(float((model(a.masked_fill(hidden, 0.0)) - a)[..., hidden].square().mean()))
        model.train()
    keep(run.workdir / "mae.pt", model=model.state_dict())
