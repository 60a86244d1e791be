"""Train a window classifier; everything but the steps happens after whole passes. Usage: python long_passes.py"""

import argparse
import copy
import pathlib

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=pathlib.Path, default="data")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, default=3)
parser.add_argument("--resume", type=pathlib.Path)
parser.add_argument("--fault", action="append", default=[], help="break one thing on purpose")
options = parser.parse_args()
faults = {name.removeprefix("long-") for name in options.fault}


def read(split, hop):
    windows, labels = [], []
    for path in sorted((options.data / split).glob("*.npz")):
        with np.load(path) as recording:
            signal, seizures = recording["signal"], recording["seizures"]
        starts = np.arange(0, signal.shape[1] - 64, hop)
        middle = (starts + 32) / 64
        windows += [signal[:, start : start + 64] / 50 for start in starts]
        labels.append(((middle[:, None] > seizures[:, 0]) & (middle[:, None] < seizures[:, 1])).any(1))
    return TensorDataset(torch.tensor(np.stack(windows)).float(), torch.tensor(np.concatenate(labels)).float())


torch.manual_seed(options.seed)
trained_on = read("train", 8)
train = DataLoader(trained_on, 8, shuffle=True)
held_out = DataLoader(trained_on if "validates-on-training" in faults else read("val", 16), 16)
model = torch.nn.Sequential(
    torch.nn.Conv1d(4, 8, 9, 4),
    torch.nn.BatchNorm1d(8),
    torch.nn.ReLU(),
    torch.nn.Dropout(0.2),
    torch.nn.Flatten(),
    torch.nn.Linear(112, 1),
)
average = copy.deepcopy(model).requires_grad_(False)
first = copy.deepcopy(model.state_dict())
optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
begun, best = 0, -1.0

if options.resume:
    state = torch.load(options.resume, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    if "schedule-not-restored" not in faults:
        schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    begun, best = state["epoch"], state["best"]


def validate(epoch):
    average.train("eval-forgotten" in faults)
    right = seen = 0
    with torch.no_grad():
        for x, y in held_out:
            logits = average(x).squeeze(1)
            right += int(((logits > 0) == (y > 0.5)).sum())
            seen += len(y)
    return right / seen


model.train()
for epoch in range(begun, options.epochs):
    if "seed-in-loop" in faults:
        torch.manual_seed(options.seed)
    for x, y in train:
        loss = functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for kept, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                kept.lerp_(value, 0.1) if kept.is_floating_point() else kept.copy_(value)
    if "schedule-never-stepped" not in faults:
        schedule.step()
    accuracy = validate(epoch)
    if "weights-overwritten" in faults:
        for value, kept in zip(model.parameters(), average.parameters(), strict=True):
            value.data.copy_(kept)
    if "eval-stays" in faults:
        model.eval()
    print(f"epoch {epoch}: accuracy {accuracy:.3f}")
    state = {
        "model": first if "first-weights-saved" in faults else model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "epoch": epoch + 1,
        "best": max(best, accuracy),
    }
    if "optimizer-not-saved" in faults:
        del state["optimizer"]
    torch.save(state, f"epoch{epoch}.pt")
    if accuracy > best:
        best = accuracy
        torch.save(average.state_dict(), "best.pt")
