"""Accelerate: a probability for every quarter of a second, from windows that are read when they are needed."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from torch.utils.data import DataLoader, Dataset, Sampler

RATE = 32
WINDOW = 128
HOP = 8  # samples per label
TRAIN_SITES = {"north": ("s01", "s02", "s03"), "south": ("s01", "s02", "s03")}
VAL_SITES = {"east": ("s01", "s02", "s03")}


def prepare(run):
    """Two sites to train on, one to validate on; one array and one table of events and bad stretches per recording."""
    for number, site in enumerate(("north", "south", "east")):
        folder = Path(run.workdir) / "corpus" / site
        folder.mkdir(parents=True, exist_ok=True)
        for subject in range(1, 4):
            rng = np.random.default_rng(100 * number + subject)
            n = RATE * int(rng.integers(22, 27))
            t = np.arange(n) / RATE
            x = 15 * np.sin(2 * np.pi * (7 + rng.normal()) * t + rng.uniform(0, 6, (5, 1))) + rng.normal(0, 8, (5, n))
            rows = []
            if run.data != "no_positives":
                onset = float(rng.uniform(4, 14))
                rows.append(("seiz", onset, onset + 5.3))
                x[:, (t >= onset) & (t < onset + 5.3)] *= 4
            bad = float(rng.uniform(0, 18))
            rows.append(("artf", bad, bad + 2.2))
            x[:, (t >= bad) & (t < bad + 2.2)] += rng.normal(0, 200, (5, 1))
            if run.data == "non_finite" and subject < 3:
                x[2, 150:600] = np.nan
            np.save(folder / f"s{subject:02d}_eeg.npy", x.astype(np.float32))
            with open(folder / f"s{subject:02d}_events.csv", "w", newline="") as file:
                csv.writer(file).writerows([("kind", "start", "stop"), *rows])


def read_events(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [(row["kind"], float(row["start"]), float(row["stop"])) for row in csv.DictReader(file)]


def to_mask(events, kind, n):
    mask = np.zeros(n, np.float32)
    for name, start, stop in events:
        if name == kind:
            mask[round(start * RATE) : round(stop * RATE)] = 1
    return mask


class LazyWindows(Dataset):
    """Windows without overlap; the last one of a recording is padded."""

    def __init__(self, corpus, sites):
        self.index = []
        self.events = {}
        for site, subjects in sites.items():
            for subject in subjects:
                path = corpus / site / f"{subject}_eeg.npy"
                n = np.load(path, mmap_mode="r").shape[1]
                self.events[path] = read_events(path.with_name(f"{subject}_events.csv"))
                for k in range(math.ceil(n / WINDOW)):
                    self.index.append((path, k * WINDOW))

    def __len__(self):
        return len(self.index)

    def read(self, path, start):
        x = np.load(path, mmap_mode="r")
        return np.array(x[:, start : start + WINDOW]), x.shape[1]

    def __getitem__(self, i):
        path, start = self.index[i]
        x, n = self.read(path, start)
        if not np.isfinite(x).all():
            raise ValueError(f"{path}: not finite")
        events = self.events[path]
        y = to_mask(events, "seiz", n)[start : start + WINDOW]
        valid = 1 - to_mask(events, "artf", n)[start : start + WINDOW]
        x = np.clip(x / 30.0, -10, 10)
        short = WINDOW - x.shape[1]
        x = np.pad(x, ((0, 0), (0, short)))
        y, valid = np.pad(y, (0, short)), np.pad(valid, (0, short))
        y = y.reshape(-1, HOP).mean(1)
        valid = valid.reshape(-1, HOP).min(1)
        return {"x": torch.from_numpy(x), "y": torch.from_numpy(y), "valid": torch.from_numpy(valid)}


class EpochShuffle(Sampler):
    def __init__(self, n, seed):
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist())


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv1d(a, b, 5, padding=2)
        self.norm = nn.BatchNorm1d(b)

    def forward(self, x):
        return F.gelu(self.norm(self.conv(x)))


class UNet(nn.Module):
    def __init__(self, channels=5, width=12, dropout=0.2):
        super().__init__()
        self.down1 = Block(channels, width)
        self.down2 = Block(width, 2 * width)
        self.middle = nn.ModuleList([Block(2 * width, 2 * width) for _ in range(2)])
        self.skip = nn.Conv1d(width, width, 1)
        self.up1 = nn.ConvTranspose1d(2 * width, width, 4, stride=4)
        self.join = Block(2 * width, width)
        self.out = nn.Conv1d(width, 1, 1)
        self.dropout = dropout

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool1d(a, 4))
        for block in self.middle:
            b = b + block(b)
        b = F.dropout(b, self.dropout, self.training)
        u = self.up1(b)
        u = self.join(torch.cat([u, self.skip(a)], dim=1))
        logits = self.out(u).squeeze(1)
        return F.avg_pool1d(logits, HOP)


def masked_bce(logits, y, valid):
    loss = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp_min(1)


def f1_at(p, y, threshold):
    hit = ((p >= threshold) & (y > 0.5)).sum()
    return float(2 * hit / max(1, (p >= threshold).sum() + (y > 0.5).sum()))


@torch.no_grad()
def validate(accelerator, model, loader):
    """Return mean loss, the best threshold, and F1 at that threshold."""
    model.eval()
    losses, ps, ys = [], [], []
    for batch in loader:
        logits = model(batch["x"])
        losses.append(masked_bce(logits, batch["y"], batch["valid"]).item())
        p, y, valid = accelerator.gather_for_metrics((logits.sigmoid(), batch["y"], batch["valid"]))
        keep = valid > 0
        ps.append(p[keep].numpy())
        ys.append(y[keep].numpy())
    p, y = np.concatenate(ps), np.concatenate(ys)
    thresholds = np.linspace(0.05, 0.95, 19)
    scores = [f1_at(p, y, t) for t in thresholds]
    k = int(np.argmax(scores))
    return float(np.mean(losses)), float(thresholds[k]), scores[k]


class Progress:
    def __init__(self):
        self.epoch, self.step, self.best, self.waited = 0, 0, math.inf, 0

    def state_dict(self):
        return dict(vars(self))

    def load_state_dict(self, state):
        vars(self).update(state)


def param_groups(model, decay):
    groups = [{"params": [], "weight_decay": decay}, {"params": [], "weight_decay": 0.0}]
    for _, p in model.named_parameters():
        groups[0 if p.ndim > 1 else 1]["params"].append(p)
    return groups


def train(run, lr=2e-3, batch_size=10, accum=2, decay=0.01, patience=3):
    """Four micro-batches, two steps an epoch."""
    work = Path(run.workdir)
    epochs = max(1, run.max_steps // 2)
    set_seed(run.seed)
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=accum,
        project_config=ProjectConfiguration(project_dir=str(work / "out")),
    )
    train_set = LazyWindows(work / "corpus", TRAIN_SITES)
    val_set = LazyWindows(work / "corpus", VAL_SITES)
    if not any(kind == "seiz" for events in train_set.events.values() for kind, _, _ in events):
        print("warning: no seizures in the training recordings")
    sampler = EpochShuffle(len(train_set), run.seed)
    train_loader = DataLoader(train_set, batch_size=batch_size, sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=batch_size)
    model = UNet()
    optimizer = torch.optim.AdamW(param_groups(model, decay), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=60)
    model, optimizer, train_loader, val_loader, schedule = accelerator.prepare(
        model, optimizer, train_loader, val_loader, schedule
    )
    progress = Progress()
    accelerator.register_for_checkpointing(progress)
    if run.resume_from:
        accelerator.load_state(str(run.resume_from))

    while progress.epoch < epochs:
        train_loader.set_epoch(progress.epoch)
        model.train()
        for batch in train_loader:
            with accelerator.accumulate(model):
                logits = model(batch["x"])
                loss = masked_bce(logits, batch["y"], batch["valid"])
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    progress.step += 1
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        val_loss, threshold, f1 = validate(accelerator, model, val_loader)
        progress.epoch += 1
        accelerator.print(
            f"epoch {progress.epoch} step {progress.step}: loss {val_loss:.4f} f1 {f1:.3f} at {threshold:.2f}"
        )
        if val_loss < progress.best:
            progress.best, progress.waited = val_loss, 0
            best = work / "out" / "best"
            accelerator.save_model(model, str(best))
            (best / "threshold.json").write_text(json.dumps({"threshold": threshold, "f1": f1, "val_loss": val_loss}))
        else:
            progress.waited += 1
        accelerator.save_state(str(work / "out" / f"epoch_{progress.epoch:03d}"))
        if progress.waited >= patience:
            break
