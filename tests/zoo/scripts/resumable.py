"""Train a window classifier; a checkpoint every second step. Usage: python resumable.py [--resume [PATH]]"""

import argparse
import pathlib

import numpy as np
import torch
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=pathlib.Path, default="data")
parser.add_argument("--out", type=pathlib.Path, default="checkpoints")
parser.add_argument("--seed", type=int, default=3)
parser.add_argument("--total", type=int, default=24)
parser.add_argument("--resume", nargs="?", const="newest", help="a checkpoint, or the newest one if none is named")
parser.add_argument("--fault", action="append", default=[], help="break one thing on purpose")
options = parser.parse_args()
faults = set(options.fault)


def read(split):
    windows, labels = [], []
    for path in sorted((options.data / split).glob("*.npz")):
        with np.load(path) as recording:
            signal, seizures = recording["signal"], recording["seizures"]
        middle = np.arange(0.5, signal.shape[1] // 64)
        windows.append(signal.reshape(4, -1, 64).transpose(1, 0, 2) / 50)
        labels.append(((middle[:, None] > seizures[:, 0]) & (middle[:, None] < seizures[:, 1])).any(1))
    return torch.tensor(np.concatenate(windows)), torch.tensor(np.concatenate(labels)).float()


torch.manual_seed(options.seed)
x, y = read("train")
if not y.any():
    raise SystemExit("no seizure in the training data")
if not x.isfinite().all():
    raise SystemExit("the training data hold NaN")
x_val, y_val = read("val")
model = torch.nn.Sequential(
    torch.nn.Conv1d(4, 8, 9, 4), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Flatten(), torch.nn.Linear(112, 1)
)
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.total)
done = 0

if options.resume and "rescript-resume-flag-ignored" not in faults:
    path = options.resume
    if path == "newest":
        path = max(options.out.glob("*.pt"), key=lambda found: int(found.stem))
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    if "rescript-schedule-not-restored" not in faults:
        schedule.load_state_dict(state["schedule"])
    if "rescript-step-counter-forgotten" not in faults:
        done = state["done"]
    torch.set_rng_state(state["random"])

options.out.mkdir(exist_ok=True)
while done < options.total:
    chosen = torch.randint(len(x), (10,))
    loss = functional.binary_cross_entropy_with_logits(model(x[chosen]).squeeze(1), y[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    done += 1
    if done % 2 == 0 or done == options.total:
        model.eval()
        with torch.no_grad():
            right = ((model(x_val).squeeze(1) > 0) == (y_val > 0.5)).float().mean().item()
        model.train()
        print(f"step {done}: accuracy {right:.3f}")
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": torch.get_rng_state(),
            "done": done,
        }
        if "rescript-optimizer-not-saved" in faults:
            del state["optimizer"]
        torch.save(state, options.out / f"{done}.part")
        (options.out / f"{done}.part").rename(options.out / f"{done}.pt")
