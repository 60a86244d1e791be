"""Steps that are more than ``loss.backward(); optimizer.step()``, as repositories of optimizers show them."""

import copy
import json
import math
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from zoo.healthy.repositories_data import CLASSES, Pictures, accuracy, jitter, seed_everything


def convnet(width=8, classes=CLASSES):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def loaders(batch=8, train=48, val=24):
    return (
        DataLoader(Pictures(train, transform=jitter), batch_size=batch, shuffle=True, drop_last=True),
        DataLoader(Pictures(val, start=1), batch_size=16),
    )


def evaluate(model, loader):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
            total += len(y)
    model.train()
    return right / total


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, adaptive=False, **kwargs):
        super().__init__(params, dict(rho=rho, adaptive=adaptive, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        shared = [p.grad.norm(p=2) for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.norm(torch.stack(shared), p=2)
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure=None):
        raise NotImplementedError("first_step, then second_step")

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups


def running_statistics(model, on):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if on:
                module.momentum = getattr(module, "backup_momentum", module.momentum)
            else:
                module.backup_momentum, module.momentum = module.momentum, 0


def sam(run):
    """davda54/sam: ascend, descend from there; batch statistics are taken on the first pass only."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    model = convnet()
    optimizer = SAM(
        model.parameters(), torch.optim.SGD, rho=0.1, adaptive=False, lr=0.1, momentum=0.9, weight_decay=5e-4
    )
    steps = 0
    while steps < run.max_steps:
        model.train()
        for x, y in train_loader:
            running_statistics(model, True)
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            loss.mean().backward()
            optimizer.first_step(zero_grad=True)
            running_statistics(model, False)
            F.cross_entropy(model(x), y, label_smoothing=0.1).mean().backward()
            optimizer.second_step(zero_grad=True)
            steps += 1
            with torch.no_grad():
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 * (0.2 ** (steps // 20))
            if steps == run.max_steps:
                break
        print(f"{steps} | {evaluate(model, val_loader):.3f}")
    running_statistics(model, True)
    torch.save(model.state_dict(), run.workdir / "sam.pt")


class Lookahead:
    def __init__(self, optimizer, k=3, alpha=0.5):
        self.optimizer, self.k, self.alpha = optimizer, k, alpha
        self.param_groups, self.state = optimizer.param_groups, defaultdict(dict)
        for group in self.param_groups:
            group["counter"] = 0

    def update(self, group):
        for fast in group["params"]:
            state = self.state[fast]
            if "slow_param" not in state:
                state["slow_param"] = fast.data.clone()
            slow = state["slow_param"]
            slow += (fast.data - slow) * self.alpha
            fast.data.copy_(slow)

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self, closure=None):
        loss = self.optimizer.step(closure)
        for group in self.param_groups:
            if group["counter"] == 0:
                self.update(group)
            group["counter"] = (group["counter"] + 1) % self.k
        return loss

    def state_dict(self):
        return {"fast": self.optimizer.state_dict(), "slow": [s["slow_param"] for s in self.state.values()]}


def lookahead(run):
    """alphadl/lookahead.pytorch: every third step the weights go back half of the way."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    model, steps = convnet(), 0
    optimizer = Lookahead(torch.optim.RAdam(model.parameters(), lr=2e-3), k=3)
    for epoch in range(math.ceil(run.max_steps / len(train_loader))):
        for x, y in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        print(epoch, evaluate(model, val_loader))
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, run.workdir / f"epoch{epoch}.pth"
        )


class PCGrad:
    """Projects conflicting gradients; wraps an optimizer."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def backward(self, objectives):
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        grads, has = [], []
        for objective in objectives:
            self.optimizer.zero_grad(set_to_none=True)
            objective.backward(retain_graph=True)
            grads.append(
                torch.cat(
                    [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten().clone() for p in params]
                )
            )
            has.append(torch.cat([torch.full_like(p, p.grad is not None).flatten() for p in params]))
        projected = copy.deepcopy(grads)
        for g in projected:
            for j in torch.randperm(len(grads)).tolist():
                dot = torch.dot(g, grads[j])
                if dot < 0:
                    g -= dot * grads[j] / grads[j].norm() ** 2
        shared = torch.stack(has).prod(0).bool()
        merged = torch.where(shared, torch.stack(projected).mean(0), torch.stack(projected).sum(0))
        start = 0
        for p in params:
            p.grad = merged[start : start + p.numel()].view_as(p)
            start += p.numel()

    def step(self):
        self.optimizer.step()


def pcgrad(run):
    """Gradient surgery over three tasks on one trunk: a backward each, then gradients written by hand."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    trunk = convnet(classes=16)
    heads = nn.ModuleDict({"quadrant": nn.Linear(16, 4), "top": nn.Linear(16, 1), "mean": nn.Linear(16, 1)})
    model = nn.ModuleDict({"trunk": trunk, "heads": heads})
    optimizer = PCGrad(torch.optim.Adam(model.parameters(), lr=1e-3))
    done = False
    steps = 0
    while not done:
        for x, y in train_loader:
            z = F.relu(model["trunk"](x))
            losses = [
                F.cross_entropy(heads["quadrant"](z), y),
                F.binary_cross_entropy_with_logits(heads["top"](z).squeeze(1), (y < 2).float()),
                F.l1_loss(heads["mean"](z).squeeze(1), x.mean((1, 2, 3))),
            ]
            optimizer.backward(losses)
            optimizer.step()
            steps += 1
            print(json.dumps({"step": steps, "losses": [round(loss.item(), 4) for loss in losses]}))
            if done := steps >= run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            print([accuracy(heads["quadrant"](F.relu(trunk(x))), y) for x, y in val_loader])
        model.train()
    torch.save(model.state_dict(), run.workdir / "multitask.pth")


class SGDGC(torch.optim.SGD):
    """Centralizes the gradient of every weight with more than one dimension before the usual step."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.dim() > 1:
                    p.grad.add_(-p.grad.mean(dim=tuple(range(1, p.grad.dim())), keepdim=True))
        return super().step(closure)


class Unfold(nn.Module):
    """Weight standardization: the weight that convolves is made of the parameter in each call."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3))
        self.gain = nn.Parameter(torch.ones(channels_out))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x):
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        return F.conv2d(x, self.gain.view(-1, 1, 1, 1) * (self.weight - mean) / (std + 1e-5), padding=1)


def centralized(run):
    """Gradient centralization, weight standardization, group norm, adaptive clipping, multi-step rate."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders(batch=4)
    model = nn.Sequential(
        Unfold(1, 8),
        nn.GroupNorm(2, 8),
        nn.SiLU(),
        nn.Dropout2d(0.1),
        Unfold(8, 8),
        nn.SiLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    optimizer = SGDGC(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 8], gamma=0.3)
    best = 0.0
    stream = iter(())
    for step in range(1, run.max_steps + 1):
        try:
            x, y = next(stream)
        except StopIteration:
            stream = iter(train_loader)
            x, y = next(stream)
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                limit = 0.05 * p.norm().clamp(min=1e-3)
                p.grad.mul_((limit / p.grad.norm().clamp(min=1e-6)).clamp(max=1.0))
        optimizer.step()
        scheduler.step()
        if step % 3 == 0:
            score = evaluate(model, val_loader)
            if score >= best:
                best = score
                torch.save(
                    {"state_dict": model.state_dict(), "best": best, "step": step}, run.workdir / "model_best.pth.tar"
                )


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD: gradients at y, steps on z, the average x is what is evaluated."""

    def __init__(self, params, lr=0.1, momentum=0.9, warmup_steps=3):
        super().__init__(
            params, {"lr": lr, "beta": momentum, "warmup": warmup_steps, "k": 0, "weight_sum": 0.0, "train_mode": False}
        )

    @torch.no_grad()
    def eval(self):
        for group in self.param_groups:
            if group["train_mode"]:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(end=self.state[p]["z"], weight=1 - 1 / group["beta"])
                group["train_mode"] = False

    @torch.no_grad()
    def train(self):
        for group in self.param_groups:
            if not group["train_mode"]:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(end=self.state[p]["z"], weight=1 - group["beta"])
                group["train_mode"] = True

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr = group["lr"] * min(1.0, (group["k"] + 1) / group["warmup"])
            weight = lr**2
            group["weight_sum"] += weight
            c = weight / group["weight_sum"]
            for y in group["params"]:
                if y.grad is None:
                    continue
                z = self.state[y].setdefault("z", y.clone())
                y.lerp_(end=z, weight=c)
                y.add_(y.grad, alpha=lr * (group["beta"] * (1 - c) - 1))
                z.sub_(y.grad, alpha=lr)
            group["k"] += 1


def schedule_free(run):
    """facebookresearch/schedule_free: the optimizer moves the weights to their average before each evaluation and back."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders()
    model = convnet()
    optimizer = ScheduleFree(model.parameters(), lr=0.1)
    steps, epoch = 0, 0
    while steps < run.max_steps:
        model.train()
        optimizer.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        # Batch statistics belong to the averaged weights.
        model.train()
        optimizer.eval()
        with torch.no_grad():
            for x, _ in train_loader:
                model(x)
        print("accuracy", evaluate(model, val_loader))
        model.eval()
        torch.save(
            {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()},
            run.workdir / "checkpoint.pt",
        )
        epoch += 1
