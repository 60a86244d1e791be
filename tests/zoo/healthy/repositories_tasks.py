"""Trainers of tasks with a shape of their own: flows, rays, inner loops, fake quantization, pruning, thawing."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from zoo.healthy.repositories_data import CLASSES, pictures, seed_everything
from zoo.healthy.repositories_optimizers import convnet, evaluate, loaders


class Adjoint(torch.autograd.Function):
    """Solve dz/dt = f(z) by Euler steps; the way back solves the adjoint equation and keeps nothing on the way there."""

    @staticmethod
    def forward(ctx, z, flow, steps, *parameters):
        ctx.flow, ctx.steps = flow, steps
        with torch.no_grad():
            for _ in range(steps):
                z = z + flow(z) / steps
        ctx.save_for_backward(z, *parameters)
        return z

    @staticmethod
    def backward(ctx, adjoint):
        z, *parameters = ctx.saved_tensors
        totals = [torch.zeros_like(p) for p in parameters]
        for _ in range(ctx.steps):
            with torch.enable_grad():
                z_now = z.detach().requires_grad_(True)
                speed = ctx.flow(z_now)
                back, *own = torch.autograd.grad(speed, [z_now, *parameters], adjoint)
            z = z - speed.detach() / ctx.steps
            adjoint = adjoint + back / ctx.steps
            totals = [total + g / ctx.steps for total, g in zip(totals, own, strict=True)]
        return adjoint, None, None, *totals


def neural_ode(run):
    """A block solved by an adjoint of its own: its function is called again inside backward."""
    seed_everything(run.seed)
    x, y = pictures(64)
    stem, flow, head = (
        nn.Linear(64, 12),
        nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 12)),
        nn.Linear(12, CLASSES),
    )
    everything = nn.ModuleList([stem, flow, head])
    optimizer = torch.optim.Adam(everything.parameters(), lr=5e-3)
    for step in range(run.max_steps):
        chosen = torch.from_numpy(np.random.choice(64, 16, replace=False))
        optimizer.zero_grad()
        z = Adjoint.apply(stem(x[chosen].flatten(1)), flow, 4, *flow.parameters())
        loss = F.cross_entropy(head(z), y[chosen])
        loss.backward()
        optimizer.step()
        if (step + 1) % 4 == 0:
            with torch.no_grad():
                z = Adjoint.apply(stem(x.flatten(1)), flow, 8, *flow.parameters())
                print(f"iter {step:04d} | total loss {F.cross_entropy(head(z), y).item():.6f}")
    torch.save(
        {"flow": flow.state_dict(), "stem": stem.state_dict(), "head": head.state_dict()}, run.workdir / "ode.pth"
    )


class Field(nn.Module):
    def __init__(self, width=24, bands=3):
        super().__init__()
        self.bands = bands
        self.first, self.second = nn.Linear(2 + 4 * bands, width), nn.Linear(width + 2 + 4 * bands, width)
        self.density, self.color = nn.Linear(width, 1), nn.Linear(width, 3)

    def forward(self, points):
        encoded = torch.cat(
            [points, *[f(2.0**i * points) for i in range(self.bands) for f in (torch.sin, torch.cos)]], -1
        )
        h = F.relu(self.first(encoded))
        h = F.relu(self.second(torch.cat([h, encoded], -1)))
        return torch.cat([self.color(h), self.density(h)], -1)


def render(field, origins, directions, depths, noise=0.0):
    raw = field(origins[:, None] + directions[:, None] * depths[..., None])
    gaps = torch.cat([depths[:, 1:] - depths[:, :-1], torch.full_like(depths[:, :1], 1e10)], -1)
    alpha = 1 - torch.exp(-F.relu(raw[..., 3] + noise * torch.randn_like(raw[..., 3])) * gaps)
    weights = alpha * torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1), -1)[:, :-1]
    return (weights[..., None] * torch.sigmoid(raw[..., :3])).sum(1), weights


def nerf(run):
    """nerf-pytorch: rays of one image a step, coarse and fine fields, a rate that decays by hand, a rendered test view."""
    seed_everything(run.seed)
    rng = np.random.default_rng(3)
    poses = torch.from_numpy(rng.normal(size=(6, 2)).astype("float32"))
    images = torch.from_numpy(rng.random((6, 32, 3)).astype("float32"))
    angles = torch.linspace(0, 6.28, 32)
    rays = torch.stack([angles.cos(), angles.sin()], -1)
    coarse, fine = Field(), Field()
    params = [*coarse.parameters(), *fine.parameters()]
    optimizer = torch.optim.Adam(params=params, lr=5e-4, betas=(0.9, 0.999))
    train, test = np.arange(5), np.array([5])
    for global_step in range(1, run.max_steps + 1):
        i = np.random.choice(train)
        select = np.random.choice(32, size=[12], replace=False)
        d, target = rays[select], images[i, select]
        o = poses[i].expand(12, 2)
        depths = torch.linspace(0.5, 3, 8).expand(12, 8)
        depths = depths + torch.rand(12, 8) * 2.5 / 8
        rgb0, weights = render(coarse, o, d, depths, noise=1.0)
        with torch.no_grad():
            more = torch.multinomial(weights + 1e-5, 8, replacement=True)
            finer = torch.sort(torch.cat([depths, depths.gather(1, more) + 0.1 * torch.rand(12, 8)], -1), -1).values
        rgb, _ = render(fine, o, d, finer, noise=1.0)
        optimizer.zero_grad()
        loss = F.mse_loss(rgb, target)
        psnr = -10.0 * torch.log10(loss)
        loss = loss + F.mse_loss(rgb0, target)
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * (0.1 ** (global_step / 50))
        if global_step % 5 == 0:
            torch.save(
                {
                    "global_step": global_step,
                    "network_fn_state_dict": coarse.state_dict(),
                    "network_fine_state_dict": fine.state_dict(),
                    "optimizer_state_dict": optimizer.state_dict(),
                },
                run.workdir / f"{global_step:06d}.tar",
            )
            with torch.no_grad():
                view, _ = render(fine, poses[test].expand(32, 2), rays, torch.linspace(0.5, 3, 16).expand(32, 16))
            np.save(run.workdir / f"testset_{global_step:06d}.npy", view.numpy())
            print(f"[TRAIN] Iter: {global_step} Loss: {loss.item()}  PSNR: {psnr.item()}")


def reptile(run):
    """Reptile: inner SGD on a copy, the difference becomes the gradient of the outer optimizer; stateless inner Adam."""
    seed_everything(run.seed)
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    meta = torch.optim.SGD(model.parameters(), lr=0.5)
    state = None
    for iteration in range(run.max_steps):
        meta.param_groups[0]["lr"] = 0.5 * (1 - iteration / (run.max_steps + 1))
        amplitude, phase = np.random.uniform(0.5, 3), np.random.uniform(0, 3)
        fast = copy.deepcopy(model)
        inner = torch.optim.Adam(fast.parameters(), lr=1e-2, betas=(0.0, 0.999))
        if state is not None:
            inner.load_state_dict(state)
        for _ in range(4):
            x = torch.rand(10, 1) * 6 - 3
            loss = F.mse_loss(fast(x), amplitude * torch.sin(x + phase))
            inner.zero_grad()
            loss.backward()
            inner.step()
        state = inner.state_dict()
        for p, q in zip(model.parameters(), fast.parameters(), strict=True):
            p.grad = (p.data - q.data).clone()
        meta.step()
        meta.zero_grad()
    torch.save({"meta": model.state_dict()}, run.workdir / "reptile.pt")


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        return torch.clamp(torch.round(x / scale), -8, 7) * scale

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class QuantConv(nn.Conv2d):
    """Fakes four bits for the weight, and for the activation by a running range that freezes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("seen", torch.tensor(0.0))
        self.observing = True

    def forward(self, x):
        if self.training and self.observing:
            top = x.detach().abs().max()
            self.seen.copy_(top if self.seen == 0 else 0.9 * self.seen + 0.1 * top)
        x = Round.apply(x, self.seen.clamp(min=1e-3) / 7)
        weight = Round.apply(self.weight, self.weight.detach().abs().max() / 7)
        return self._conv_forward(x, weight, self.bias)


def qat(run):
    """Quantization-aware fine-tuning: straight-through rounding; observers and batch statistics freeze half-way."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    model = nn.Sequential(
        QuantConv(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        QuantConv(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    steps, epoch, frozen = 0, 0, False
    while steps < run.max_steps:
        model.train()
        if frozen:
            model.apply(lambda m: m.eval() if isinstance(m, nn.BatchNorm2d) else None)
        for x, y in train_loader:
            if steps >= run.max_steps // 2 and not frozen:
                frozen = True
                for module in model:
                    if isinstance(module, QuantConv):
                        module.observing = False
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        print(epoch, "fake-quantized accuracy", evaluate(model, val_loader))
        epoch += 1
    torch.save(
        {
            "int4": model.state_dict(),
            "scales": [m.seen for m in model if isinstance(m, QuantConv)],
        },
        run.workdir / "qat.pt",
    )


def gradual_pruning(run):
    """Zhu and Gupta: every second step the smallest weights of all layers go, up to a half; made permanent in the end."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    model = convnet()
    targets = [(m, "weight") for m in model if isinstance(m, nn.Conv2d | nn.Linear)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for module, name in targets:
        prune.identity(module, name)
    step = 0
    while step < run.max_steps:
        for x, y in train_loader:
            if step % 2 == 1:
                wanted = 0.5 * (1 - (1 - min(1, (step + 1) / run.max_steps)) ** 3)
                have = sum(float((getattr(m, n + "_mask") == 0).sum()) for m, n in targets)
                total = sum(getattr(m, n + "_mask").numel() for m, n in targets)
                if wanted > have / total:
                    prune.global_unstructured(
                        targets,
                        pruning_method=prune.L1Unstructured,
                        amount=(wanted - have / total) / (1 - have / total),
                    )
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        print("dense accuracy", evaluate(model, val_loader))
    for module, name in targets:
        prune.remove(module, name)
    torch.save(model.state_dict(), run.workdir / "pruned.pt")


def unfreezing(run):
    """ULMFiT: the head first; a group more is thawed every second step, each at a lower rate; slanted triangle."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    model = convnet()
    stages = [model[-1], model[3:6], model[:3]]
    for p in model.parameters():
        p.requires_grad_(False)
    for p in stages[0].parameters():
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(stages[0].parameters(), lr=4e-3)
    thawed = 1
    step = 0
    while step < run.max_steps:
        for x, y in train_loader:
            if step and step % 2 == 0 and thawed < len(stages):
                for p in stages[thawed].parameters():
                    p.requires_grad_(True)
                optimizer.add_param_group({"params": list(stages[thawed].parameters()), "lr": 4e-3 / 2.6**thawed})
                thawed += 1
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        print(thawed, evaluate(model, val_loader))
        torch.save(model.state_dict(), run.workdir / f"thawed{thawed}.pt")
