"""Healthy trainers that step their weights in unusual ways."""

import copy
import os

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.patients import read

TRAIN, HELD = (0, 1, 2, 3), (4, 5)


def sets(run):
    found = []
    for numbers in (TRAIN, HELD):
        x, y, _ = read(run, numbers)
        found.append(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)))
    return found


def save(path, **state):
    scratch = path.with_suffix(".part")
    torch.save(state, scratch)
    os.replace(scratch, path)


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv1d(4, width, 5, padding=2)
        self.norm = nn.BatchNorm1d(width)
        self.body = nn.Conv1d(width, width, 5, padding=2)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        h = F.gelu(self.norm(self.stem(x)))
        h = h + F.gelu(self.body(h))
        return self.head(h.mean(-1))


class Order:
    """Batches of an epoch by a permutation that only seed and epoch decide, so a position is enough to resume."""

    def __init__(self, data, size, seed):
        self.data, self.size, self.seed = data, size, seed
        self.per_epoch = len(data) // size

    def at(self, step):
        epoch, place = divmod(step, self.per_epoch)
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.seed * 997 + epoch))
        rows = order[place * self.size : (place + 1) * self.size]
        return tuple(column[rows] for column in self.data.tensors)


@torch.no_grad()
def accuracy(model, data):
    was = model.training
    model.eval()
    right = 0
    for x, y in DataLoader(data, batch_size=8):
        right += int((model(x).argmax(1) == y).sum())
    model.train(was)
    return right / len(data)


def layerwise(run):
    """Layer-wise rate decay, no decay on biases and norms, the stem thawed at step 2 as a group of its own."""
    torch.manual_seed(run.seed)
    train, held = sets(run)
    model = Net()
    model.stem.requires_grad_(False)
    groups = []
    for depth, part in enumerate((model.norm, model.body, model.head)):
        rate = 3e-3 * 0.7 ** (2 - depth)
        groups.append({"params": [p for p in part.parameters() if p.dim() > 1], "lr": rate, "weight_decay": 0.05})
        groups.append({"params": [p for p in part.parameters() if p.dim() <= 1], "lr": rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]])
    order, step = Order(train, 8, run.seed), 0

    def thaw():
        model.stem.requires_grad_(True)
        optimizer.add_param_group({"params": [model.stem.weight], "lr": 5e-4, "weight_decay": 0.05})
        optimizer.add_param_group({"params": [model.stem.bias], "lr": 5e-4, "weight_decay": 0.0})

    if run.resume_from is not None:
        state = torch.load(run.resume_from)
        step = state["step"]
        if step > 2:
            thaw()
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    while step < run.max_steps:
        if step == 2:
            thaw()
        x, y = order.at(step)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 3 == 0:
            print(f"step {step} loss {loss.item():.4f} accuracy {accuracy(model, held):.3f}")
            save(run.workdir / f"step{step}.pt", model=model.state_dict(), optimizer=optimizer.state_dict(), step=step)


def two_paces(run):
    """The encoder steps at every batch, the head at every second with the mean of two gradients."""
    torch.manual_seed(run.seed)
    train, held = sets(run)
    model = Net()
    slow = list(model.head.parameters())
    quick = [p for name, p in model.named_parameters() if not name.startswith("head")]
    a, b = torch.optim.Adam(quick, lr=2e-3), torch.optim.SGD(slow, lr=0.05, momentum=0.9)
    order, step = Order(train, 8, run.seed), 0
    if run.resume_from is not None:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        a.load_state_dict(state["a"])
        b.load_state_dict(state["b"])
        step = state["batch"]
    while step < run.max_steps:
        x, y = order.at(step)
        a.zero_grad()
        F.cross_entropy(model(x), y).backward()
        a.step()
        step += 1
        if step % 2 == 0:
            for p in slow:
                p.grad.mul_(0.5)
            b.step()
            b.zero_grad()
            save(
                run.workdir / "state.pt",
                model=model.state_dict(),
                a=a.state_dict(),
                b=b.state_dict(),
                batch=step,
            )
    print("accuracy", accuracy(model, held))


def stages(run):
    """Stage one trains the head with SGD, stage two everything with a new AdamW; a checkpoint knows its stage."""
    torch.manual_seed(run.seed)
    train, held = sets(run)
    model = Net()
    border = 3
    order, step = Order(train, 6, run.seed), 0

    def enter(stage):
        model.requires_grad_(True)
        if stage == 1:
            for name, p in model.named_parameters():
                p.requires_grad_(name.startswith("head"))
            return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        return torch.optim.AdamW(model.parameters(), lr=1e-3)

    state = torch.load(run.resume_from) if run.resume_from is not None else None
    if state is not None:
        step = state["step"]
        model.load_state_dict(state["model"])
    stage = 1 if step < border else 2
    optimizer = enter(stage)
    if state is not None and state["stage"] == stage:
        optimizer.load_state_dict(state["optimizer"])
    while step < run.max_steps:
        if step == border and stage == 1:
            stage, optimizer = 2, enter(2)
            print("stage 2: everything is trained, with AdamW")
        x, y = order.at(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            accuracy(model, held)
            save(
                run.workdir / "last.pt",
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                stage=stage,
                step=step,
            )


class SAM(torch.optim.Optimizer):
    """Sharpness-aware: climb to the worst neighbor, take the gradient there, step from where one was."""

    def __init__(self, params, rho=0.05, lr=0.02, momentum=0.9):
        super().__init__(params, {"rho": rho, "lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        parameters = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        before = [p.clone() for p in parameters]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=float(group["rho"] / (norm + 1e-12)))
        with torch.enable_grad():
            closure()
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                p.sub_(buffer, alpha=group["lr"])
        return loss


class Lion(torch.optim.Optimizer):
    """Steps by the sign of an interpolated momentum."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_((m * first + p.grad * (1 - first)).sign(), alpha=group["lr"])
                m.lerp_(p.grad, 1 - second)


class SGLD(torch.optim.Optimizer):
    """Langevin dynamics: half the rate along the gradient of the negative log posterior, plus noise."""

    def __init__(self, params, lr, generator):
        super().__init__(params, {"lr": lr})
        self.generator = generator

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                noise = torch.randn(p.shape, generator=self.generator)
                p.add_(p.grad, alpha=-0.5 * group["lr"]).add_(noise, alpha=group["lr"] ** 0.5)


def sharp(run):
    """SAM by a closure that is called twice in every step, the norm's statistics kept from the second pass."""
    torch.manual_seed(run.seed)
    train, held = sets(run)
    model = Net()
    optimizer = SAM(model.parameters())
    order, step = Order(train, 8, run.seed), 0
    if run.resume_from is not None:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    while step < run.max_steps:
        x, y = order.at(step)
        passes = []

        def closure(x=x, y=y, passes=passes):
            model.norm.momentum = 0.0 if passes else 0.1
            passes.append(1)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        step += 1
        if step % 2 == 0:
            print(step, float(loss), accuracy(model, held))
            save(run.workdir / "sam.pt", model=model.state_dict(), optimizer=optimizer.state_dict(), step=step)


def lion_agc(run):
    """Lion with adaptive clipping per unit and gradient noise that fades, its generator in the checkpoint."""
    torch.manual_seed(run.seed)
    train, held = sets(run)
    model = Net()
    optimizer = Lion(model.parameters(), lr=5e-4)
    noise = torch.Generator().manual_seed(run.seed + 1)
    order, step = Order(train, 8, run.seed), 0
    if run.resume_from is not None:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        noise.set_state(state["noise"])
        step = state["step"]
    while step < run.max_steps:
        x, y = order.at(step)
        for p in model.parameters():
            p.grad = None
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                axes = tuple(range(1, p.dim()))
                norm = p.norm(dim=axes, keepdim=True) if axes else p.abs()
                bound = norm.clamp(min=1e-3) * 0.1
                size = p.grad.norm(dim=axes, keepdim=True) if axes else p.grad.abs()
                p.grad.copy_(torch.where(size > bound, p.grad * bound / size.clamp(min=1e-6), p.grad))
                p.grad.add_(torch.randn(p.shape, generator=noise), alpha=1e-3 / (1 + step) ** 0.55)
        optimizer.step()
        step += 1
        if step in (2, 4, run.max_steps):
            save(
                run.workdir / f"lion-{step:03}.ckpt",
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                noise=noise.get_state(),
                step=step,
            )
    print(accuracy(model, held))


def langevin(run):
    """Samples of a posterior: the sum of the loss times the size of the set, and an average of the predictions."""
    torch.manual_seed(run.seed)
    train, held = sets(run)
    model = nn.Sequential(nn.Conv1d(4, 6, 7, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 29, 2))
    generator = torch.Generator().manual_seed(run.seed + 5)
    optimizer = SGLD(model.parameters(), 1e-5, generator)
    order, step = Order(train, 8, run.seed), 0
    samples = []
    if run.resume_from is not None:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        generator.set_state(state["generator"])
        samples, step = state["samples"], state["step"]
    while step < run.max_steps:
        x, y = order.at(step)
        optimizer.zero_grad()
        likelihood = F.cross_entropy(model(x), y, reduction="sum") * (len(train) / len(y))
        prior = sum(p.square().sum() for p in model.parameters()) / 2
        (likelihood + prior).backward()
        optimizer.step()
        step += 1
        if step % 3 == 0:
            samples.append(copy.deepcopy(model.state_dict()))
            save(
                run.workdir / "posterior.pt",
                model=model.state_dict(),
                generator=generator.get_state(),
                samples=samples,
                step=step,
            )
    total = 0
    x, y = held.tensors
    for sample in samples:
        model.load_state_dict(sample)
        model.eval()
        with torch.no_grad():
            total = total + model(x).softmax(-1)
    if samples:
        print("accuracy of the average", float((total.argmax(-1) == y).float().mean()))
