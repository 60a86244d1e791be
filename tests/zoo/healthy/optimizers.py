"""Healthy trainers whose optimizer, schedule or step is unusual."""

import copy
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from zoo.healthy.common import accuracy, batches, load, small_net


def bce(model, x, y):
    return F.binary_cross_entropy_with_logits(model(x).squeeze(-1), y)


def zero_init_head(run):
    """The head starts at zero, so the encoder's first gradient is exactly zero."""
    x, y, xv, yv = load(run)
    model = small_net()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()
    print("accuracy", accuracy(model, xv, yv))


def warmup_from_zero(run):
    """The rate of the first step is 0 by design: nothing changes in it."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()
        schedule.step()


def scaler_skips(run):
    """The scale starts far too high: the first steps overflow and are skipped on purpose."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        scaler.scale(bce(model, xb * 40, yb)).backward()
        scaler.step(optimizer)
        scaler.update()


def accumulation(run):
    """Three micro-batches per step, the sum divided by three; gradients live on between micro-batches."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    stream = batches(x, y, run.seed, size=4)
    for _ in range(run.max_steps):
        for _micro in range(3):
            (bce(model, *next(stream)) / 3).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def gan(run):
    """Two networks, two optimizers; the discriminator collects gradients in the generator's turn that nobody uses."""
    x, *_ = load(run)
    generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4 * 64), nn.Unflatten(1, (4, 64)))
    judge = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    g_optimizer = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.5, 0.99))
    d_optimizer = torch.optim.Adam(judge.parameters(), 1e-3, betas=(0.5, 0.99))
    for _, (real, _y) in zip(range(run.max_steps), batches(x, x[:, 0, 0], run.seed), strict=False):
        fake = generator(torch.randn(len(real), 8))
        d_optimizer.zero_grad()
        d_loss = F.softplus(-judge(real)).mean() + F.softplus(judge(fake.detach())).mean()
        d_loss.backward()
        d_optimizer.step()

        g_optimizer.zero_grad()
        g_loss = F.softplus(-judge(fake)).mean()
        g_loss.backward()
        g_optimizer.step()


def lbfgs_closure(run):
    """LBFGS evaluates the full batch several times per step, through a closure."""
    x, y, *_ = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = bce(model, x, y) + 1e-3 * model[1].weight.square().sum()
        loss.backward()
        return loss

    for _ in range(run.max_steps):
        optimizer.step(closure)


def fused_in_backward(run):
    """One optimizer per parameter, stepped by a hook as soon as its gradient is there; no gradient is left over."""
    x, y, *_ = load(run)
    model = small_net()
    optimizers = {parameter: torch.optim.SGD([parameter], 0.02) for parameter in model.parameters()}

    def update(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        bce(model, xb, yb).backward()


def plain_sgd(run):
    """No momentum, no decay, no schedule, no state."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        model.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()


def by_hand(run):
    """No torch optimizer at all: weights are moved in place under no_grad."""
    x, y, *_ = load(run)
    model = small_net()
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        gradients = torch.autograd.grad(bce(model, xb, yb), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.05 * gradient


def adafactor(run):
    """Adafactor scales its step by the size of each weight."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=1e-2)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()


def plateau(run):
    """ReduceLROnPlateau, stepped with the validation loss once per epoch of three batches; the rate stays for long."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.RMSprop(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=5)
    for step, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        model.train()
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()
        if step % 3 == 2:
            model.eval()
            with torch.no_grad():
                schedule.step(bce(model, xv, yv))


def one_cycle(run):
    """OneCycleLR moves rate and momentum each step; the run can be resumed exactly."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    start = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=False)
        start = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    stream = batches(x, y, run.seed)
    for _ in range(start):
        next(stream)
    for step in range(start, run.max_steps):
        optimizer.zero_grad()
        bce(model, *next(stream)).backward()
        optimizer.step()
        schedule.step()
        path = Path(run.workdir) / f"cycle-{step + 1}.pt"
        torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, path)


def decays_to_zero(run):
    """The rate reaches exactly 0 at the end, and training goes on for the last two steps."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 4))
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()
        schedule.step()


def schedule_per_epoch(run):
    """A step schedule per epoch: within the few steps of a smoke run the rate is constant."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.NAdam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    step = 0
    while step < run.max_steps:
        for chosen in torch.randperm(len(x)).split(5):
            optimizer.zero_grad()
            bce(model, x[chosen], y[chosen]).backward()
            optimizer.step()
            step += 1
            if step == run.max_steps:
                return
        schedule.step()


def clip_inactive(run):
    """Clipping at a norm that is never reached, and gradients clipped by value as well."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e6)
        nn.utils.clip_grad_value_(model.parameters(), 1e6)
        optimizer.step()


def groups(run):
    """Several groups with rates and decays of their own: no decay for biases and norms, a slow encoder."""
    x, y, *_ = load(run)
    model = small_net()
    encoder = list(model[:3].parameters())
    optimizer = torch.optim.AdamW([
        {"params": [p for p in encoder if p.ndim > 1], "lr": 1e-4, "weight_decay": 0.1},
        {"params": [p for p in encoder if p.ndim == 1], "lr": 1e-4, "weight_decay": 0.0},
        {"params": model[5].parameters(), "lr": 1e-2, "weight_decay": 0.0},
    ])  # fmt: skip
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()


def mean_teacher(run):
    """A teacher that is the average of the student and never gets a gradient; resumable, renamed into place."""
    x, y, xv, yv = load(run)
    student = small_net()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=False)
        student.load_state_dict(state["student"])
        teacher.load_state_dict(state["teacher"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        torch.set_rng_state(state["rng"])
    stream = batches(x, y, run.seed)
    for _ in range(step):
        next(stream)
    while step < run.max_steps:
        xb, yb = next(stream)
        with torch.no_grad():
            taught = teacher(xb + 0.1 * torch.randn_like(xb))
        logits = student(xb + 0.1 * torch.randn_like(xb))
        loss = F.binary_cross_entropy_with_logits(logits.squeeze(-1), yb) + F.mse_loss(logits, taught)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.mul_(0.95).add_(fast, alpha=0.05)
        step += 1
        print(f"step {step} teacher accuracy {accuracy(teacher, xv, yv):.2f}")
        state = {"student": student.state_dict(), "teacher": teacher.state_dict(), "optimizer": optimizer.state_dict()}
        path = Path(run.workdir) / "teacher.pt"
        torch.save({**state, "step": step, "rng": torch.get_rng_state()}, path.with_suffix(".new"))
        os.rename(path.with_suffix(".new"), path)


def stochastic_weight_averaging(run):
    """torch's own averaged model, fed from the third step on, its batch statistics renewed at the end."""
    x, y, *_ = load(run)
    model = small_net()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        optimizer.step()
        if step >= 2:
            averaged.update_parameters(model)
    torch.optim.swa_utils.update_bn(x.split(8), averaged)
    torch.save(averaged.state_dict(), Path(run.workdir) / "averaged.pt")


def alternating(run):
    """Encoder and head take turns: each optimizer steps every other batch only."""
    x, y, *_ = load(run)
    model = small_net()
    turns = [torch.optim.Adam(model[:2].parameters(), 1e-3), torch.optim.SGD(model[5:].parameters(), 0.1)]
    for step, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        model.zero_grad()
        bce(model, xb, yb).backward()
        turns[step % 2].step()


def sharpness_aware(run):
    """Two backward passes per step: climb to a neighbor, take the gradient there, come back, step."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm() + 1e-12
            moves = [0.05 * p.grad / norm for p in model.parameters()]
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter += move
        optimizer.zero_grad()
        bce(model, xb, yb).backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter -= move
        optimizer.step()
