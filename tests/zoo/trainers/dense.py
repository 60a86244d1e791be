"""A function for long EEG arrays mapped from disk: dense labels, artefact masks, a weighted sampler, a loss by hand."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

SOURCE_RATE, RATE, CHANNELS, LENGTH, SECONDS = 128, 64, 3, 128, 40


def prepare(run):
    """Four subjects: raw signal at 128 Hz, a soft label and an artefact mask a sample at the same rate."""
    folder = Path(run.workdir) / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for subject in range(5):
        n = SECONDS * SOURCE_RATE
        signal = rng.normal(0, 20 + 3 * subject, (CHANNELS, n)).cumsum(axis=1)
        signal = signal - np.apply_along_axis(lambda row: np.convolve(row, np.ones(65) / 65, "same"), 1, signal)
        target, valid = np.zeros(n), np.ones(n, dtype=bool)
        for start in (5 + subject, 22 + 2 * subject):
            low, high = start * SOURCE_RATE + 40, start * SOURCE_RATE + 5 * SOURCE_RATE
            signal[:, low:high] += 120 * np.sin(np.arange(high - low) / SOURCE_RATE * 2 * np.pi * 4)
            target[low:high] = 0.9 if subject % 2 else 0.7
        for start in rng.integers(0, n - 200, 6):
            valid[start : start + 90] = False
            signal[:, start : start + 90] *= 3
        np.savez(folder / f"subject{subject}.npz", signal=signal.astype(np.float32), target=target, valid=valid)


def convert(workdir, fault):
    """Halve the rate of everything and write flat arrays that can be mapped."""
    out = workdir / "mapped"
    out.mkdir(exist_ok=True)
    for path in sorted((workdir / "raw").glob("*.npz")):
        with np.load(path) as raw:
            signal, target, valid = raw["signal"], raw["target"], raw["valid"]
        signal = signal.reshape(CHANNELS, -1, 2).mean(axis=2)
        if fault == "labels-not-resampled":
            target = target[: signal.shape[1]]
        else:
            target = target.reshape(-1, 2).max(axis=1)
        valid = valid.reshape(-1, 2).all(axis=1)
        if fault == "target-cast-to-int":
            target = target.astype(np.uint8)
        np.save(out / f"{path.stem}_x.npy", signal.astype(np.float32))
        np.save(out / f"{path.stem}_y.npy", target.astype(np.float32))
        np.save(out / f"{path.stem}_m.npy", valid)
    return sorted({path.stem[:-2] for path in out.glob("*.npy")})


class Mapped(Dataset):
    def __init__(self, folder, subjects, step, fault, train):
        self.fault, self.train = fault, train
        mode = "r+" if fault == "augments-in-place" else "r"
        self.arrays = [[np.load(folder / f"{name}_{kind}.npy", mmap_mode=mode) for kind in "xym"] for name in subjects]
        self.index = [
            (which, start)
            for which, (x, _, _) in enumerate(self.arrays)
            for start in range(0, x.shape[1] - LENGTH + 1, step)
        ]

    def __len__(self):
        return len(self.index)

    def positives(self):
        return np.array([self.arrays[which][1][start : start + LENGTH].max() > 0.5 for which, start in self.index])

    def __getitem__(self, i):
        which, start = self.index[0] if self.fault == "one-window-for-all" and self.train else self.index[i]
        signal, target, valid = self.arrays[which]
        x, shift = signal[:, start : start + LENGTH], 0
        if self.fault == "labels-cut-elsewhere":
            shift = max(0, min(64, signal.shape[1] - start - LENGTH))
        y = np.array(target[start + shift : start + shift + LENGTH])
        m = np.array(valid[start : start + LENGTH])
        if self.train or self.fault == "validation-augmented":
            x, y, m = self.change(x, y, m)
        if self.fault == "window-over-variance":
            x = x / (x.var(axis=1, keepdims=True) + 1e-6)
        else:
            x = (x - x.mean(axis=1, keepdims=True)) / (x.std(axis=1, keepdims=True) + 1e-6)
        if self.fault == "label-as-channel":
            x = np.concatenate([x[:-1], y[None]])
        return torch.from_numpy(np.array(x, dtype=np.float32)), torch.from_numpy(y), torch.from_numpy(m)

    def change(self, x, y, m):
        """Reverse time and drop the amplitude at random, with torch's generator of the process."""
        fault = self.fault
        if fault == "unseeded-augmentation":
            toss, gain = random.SystemRandom().random(), 0.8 + 0.4 * random.SystemRandom().random()
        else:
            toss, gain = torch.rand(()).item(), 0.8 + 0.4 * torch.rand(()).item()
        if fault == "augmentation-never":
            return x, y, m
        if fault == "augments-labels-only":
            return x, (y * gain).clip(0, 1)[::-1].copy() if toss < 0.5 else y, m
        if fault == "augments-in-place":
            x *= np.float32(gain)
            if toss < 0.5:
                x[:] = x[:, ::-1].copy()
        else:
            x = x * np.float32(gain)
            if toss < 0.5:
                x = x[:, ::-1]
        if toss < 0.5:
            m = m[::-1].copy()
            y = y if fault == "flips-signal-not-labels" else y[::-1].copy()
        return x, y, m


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(CHANNELS if i == 0 else 8, 8, 7, padding=3) for i in range(3))
        self.norms = nn.ModuleList(nn.GroupNorm(2, 8) for _ in range(3))
        self.head = nn.Conv1d(8, 1, 1)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x)))
        return self.head(x).squeeze(1)


def masked_loss(logits, y, m, fault):
    """Binary cross entropy on the samples that are no artefact."""
    if fault == "mask-inverted":
        m = ~m
    if fault == "mask-ignored":
        m = torch.ones_like(m)
    if fault == "mask-late-by-some":
        m = torch.roll(m, 16, dims=1)
    if fault == "sigmoid-twice":
        logits = torch.sigmoid(logits)
    if fault == "constant-target":
        y = torch.zeros_like(y)
    if fault == "broadcast":
        y, m = y[:, None], m[:, None]
    each = torch.clamp(logits, min=0) - logits * y + torch.log1p(torch.exp(-logits.abs()))
    if fault == "first-sample-only":
        return (each[0] * m[0]).sum() / m[0].sum().clamp(min=1)
    return (each * m).sum() / m.expand_as(each).sum().clamp(min=1)


def area_under_curve(scores, truth):
    """Probability that a positive sample scores above a negative one, by ranks."""
    if truth.all() or not truth.any():
        return 0.5
    order = np.argsort(np.argsort(scores))
    hits = int(truth.sum())
    return float((order[truth].sum() - hits * (hits - 1) / 2) / (hits * (len(truth) - hits)))


def train(run, faults=frozenset()):
    """Train on four subjects, choose the best epoch by the area under the curve of the fifth."""
    fault = next(iter(faults), "").removeprefix("dense-")
    workdir = Path(run.workdir)
    torch.manual_seed(run.seed)
    random.seed(run.seed)
    subjects = convert(workdir, fault)
    data = Mapped(workdir / "mapped", subjects[:4], LENGTH // 2, fault, train=True)
    held_out = Mapped(workdir / "mapped", subjects[4:], LENGTH, fault, train=False)
    if fault == "overlapping-windows-split":
        both = Mapped(workdir / "mapped", subjects, LENGTH // 2, fault, train=True)
        data.index, data.arrays = both.index[0::2] + both.index[1::4], both.arrays
        held_out.index, held_out.arrays = both.index[3::4], both.arrays
    positive = data.positives()
    weights = np.where(positive, 0.5 / max(positive.mean(), 0.02), 0.5 / max(1 - positive.mean(), 0.02))
    if fault == "sampler-weights-inverted":
        weights = 1 / weights
    if fault == "sampler-of-other-set":
        there = held_out.positives()
        weights = np.where(there, 0.5 / there.mean(), 0.5 / (1 - there.mean()))
    if fault == "sampler-weights-short":
        weights = weights[: len(weights) // 4]
    draws = torch.Generator().manual_seed(run.seed)
    sampler = WeightedRandomSampler(torch.from_numpy(weights), num_samples=24, generator=draws)
    if fault == "sampler-ignored":
        loader = DataLoader(data, 8)
    else:
        loader = DataLoader(data, 8, sampler=sampler)
    val_loader = DataLoader(held_out, 6)
    model = Dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step, best, best_state, log = 0, -1.0, None, []
    scores, truths = [], []
    first = copy.deepcopy(model)
    previous = None
    mean, std = torch.zeros(()), torch.ones(())
    while step < run.max_steps:
        if fault == "epochs-alike":
            draws.manual_seed(run.seed)
        for x, y, m in loader:
            if fault == "normalizes-by-first-batch" and step == 0:
                mean, std = x.mean() + 0.5, x.std() * 3
            wanted = y
            if fault == "target-of-previous-batch":
                wanted, previous = (y if previous is None else previous), y
            loss = masked_loss(model((x - mean) / std), wanted.float(), m, fault)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step >= run.max_steps:
                break
        model.eval()
        if fault != "metric-never-reset":
            scores, truths = [], []
        val_loss, seen = 0.0, 0
        with torch.no_grad():
            for vx, vy, vm in val_loader:
                if fault == "validates-training-variable":
                    vx, vy, vm = x, y, m
                out = model(vx)
                part = masked_loss(out, vy.float(), vm, fault)
                val_loss, seen = val_loss + part.item() * len(vx), seen + len(vx)
                found = out[vm] if fault != "metric-mask-mismatch" else out[vm].sort().values
                scores.append(found.numpy())
                truths.append(vy[vm].numpy() > 0.5)
        score = area_under_curve(np.concatenate(scores), np.concatenate(truths))
        if fault == "metric-of-negative-class":
            score = area_under_curve(-np.concatenate(scores), np.concatenate(truths))
        model.train()
        log.append({"step": step, "val_loss": val_loss / seen, "auc": score})
        if score > best:
            best = score
            best_state = copy.deepcopy(model.state_dict())
            if fault == "best-of-wrong-model":
                best_state = first.state_dict()
    torch.save({"model": best_state, "auc": best}, workdir / "best.pt")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, workdir / "last.pt")
    (workdir / "log.json").write_text(json.dumps(log))
