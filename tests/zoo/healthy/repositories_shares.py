"""Several losses, several copies, several threads: what is weighed, split and fetched ahead."""

import copy
import queue
import threading

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.repositories_data import CLASSES, Pictures, accuracy, pictures, seed_everything
from zoo.healthy.repositories_optimizers import convnet, evaluate, loaders


def uncertainty(run):
    """Weights of three tasks are learned as log variances; two validation sets, each with metrics of its own."""
    seed_everything(run.seed)
    train, clean, shifted = Pictures(48), Pictures(16, start=1), Pictures(16, start=2)
    shifted.x = shifted.x * 1.5 + 0.3
    trunk, heads = convnet(classes=12), nn.ModuleList([nn.Linear(12, CLASSES), nn.Linear(12, 1), nn.Linear(12, 2)])
    log_vars = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW(
        [
            {"params": [*trunk.parameters(), *heads.parameters()]},
            {"params": [log_vars], "weight_decay": 0.0, "lr": 1e-2},
        ],
        lr=2e-3,
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=1)
    best = {"clean": -1.0, "shifted": float("inf")}
    done = 0
    while done < run.max_steps:
        for x, y in DataLoader(train, batch_size=6, shuffle=True):
            h = trunk(x)
            corner = torch.stack([x[:, 0, :4].mean((1, 2)), x[:, 0, 4:].mean((1, 2))], 1)
            losses = torch.stack(
                [
                    F.cross_entropy(heads[0](h), y),
                    F.mse_loss(heads[1](h)[:, 0], x.std((1, 2, 3))),
                    F.smooth_l1_loss(heads[2](h), corner),
                ]
            )
            loss = (losses * torch.exp(-log_vars) + log_vars).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trunk.parameters(), 1.0)
            optimizer.step()
            done += 1
            if done % 4 == 0 or done == run.max_steps:
                trunk.eval(), heads.eval()
                with torch.no_grad():
                    x, y = next(iter(DataLoader(clean, batch_size=16)))
                    right = accuracy(heads[0](trunk(x)), y)
                    x, _ = next(iter(DataLoader(shifted, batch_size=16)))
                    error = (heads[1](trunk(x))[:, 0] - x.std((1, 2, 3))).abs().mean().item()
                trunk.train(), heads.train()
                scheduler.step(right)
                if right > best["clean"]:
                    best["clean"] = right
                    torch.save(
                        {"trunk": trunk.state_dict(), "heads": heads.state_dict(), "log_vars": log_vars.detach()},
                        run.workdir / "best_clean.pt",
                    )
                if error < best["shifted"]:
                    best["shifted"] = error
                    torch.save(
                        {"trunk": trunk.state_dict(), "heads": heads.state_dict(), "log_vars": log_vars.detach()},
                        run.workdir / "best_shifted.pt",
                    )
            if done == run.max_steps:
                break


def curriculum(run):
    """Easy samples first, by the loss of a small scout; each carries a weight; the pool grows."""
    seed_everything(run.seed)
    x, y = pictures(64)
    scout = nn.Linear(64, CLASSES)
    scout_optimizer = torch.optim.LBFGS(scout.parameters(), max_iter=5)

    def closure():
        scout_optimizer.zero_grad()
        loss = F.cross_entropy(scout(x.flatten(1)), y)
        loss.backward()
        return loss

    scout_optimizer.step(closure)
    with torch.no_grad():
        difficulty = F.cross_entropy(scout(x.flatten(1)), y, reduction="none")
    order = difficulty.argsort()
    model = convnet()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    step = 0
    for share in np.linspace(0.4, 1.0, 4).repeat(8):
        pool = order[: int(share * 64)]
        loader = DataLoader(TensorDataset(x[pool], y[pool], 1 / (1 + difficulty[pool])), batch_size=12, shuffle=True)
        for images, labels, weight in loader:
            loss = (F.cross_entropy(model(images), labels, reduction="none") * weight).sum() / weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step >= run.max_steps:
                torch.save(model.state_dict(), run.workdir / "curriculum.pt")
                return


def replicas(run):
    """Data parallelism by hand: two copies, a shard each, gradients averaged into the first, weights copied back."""
    seed_everything(run.seed)
    train_loader, val_loader = loaders(batch=12)
    master = convnet()
    copies = [master, copy.deepcopy(master)]
    optimizer = torch.optim.SGD(master.parameters(), lr=0.05, momentum=0.9)
    step = 0
    while step < run.max_steps:
        for x, y in train_loader:
            for replica, xs, ys in zip(copies, x.chunk(2), y.chunk(2), strict=True):
                replica.zero_grad()
                F.cross_entropy(replica(xs), ys).backward()
            with torch.no_grad():
                for p, q in zip(*(replica.parameters() for replica in copies), strict=True):
                    p.grad.add_(q.grad).div_(2)
            optimizer.step()
            with torch.no_grad():
                for p, q in zip(*(replica.parameters() for replica in copies), strict=True):
                    q.copy_(p)
            step += 1
            if step == run.max_steps:
                break
        print(evaluate(master, val_loader))
    torch.save(master.state_dict(), run.workdir / "master.pt")


def prefetched(run):
    """A thread cuts batches into a bounded queue; blocks are recomputed, compiled eagerly, in bfloat16; the last group is short."""
    seed_everything(run.seed)
    x, y = pictures(50)
    ready = queue.Queue(maxsize=2)
    stop = threading.Event()

    def produce():
        rng = np.random.default_rng(run.seed)
        while not stop.is_set():
            order = rng.permutation(len(x))
            for start in range(0, len(x), 10):
                ready.put((x[order[start : start + 10]], y[order[start : start + 10]], start + 10 >= len(x)))
                if stop.is_set():
                    return

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
            self.drop = nn.Dropout(0.1)

        def forward(self, h):
            return h + self.drop(self.down(F.gelu(self.up(self.norm(h)))))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks, self.head = (
                nn.Linear(64, 32),
                nn.ModuleList([Block(), Block()]),
                nn.Linear(32, CLASSES),
            )

        def forward(self, image):
            h = self.stem(image.flatten(1))
            for block in self.blocks:
                h = checkpoint(block, h, use_reentrant=False) if self.training else block(h)
            return self.head(h)

    net = Net()
    model = torch.compile(net, backend="eager")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    steps = waiting = 0
    while steps < run.max_steps:
        images, labels, last = ready.get()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        # Five batches make groups of two, two and one.
        (loss / (1 if last else 2)).backward()
        waiting += 1
        if waiting == 2 or last:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            steps, waiting = steps + 1, 0
    stop.set()
    while thread.is_alive():
        while not ready.empty():
            ready.get()
        thread.join(0.05)
    torch.save(net.state_dict(), run.workdir / "net.pt")
