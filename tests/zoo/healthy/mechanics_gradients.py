"""Healthy trainers whose gradients take unusual ways from the loss to the step."""

import math
import os

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset

from zoo.healthy.patients import read


class Windows(Dataset):
    """Windows of some patients with the mask of each sample."""

    def __init__(self, run, numbers):
        self.x, self.y, self.mask = (torch.from_numpy(part) for part in read(run, numbers))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return {"signal": self.x[row], "mask": self.mask[row], "row": row}


class Tagger(nn.Module):
    """A probability per sample, as a logit."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv1d(4, 8, 7, padding=3)
        self.gn = nn.GroupNorm(2, 8)
        self.b = nn.Conv1d(8, 8, 7, padding=3)
        self.out = nn.Conv1d(8, 1, 1)

    def forward(self, x):
        h = F.relu(self.gn(self.a(x)))
        return self.out(h + F.relu(self.b(h))).squeeze(1)


class Shuffled:
    """A batch sampler that can be put to any position: the order depends on seed and epoch alone."""

    def __init__(self, size, batch, seed):
        self.size, self.batch, self.seed, self.epoch, self.skip = size, batch, seed, 0, 0

    def __iter__(self):
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed + 31 * self.epoch))
        batches = [part.tolist() for part in order.split(self.batch)]
        skip, self.skip = self.skip, 0
        yield from batches[skip:]

    def __len__(self):
        return math.ceil(self.size / self.batch)


def validate(model, loader):
    model.eval()
    hit = total = 0
    with torch.inference_mode():
        for batch in loader:
            guess = model(batch["signal"]) > 0
            hit += int((guess == (batch["mask"] > 0)).sum())
            total += batch["mask"].numel()
    model.train()
    return hit / total


def loaders(run, batch):
    train, held = Windows(run, range(4)), Windows(run, (4, 5))
    sampler = Shuffled(len(train), batch, run.seed)
    return DataLoader(train, batch_sampler=sampler), sampler, DataLoader(held, batch_size=8)


def write(path, state):
    torch.save(state, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


def by_tokens(run):
    """Losses are sums over valid samples, divided by the number of valid samples of the whole accumulation."""
    torch.manual_seed(run.seed)
    train, held = Windows(run, range(4)), Windows(run, (4, 5))
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    while step < run.max_steps:
        draw = torch.Generator().manual_seed(1000 * run.seed + step)
        rows = torch.randperm(len(train), generator=draw)[:12].tolist()
        micro = [DataLoader(train, sampler=rows[k : k + 4], batch_size=4) for k in (0, 4, 8)]
        batches = [batch for loader in micro for batch in loader]
        valid = [torch.rand(batch["mask"].shape, generator=draw) > 0.25 for batch in batches]
        total = sum(int(v.sum()) for v in valid)
        optimizer.zero_grad()
        for batch, keep in zip(batches, valid, strict=True):
            loss = F.binary_cross_entropy_with_logits(model(batch["signal"]), batch["mask"], reduction="none")
            ((loss * keep).sum() / total).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            score = validate(model, DataLoader(held, 8))
            write(
                run.workdir / f"at{step}.pt",
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "score": score},
            )


def scaled_before_step(run):
    """The accumulated gradient is scaled, not the loss, and the accumulation grows: 1, 1, 2, 2, 3, 3."""
    torch.manual_seed(run.seed)
    loader, sampler, held = loaders(run, 4)
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = position = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, position = state["step"], state["position"]
    sampler.epoch, sampler.skip = divmod(position, len(sampler))
    stream = iter(loader)
    while step < run.max_steps:
        wanted = 1 + step // 2
        for _ in range(wanted):
            batch = next(stream, None)
            if batch is None:
                sampler.epoch += 1
                stream = iter(loader)
                batch = next(stream)
            position += 1
            F.binary_cross_entropy_with_logits(model(batch["signal"]), batch["mask"]).backward()
        for p in model.parameters():
            p.grad.div_(wanted)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 3 == 0:
            write(
                run.workdir / "grow.pt",
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "position": position,
                },
            )
    print(validate(model, held))


def every_second(run):
    """Every second batch is only measured: its gradient gives the noise scale, is put aside and never stepped."""
    torch.manual_seed(run.seed)
    loader, sampler, held = loaders(run, 4)
    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = number = 0
    while step < run.max_steps:
        for batch in loader:
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(batch["signal"]), batch["mask"])
            loss.backward()
            number += 1
            if number % 2 == 0:
                print("gradient", float(torch.stack([p.grad.norm() for p in model.parameters()]).norm()))
                continue
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        sampler.epoch += 1
    print(validate(model, held))
    torch.save(model.state_dict(), run.workdir / "model.pt")


def half_scaler(run):
    """float16 autocast on the CPU, scaler, unscale, clip; accumulation of two; two optimizers with one scaler."""
    torch.manual_seed(run.seed)
    loader, sampler, held = loaders(run, 4)
    model = Tagger()
    body = torch.optim.AdamW([*model.a.parameters(), *model.gn.parameters(), *model.b.parameters()], lr=1e-3)
    head = torch.optim.SGD(model.out.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
    step = position = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        body.load_state_dict(state["body"])
        head.load_state_dict(state["head"])
        scaler.load_state_dict(state["scaler"])
        step, position = state["step"], state["position"]
    while step < run.max_steps:
        sampler.epoch, sampler.skip = divmod(position, len(sampler))
        for batch in loader:
            with torch.autocast("cpu", dtype=torch.float16):
                out = model(batch["signal"])
            loss = F.binary_cross_entropy_with_logits(out.float(), batch["mask"]) / 2
            scaler.scale(loss).backward()
            position += 1
            if position % 2:
                continue
            scaler.unscale_(body)
            scaler.unscale_(head)
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            scaler.step(body)
            scaler.step(head)
            scaler.update()
            body.zero_grad()
            head.zero_grad()
            step += 1
            if step % 2 == 0:
                write(
                    run.workdir / "amp.pt",
                    {
                        "model": model.state_dict(),
                        "body": body.state_dict(),
                        "head": head.state_dict(),
                        "scaler": scaler.state_dict(),
                        "step": step,
                        "position": position,
                    },
                )
            if step == run.max_steps:
                break
    with torch.autocast("cpu", dtype=torch.float16):
        print(validate(model, held))


def pcgrad(run):
    """Two tasks whose conflicting gradients are projected by hand and written into ``.grad``."""
    torch.manual_seed(run.seed)
    train = Windows(run, range(4))
    trunk, tag, count = Tagger(), nn.Conv1d(1, 1, 9, padding=4), nn.Linear(64, 2)
    parts = nn.ModuleDict({"trunk": trunk, "tag": tag, "count": count})
    optimizer = torch.optim.Adam(parts.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    shared = list(trunk.parameters())
    while step < run.max_steps:
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(run.seed * 100 + step))[:8]
        x, y, mask = train.x[rows], train.y[rows], train.mask[rows]
        h = trunk(x)
        one = F.binary_cross_entropy_with_logits(tag(h.unsqueeze(1)).squeeze(1), mask)
        two = F.cross_entropy(count(h), y)
        a = torch.autograd.grad(one, [*shared, *tag.parameters()], retain_graph=True)
        b = torch.autograd.grad(two, [*shared, *count.parameters()])
        fa = torch.cat([g.flatten() for g in a[: len(shared)]])
        fb = torch.cat([g.flatten() for g in b[: len(shared)]])
        dot = fa @ fb
        total = fa + fb
        if dot < 0:
            total = fa - dot / fb.square().sum() * fb + fb - dot / fa.square().sum() * fa
        offset = 0
        for p in shared:
            p.grad = total[offset : offset + p.numel()].view_as(p).clone()
            offset += p.numel()
        for p, g in zip(tag.parameters(), a[len(shared) :], strict=True):
            p.grad = g
        for p, g in zip(count.parameters(), b[len(shared) :], strict=True):
            p.grad = g
        optimizer.step()
        step += 1
        if step % 2 == 0:
            write(
                run.workdir / "tasks.pt",
                {"parts": parts.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )


class Reverse(torch.autograd.Function):
    """Identity whose gradient is turned round."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.weight * g, None


def adversarial(run):
    """Domain-adversarial: labels of two hospitals zipped with unlabelled windows of a third, gradient reversed."""
    torch.manual_seed(run.seed)
    source, other = Windows(run, (0, 1)), Windows(run, (2, 3))
    held = DataLoader(Windows(run, (4, 5)), batch_size=8)
    encoder = nn.Sequential(nn.Conv1d(4, 8, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten())
    label, domain = nn.Linear(32, 1), nn.Linear(32, 1)
    everything = nn.ModuleList([encoder, label, domain])
    optimizer = torch.optim.Adam(everything.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        everything.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    each = 4
    while step < run.max_steps:
        a = DataLoader(source, batch_sampler=_at(len(source), run.seed, step // each))
        b = DataLoader(other, batch_sampler=_at(len(other), run.seed + 50, step // each))
        for number, (s, t) in enumerate(zip(a, b, strict=True)):
            if number < step % each:
                continue
            fs, ft = encoder(s["signal"]), encoder(t["signal"])
            ys = (s["mask"].amax(1) > 0).float()
            task = F.binary_cross_entropy_with_logits(label(fs).squeeze(1), ys)
            both = Reverse.apply(torch.cat([fs, ft]), 0.1 * step / 6)
            where = torch.cat([torch.zeros(len(fs)), torch.ones(len(ft))])
            confusion = F.binary_cross_entropy_with_logits(domain(both).squeeze(1), where)
            optimizer.zero_grad()
            (task + confusion).backward()
            optimizer.step()
            step += 1
            if step % 2 == 0:
                write(
                    run.workdir / "dann.pt",
                    {"model": everything.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
                )
            if step == run.max_steps or step % each == 0:
                break
    everything.eval()
    with torch.no_grad():
        for batch in held:
            label(encoder(batch["signal"]))


def _at(size, seed, epoch):
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
    return list(BatchSampler(order, 4, drop_last=True))


def meta(run):
    """Model-agnostic meta-learning: an inner step per patient by functional_call, the outer loss on other windows."""
    torch.manual_seed(run.seed)
    patients = [Windows(run, (number,)) for number in range(4)]
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    while step < run.max_steps:
        optimizer.zero_grad()
        for patient in patients:
            order = torch.randperm(8, generator=torch.Generator().manual_seed(run.seed * 10 + step))
            weights = dict(model.named_parameters())
            inner = F.binary_cross_entropy_with_logits(
                torch.func.functional_call(model, weights, (patient.x[order[:4]],)), patient.mask[order[:4]]
            )
            slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            adapted = {name: w - 0.05 * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
            outer = F.binary_cross_entropy_with_logits(
                torch.func.functional_call(model, adapted, (patient.x[order[4:]],)), patient.mask[order[4:]]
            )
            (outer / len(patients)).backward()
        optimizer.step()
        step += 1
        if step % 3 == 0:
            write(
                run.workdir / "maml.pt",
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )
