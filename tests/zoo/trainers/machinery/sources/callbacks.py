# ruff: noqa: B905 (in the style of scripts found elsewhere)
"""A class with callbacks: accumulation, bfloat16 autocast, a gradient scaler, EMA, warm-up and cosine, exact resume."""

import copy
import math
import os
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler


class Windows(Dataset):
    def __init__(self, subjects, per_subject=8, channels=4, length=96):
        self.items = []
        for subject in subjects:
            rng = np.random.default_rng(1000 + subject)
            for i in range(per_subject):
                x = rng.normal(size=(channels, length)).astype("float32")
                y = (i + subject) % 2
                if y:
                    x[:2] += np.sin(np.arange(length) / 3.0 + rng.uniform(0, 6)).astype("float32") * 1.5
                self.items.append((torch.from_numpy(x), torch.tensor(float(y))))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class EpochSampler(Sampler):
    def __init__(self, n, seed):
        self.n, self.seed, self.epoch, self.skip = n, seed, 0, 0

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed * 7919 + self.epoch)
        order = torch.randperm(self.n, generator=g).tolist()[self.skip :]
        self.skip = 0
        return iter(order)

    def __len__(self):
        return self.n - self.skip


class Block(nn.Module):
    def __init__(self, cin, cout, p):
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 5, padding=2)
        self.norm = nn.GroupNorm(2, cout)
        self.skip = nn.Conv1d(cin, cout, 1)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        h = self.drop(torch.relu(self.norm(self.conv(x))))
        return h + self.skip(x)


class Net(nn.Module):
    def __init__(self, channels=4, width=8, depth=2, p=0.1):
        super().__init__()
        self.stem = nn.Conv1d(channels, width, 7, padding=3)
        self.blocks = nn.ModuleList([Block(width, width, p) for _ in range(depth)])
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.2)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        h = h.transpose(1, 2)
        pooled, _ = self.attn(self.query.expand(len(x), -1, -1), h, h)
        return self.head(pooled[:, 0]).squeeze(-1)


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.module = copy.deepcopy(model).eval()
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for a, b in zip(self.module.parameters(), model.parameters()):
            a.mul_(self.decay).add_(b.detach(), alpha=1 - self.decay)
        for a, b in zip(self.module.buffers(), model.buffers()):
            a.copy_(b)


class Callback:
    def on_step_end(self, engine):
        pass

    def on_epoch_end(self, engine):
        pass


class EMACallback(Callback):
    def on_step_end(self, engine):
        engine.ema.update(engine.model)


class CheckpointCallback(Callback):
    def __init__(self, folder, keep=2):
        self.folder, self.keep = Path(folder), keep

    def on_step_end(self, engine):
        if engine.step % 3 == 0 or engine.step >= engine.max_steps:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"step{engine.step:06d}.pt"
            temporary = path.with_suffix(".tmp")
            torch.save(engine.state(), temporary)
            os.replace(temporary, path)
            for old in sorted(self.folder.glob("step*.pt"))[: -self.keep]:
                old.unlink()


class Engine:
    def __init__(self, run, accumulate=2, lr=3e-3, decay=0.9, clip=1.0, total=40, warmup=4):
        self.max_steps, self.accumulate, self.clip = run.max_steps, accumulate, clip
        random.seed(run.seed)
        np.random.seed(run.seed)
        torch.manual_seed(run.seed)
        self.train_set = Windows(range(3))
        self.val_set = Windows(range(3, 5))
        self.sampler = EpochSampler(len(self.train_set), run.seed)
        self.loader = DataLoader(self.train_set, batch_size=4, sampler=self.sampler, generator=torch.Generator())
        self.val_loader = DataLoader(self.val_set, batch_size=8)
        self.model = Net()
        self.ema = EMA(self.model, decay)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=lr
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda s: (
                (s + 1) / warmup
                if s < warmup
                else 0.5 * (1 + math.cos(math.pi * min(1.0, (s - warmup) / (total - warmup))))
            ),
        )
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=4)
        self.loss_fn = nn.BCEWithLogitsLoss()
        self.step, self.epoch, self.batch, self.best = 0, 0, 0, float("inf")
        self.history = []
        self.callbacks = [EMACallback(), CheckpointCallback(run.workdir / "checkpoints")]
        if run.resume_from is not None:
            self.load(run.resume_from)

    def state(self):
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "best": self.best,
            "rng": {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
        }

    def load(self, path):
        state = torch.load(path, map_location="cpu", weights_only=False)
        self.model.load_state_dict(state["model"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.batch, self.best = state["step"], state["epoch"], state["batch"], state["best"]
        torch.set_rng_state(state["rng"]["torch"])
        np.random.set_state(state["rng"]["numpy"])
        random.setstate(state["rng"]["python"])

    def emit(self, name):
        for callback in self.callbacks:
            getattr(callback, name)(self)

    def backward(self, x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(x)
            loss = self.loss_fn(logits.float(), y)
        self.scaler.scale(loss / self.accumulate).backward()
        return loss.item()

    def update(self):
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def train_epoch(self):
        self.model.train()
        self.sampler.epoch = self.epoch
        self.sampler.skip = self.batch * 4
        for x, y in self.loader:
            noise = torch.randn_like(x) * 0.05
            value = self.backward(x + noise, y)
            self.history.append(value)
            self.batch += 1
            if self.batch % self.accumulate == 0:
                self.update()
                self.emit("on_step_end")
            if self.step >= self.max_steps:
                return
        self.batch = 0
        self.validate()
        self.epoch += 1
        self.emit("on_epoch_end")

    @torch.no_grad()
    def validate(self):
        model = self.ema.module
        model.eval()
        total, seen = 0.0, 0
        for x, y in self.val_loader:
            total += self.loss_fn(model(x), y).item() * len(x)
            seen += len(x)
        self.best = min(self.best, total / seen)

    def fit(self):
        while self.step < self.max_steps:
            self.train_epoch()


def train(run):
    Engine(run).fit()
