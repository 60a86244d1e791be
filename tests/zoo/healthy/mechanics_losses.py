"""Healthy trainers with hand-written or odd losses, each fed in a way of its own."""

import os
import queue
import threading

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    get_worker_info,
)

from zoo.healthy.patients import read


def write(path, state):
    torch.save(state, f"{path}~")
    os.replace(f"{path}~", path)


class Held(Dataset):
    def __init__(self, run, numbers):
        self.x, self.y, self.mask = (torch.from_numpy(part) for part in read(run, numbers))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], self.y[row], self.mask[row]


def dense():
    return nn.Sequential(nn.Conv1d(4, 8, 9, padding=4), nn.LeakyReLU(), nn.Conv1d(8, 1, 9, padding=4), nn.Flatten())


def negative(run):
    """Two views of a window by a seeded generator, minus a cosine, stop-gradient on one side: no labels at all."""
    torch.manual_seed(run.seed)
    train = Held(run, range(4))
    encoder = nn.Sequential(
        nn.Conv1d(4, 8, 9, stride=2), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    )
    predict = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
    both = nn.ModuleDict({"encoder": encoder, "predict": predict})
    optimizer = torch.optim.SGD(both.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    views = torch.Generator().manual_seed(run.seed + 11)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        both.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        views.set_state(state["views"])
        step = state["step"]

    def view(x):
        scale = 1 + 0.2 * torch.randn(len(x), 4, 1, generator=views)
        shift = int(torch.randint(-8, 9, (1,), generator=views))
        return (x * scale).roll(shift, -1)

    while step < run.max_steps:
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(run.seed * 77 + step))[:16]
        za, zb = encoder(view(train.x[rows])), encoder(view(train.x[rows]))
        loss = -F.cosine_similarity(predict(za), zb.detach()).mean() / 2
        loss = loss - F.cosine_similarity(predict(zb), za.detach()).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            print(step, loss.item())
            write(
                run.workdir / "views.pt",
                {
                    "model": both.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "views": views.get_state(),
                    "step": step,
                },
            )


def policy(run):
    """A gate chooses channels; score-function gradients by a surrogate whose value is always minus the reward."""
    torch.manual_seed(run.seed)
    train = Held(run, range(4))
    gate = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    head = nn.Linear(4, 2)
    agent = nn.ModuleList([gate, head])
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    dice = torch.Generator().manual_seed(run.seed + 2)
    step, baseline = 0, 0.0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        agent.load_state_dict(state["agent"])
        optimizer.load_state_dict(state["optimizer"])
        dice.set_state(state["dice"])
        baseline, step = state["baseline"], state["step"]
    while step < run.max_steps:
        rows = torch.randint(len(train), (8,), generator=dice)
        power = train.x[rows].square().mean(-1).log()
        chance = torch.sigmoid(gate(power))
        keep = (torch.rand(chance.shape, generator=dice) < chance).float()
        out = head(power * keep)
        each = F.cross_entropy(out, train.y[rows], reduction="none")
        log_chance = (keep * chance.log() + (1 - keep) * (1 - chance).log()).sum(1)
        gain = -each.detach()
        magic = torch.exp(log_chance - log_chance.detach())
        loss = -(magic * (gain - baseline)).mean() + each.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        baseline = 0.9 * baseline + 0.1 * float(gain.mean())
        step += 1
        if step % 3 == 0:
            write(
                run.workdir / "agent.pt",
                {
                    "agent": agent.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "dice": dice.get_state(),
                    "baseline": baseline,
                    "step": step,
                },
            )


def balanced_tasks(run):
    """GradNorm: the weights of two losses learn by an optimizer of their own from the norms of their gradients."""
    torch.manual_seed(run.seed)
    train, held = Held(run, range(4)), Held(run, (4, 5))
    trunk = nn.Sequential(nn.Conv1d(4, 8, 9, padding=4), nn.ReLU())
    tag, count = nn.Conv1d(8, 1, 1), nn.Linear(8, 2)
    net = nn.ModuleDict({"trunk": trunk, "tag": tag, "count": count})
    share = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    balance = torch.optim.Adam([share], lr=0.02)
    first = None
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        balance.load_state_dict(state["balance"])
        share.data.copy_(state["share"])
        first, step = state["first"], state["step"]
    while step < run.max_steps:
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(run.seed * 7 + step))[:8]
        h = trunk(train.x[rows])
        losses = torch.stack(
            [
                F.binary_cross_entropy_with_logits(tag(h).squeeze(1), train.mask[rows]),
                F.cross_entropy(count(h.mean(-1)), train.y[rows]),
            ]
        )
        first = losses.detach() if first is None else first
        norms = torch.stack(
            [torch.autograd.grad(share[k] * losses[k], trunk[0].weight, create_graph=True)[0].norm() for k in range(2)]
        )
        pace = losses.detach() / first
        aim = (norms.mean() * (pace / pace.mean()) ** 1.5).detach()
        (share.grad,) = torch.autograd.grad((norms - aim).abs().sum(), share, retain_graph=True)
        optimizer.zero_grad()
        (share.detach() * losses).sum().backward()
        optimizer.step()
        balance.step()
        with torch.no_grad():
            share.mul_(2 / share.sum())
        step += 1
        if step % 2 == 0:
            net.eval()
            with torch.no_grad():
                print([float(x) for x in share], float(tag(trunk(held.x)).mean()))
            net.train()
            write(
                run.workdir / "gradnorm.pt",
                {
                    "net": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "balance": balance.state_dict(),
                    "share": share.detach(),
                    "first": first,
                    "step": step,
                },
            )


def lengths(run):
    """Windows of many lengths in buckets, padded by the collate, masked; loss summed over time, averaged over windows."""
    torch.manual_seed(run.seed)
    full = Held(run, range(4))
    size = [24 + (k * 11) % 40 for k in range(len(full))]

    class Cut(Dataset):
        def __len__(self):
            return len(full)

        def __getitem__(self, row):
            return full.x[row, :, : size[row]], full.mask[row, : size[row]]

    class Buckets:
        def __init__(self):
            self.start = 0

        def __iter__(self):
            for epoch in range(self.start // 4, 1000):
                draw = torch.Generator().manual_seed(run.seed + 13 * epoch)
                rows = sorted(range(len(full)), key=lambda k: size[k])
                groups = [rows[k : k + 8] for k in range(0, len(rows), 8)]
                for place, k in enumerate(torch.randperm(len(groups), generator=draw).tolist()):
                    if epoch * 4 + place >= self.start:
                        yield groups[k]

    def pad(parts):
        longest = max(x.shape[-1] for x, _ in parts)
        x = torch.stack([F.pad(x, (0, longest - x.shape[-1])) for x, _ in parts])
        y = torch.stack([F.pad(m, (0, longest - len(m)), value=-1.0) for _, m in parts])
        return x, y, torch.tensor([len(m) for _, m in parts])

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(4, 8, batch_first=True, bidirectional=True)
            self.out = nn.Linear(16, 1)

        def forward(self, x, n):
            packed = nn.utils.rnn.pack_padded_sequence(x.transpose(1, 2), n, batch_first=True, enforce_sorted=False)
            h, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
            return self.out(h).squeeze(-1)

    model = Recurrent()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    buckets = Buckets()
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = buckets.start = state["step"]
    for x, y, n in DataLoader(Cut(), batch_sampler=buckets, collate_fn=pad):
        valid = y >= 0
        each = F.binary_cross_entropy_with_logits(model(x, n), y.clamp(min=0), reduction="none")
        loss = (each * valid).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        if step % 3 == 0:
            write(
                run.workdir / "buckets.pt",
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
            )
        if step == run.max_steps:
            break


class Shards(IterableDataset):
    """Each worker reads its own share of the patients and augments with a generator of its own."""

    def __init__(self, run, numbers, endless):
        self.run, self.numbers, self.endless = run, numbers, endless

    def __iter__(self):
        info = get_worker_info()
        mine = self.numbers[info.id :: info.num_workers] if info else self.numbers
        draw = np.random.default_rng([self.run.seed, info.id if info else 0])
        while True:
            for number in mine:
                x, _, mask = read(self.run, (number,))
                for row in draw.permutation(len(x)) if self.endless else range(len(x)):
                    gain = draw.uniform(0.8, 1.25) if self.endless else 1.0
                    yield torch.from_numpy(x[row] * np.float32(gain)), torch.from_numpy(mask[row])
            if not self.endless:
                return


def sharded(run):
    """An endless stream from two workers, a thread that prefetches, validation on a fresh part each time."""
    torch.manual_seed(run.seed)
    model = dense()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(Shards(run, [0, 1, 2, 3], True), batch_size=8, num_workers=2)
    box = queue.Queue(maxsize=2)
    enough = threading.Event()

    def fetch():
        for batch in loader:
            while not enough.is_set():
                try:
                    box.put(batch, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if enough.is_set():
                return

    held = Held(run, (4, 5))  # before the workers are forked: reading imports, and a lock held then is held for ever
    thread = threading.Thread(target=fetch)
    thread.start()
    try:
        for step in range(1, run.max_steps + 1):
            x, mask = box.get()
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(x), mask).backward()
            optimizer.step()
            if step % 2 == 0:
                part = Subset(held, range(step % 3, len(held), 3))
                model.eval()
                with torch.no_grad():
                    for x, _, m in DataLoader(part, batch_size=3):
                        print(step, float(F.binary_cross_entropy_with_logits(model(x), m)))
                model.train()
    finally:
        enough.set()
        thread.join()
    torch.save(model.state_dict(), run.workdir / "last.pt")


def cached(run):
    """A memory map that the first epoch fills and later epochs read; batches assembled by hand, no loader."""
    torch.manual_seed(run.seed)
    path = run.workdir / "cache.f32"
    count = 32
    fresh = not path.exists()
    store = np.memmap(path, np.float32, "w+" if fresh else "r+", shape=(count, 4, 64))
    filled = np.zeros(count, bool)
    x, y, _ = read(run, range(4))
    vx, vy, _ = (torch.from_numpy(part) for part in read(run, (4, 5)))

    def window(row):
        if not filled[row]:
            store[row] = (x[row] - x[row].mean(-1, keepdims=True)) / x[row].std(-1, keepdims=True)
            filled[row] = True
        return store[row]

    model = nn.Sequential(dense(), nn.Linear(64, 2))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        plateau.load_state_dict(state["plateau"])
        step = state["step"]
    while step < run.max_steps:
        epoch, place = divmod(step, 2)
        order = np.random.default_rng([run.seed, epoch]).permutation(count)
        rows = order[place * 16 : place * 16 + 16]
        batch = torch.from_numpy(np.stack([window(row) for row in rows]))
        optimizer.zero_grad()
        F.cross_entropy(model(batch), torch.from_numpy(y[rows])).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            model.eval()
            with torch.no_grad():
                level = (vx - vx.mean(-1, keepdim=True)) / vx.std(-1, keepdim=True, correction=0)
                loss = float(F.cross_entropy(model(level), vy))
            model.train()
            plateau.step(loss)
            write(
                run.workdir / "state.pt",
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "plateau": plateau.state_dict(),
                    "step": step,
                },
            )
