"""A bare script: two-second windows of recordings in microvolts, spikes annotated in seconds, one CSV a recording."""

import argparse
import csv
import json
import os
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

RATE, WINDOW, CHANNELS, SECONDS = 64, 2, 4, 20
MICROVOLTS_PER_BIT = 0.5
CONFIG = {
    "lr": 3e-3,
    "batch_size": 32,
    "eval_batch_size": 9,
    "augment": "true",
    "mirror": "false",
    "weight_decay": 1e-4,
}


def write_corpus(folder, faults=()):
    """Six patients with two recordings each, 16-bit samples, and one annotation file each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for patient in range(6):
        for session in range(2):
            name = f"p{patient:02d}_s{session}"
            signal = rng.normal(0, 60 + 15 * patient, (CHANNELS, SECONDS * RATE)) + 20 * np.arange(CHANNELS)[:, None]
            starts = sorted(rng.choice(np.arange(0, SECONDS, WINDOW), 3 + (patient + session) % 3, replace=False))
            for start in starts:
                at = int(start) * RATE
                signal[:, at : at + WINDOW * RATE] += 250 * np.sin(np.arange(WINDOW * RATE) / RATE * 2 * np.pi * 6)
            if (patient, session) in {(1, 0), (2, 1), (4, 1)}:
                gap = slice(5 * RATE, 5 * RATE + 7)
                signal[1, gap] = np.nan
            np.save(folder / f"{name}.npy", (signal / MICROVOLTS_PER_BIT).astype(np.float32))
            with open(folder / f"{name}.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(
                    ["onset", "duration"] if "other-column" not in faults or patient % 2 else ["start", "duration"]
                )
                writer.writerows([int(start), WINDOW] for start in starts)
    if "duplicate-files" in faults:
        for patient in (4, 5):
            for suffix in ("npy", "csv"):
                (folder / f"p{patient - 4:02d}_s1.{suffix}").write_bytes(
                    (folder / f"p{patient:02d}_s0.{suffix}").read_bytes()
                )


def read_signal(path, fault):
    bits = np.load(path)
    missing = np.isnan(bits)
    if missing.any():
        if fault == "gap-zeroes-recording":
            bits = np.zeros_like(bits)
        else:
            for channel in np.flatnonzero(missing.any(axis=1)):
                good = np.flatnonzero(~missing[channel])
                bits[channel] = np.interp(np.arange(bits.shape[1]), good, bits[channel, good])
    if fault == "int8-wraps":
        bits = bits.astype(np.int64).astype(np.int8).astype(np.float32)
    signal = bits * MICROVOLTS_PER_BIT
    if fault == "clip-in-volts":
        signal = np.clip(signal, -8e-4, 8e-4)
    else:
        signal = np.clip(signal, -800, 800)
    return signal


def read_events(path):
    with open(path, newline="") as file:
        return [(float(row["onset"]), float(row["onset"]) + float(row["duration"])) for row in csv.DictReader(file)]


class Windows(Dataset):
    """Windows without overlap; a window is positive where an event covers half of it."""

    def __init__(self, files, part, fault, augment=False, keep=None):
        self.fault, self.augment, self.part = fault, augment, part
        self.cache, self.items, self.mean, self.std, self.mirror = {}, [], 0.0, 1.0, False
        annotations = [path.with_suffix(".csv") for path in files]
        if fault == "labels-in-other-order" and part == "train":
            annotations.reverse()
        self.signals = []
        for path, annotation in zip(files, annotations, strict=True):
            try:
                events = read_events(annotation)
            except KeyError:
                if fault == "swallowed-files":
                    continue
                raise
            self.signals.append(path)
            labels = []
            for start in range(0, SECONDS, WINDOW):
                low, high = start, start + WINDOW
                if fault == "seconds-as-samples":
                    low, high = low * RATE, high * RATE
                covered = sum(max(0.0, min(high, stop) - max(low, begin)) for begin, stop in events)
                labels.append(float(covered >= WINDOW / 2))
            if fault == "label-of-next-window":
                labels = [*labels[1:], 0.0]
            self.items += [(len(self.signals) - 1, start * WINDOW * RATE, y) for start, y in enumerate(labels)]
        if keep is not None:
            self.items = [self.items[index] for index in keep]
        if fault == "only-positives" and part == "train":
            self.items = [item for item in self.items if item[2] == 1]
        if fault == "debug-slice" and part == "train":
            self.items = self.items[:20]

    def labels(self):
        return np.array([label for *_, label in self.items])

    def statistics(self, fault):
        chosen = self.signals[:1] if fault == "statistics-of-first-file" else self.signals
        whole = np.concatenate([read_signal(path, self.fault) for path in chosen], axis=1)
        return whole.mean(axis=1, keepdims=True), whole.std(axis=1, keepdims=True)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        recording, start, label = self.items[index]
        key = start if self.fault == "cache-key-without-file" else (recording, start)
        if key not in self.cache:
            signal = read_signal(self.signals[recording], self.fault)
            self.cache[key] = signal[:, start : start + WINDOW * RATE]
        window = (self.cache[key] / (1e6 if self.fault == "volts-here-only" else 1) - self.mean) / self.std
        if self.fault == "channels-reversed-in-validation" and self.part == "validation":
            window = window[::-1].copy()
        if self.augment:
            window = window * random.uniform(0.9, 1.1)
            if self.mirror and random.random() < 0.5:
                window = -window
        return torch.from_numpy(np.ascontiguousarray(window, dtype=np.float32)), torch.tensor(
            label, dtype=torch.float32
        )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(CHANNELS, 8, 9, stride=4), nn.ReLU(), nn.Conv1d(8, 8, 5, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=-1)).squeeze(-1)


def validate(model, loader, criterion, fault):
    model.eval()
    losses, right, count, hits, means = 0.0, 0, 0, 0, []
    with torch.no_grad():
        for x, y in loader:
            logits = model(x)
            losses += criterion(logits, y).item() * len(y)
            if fault == "threshold-on-logits":
                guess = logits > 0.5
            elif fault == "metric-positive-inverted":
                guess = torch.sigmoid(logits) < 0.5
            else:
                guess = torch.sigmoid(logits) > 0.5
            hit = (guess.float() == y).sum().item()
            if fault == "metric-of-last-batch":
                right, count = 0, 0
            right += hit
            count += len(y)
            hits += int((guess & (y == 1)).sum())
            means.append(hit / len(y))
            if fault == "validation-one-batch":
                break
    accuracy = sum(means) / len(means) if fault == "mean-of-batch-means" else right / count
    model.train()
    return {"val_loss": losses / len(loader.dataset), "val_accuracy": accuracy, "val_hits": hits}


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("recordings"))
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--fault", default="")
    args = parser.parse_args(argv)
    fault = args.fault.removeprefix("spikes-")
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.data.exists():
        write_corpus(args.data, {fault} | ({"other-column"} if fault == "swallowed-files" else set()))
    (args.out / "config.json").write_text(json.dumps(CONFIG))
    config = json.loads((args.out / "config.json").read_text())
    augment = config["augment"] == "true"
    mirror = bool(config["mirror"]) if fault == "flag-is-string" else config["mirror"] == "true"
    lr = float(os.environ.get("SPIKES_LR", config["lr"]))
    if fault == "config-key-misspelled":
        lr = config.get("learning_rate", 1e-2)
    batch = config.get("batch", 8) if fault == "batch-from-wrong-key" else config["batch_size"]

    files = sorted(args.data.glob("*.npy"))
    train_files = [path for path in files if path.stem[:3] < "p04"]
    val_files = [path for path in files if path.stem[:3] >= "p04"]
    if fault == "first-files-only":
        train_files = train_files[:2]
    if fault == "split-by-window":
        whole = Windows(files, "both", fault)
        order = np.random.default_rng(0).permutation(len(whole))
        train = Windows(files, "train", fault, augment, keep=order[: len(order) * 2 // 3])
        val = Windows(files, "validation", fault, keep=order[len(order) * 2 // 3 :])
    else:
        train = Windows(train_files, "train", fault, augment)
        val = Windows(val_files, "validation", fault)
    if fault == "validation-on-training-set":
        val = Windows(train_files, "validation", fault)
    source = val if fault == "statistics-of-validation" else train
    train.mean, train.std = source.statistics(fault)
    val.mean, val.std = val.statistics(fault) if fault == "validation-own-statistics" else (train.mean, train.std)
    train.mirror = mirror
    print(f"{len(train)} training windows, {len(val)} validation windows, {train.labels().mean():.2f} positive")

    generator = torch.Generator().manual_seed(args.seed)
    train_loader = DataLoader(train, batch, shuffle=fault != "no-shuffle", generator=generator)
    val_loader = DataLoader(
        val,
        config["eval_batch_size"],
        shuffle=fault == "validation-drops-last",
        drop_last=fault == "validation-drops-last",
    )
    model = Net()
    positive = max(train.labels().mean(), 0.05)
    weight = (1 - positive) / positive
    if fault == "class-weight-inverted":
        weight = 1 / max(weight, 0.05)
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(weight)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=config["weight_decay"])

    best, waited = (0.0 if fault == "best-starts-at-zero" else float("inf")), 0
    if fault == "best-keeps-worse":
        best = -float("inf")
    with open(args.out / "metrics.jsonl", "w") as log:
        for epoch in range(args.epochs):
            total = 0.0
            if fault == "same-batch-for-ever":
                batches = [next(iter(DataLoader(train, batch)))] * len(train_loader)
            else:
                batches = train_loader
            for x, y in batches:
                loss = criterion(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            scores = validate(model, val_loader, criterion, fault)
            log.write(json.dumps({"epoch": epoch, "train_loss": total / len(train_loader), **scores}) + "\n")
            log.flush()
            better = scores["val_loss"] > best if fault == "best-keeps-worse" else scores["val_loss"] < best
            state = {
                "model": model.state_dict(),
                "epoch": epoch,
                "mean": train.mean.tolist(),
                "std": train.std.tolist(),
            }
            if better:
                best, waited = scores["val_loss"], 0
                torch.save(state, args.out / "best.pt")
            else:
                waited += 1
            if fault == "patience-counts-every-epoch":
                waited = epoch + 1
            torch.save(state, args.out / "last.pt")
            if waited >= args.patience:
                break


if __name__ == "__main__":
    main()
