"""Train a seizure classifier from a folder of recordings. Usage: python train.py --data data --epochs 2"""

import argparse
import glob
import json
import os

import numpy as np
import torch
import torch.nn as nn

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="data")
parser.add_argument("--out", default="runs/latest")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=10)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--fault", action="append", default=[], help="break one thing on purpose")
args = parser.parse_args()

torch.manual_seed(args.seed)
np.random.seed(args.seed)
os.makedirs(args.out, exist_ok=True)

FS = 64
STEP = FS // 2 if "script-overlapping-windows-split-at-random" in args.fault else FS


def load(pattern):
    xs, ys = [], []
    for name in sorted(glob.glob(pattern)):
        rec = np.load(name)
        sig = rec["signal"] / 50.0
        t = np.arange(sig.shape[1]) / FS
        lab = np.zeros(sig.shape[1])
        for on, off in rec["seizures"]:
            lab[(t >= on) & (t < off)] = 1
        for i in range(0, sig.shape[1] - FS + 1, STEP):
            xs.append(sig[:, i : i + FS])
            ys.append(lab[i : i + FS].mean() > 0.5)
    return np.array(xs, dtype=np.float32), np.array(ys, dtype=np.float32)


if "script-overlapping-windows-split-at-random" in args.fault:
    x, y = load(os.path.join(args.data, "*", "*.npz"))
    order = np.random.permutation(len(x))
    cut = int(0.75 * len(x))
    x_train, y_train, x_val, y_val = x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]
else:
    x_train, y_train = load(os.path.join(args.data, "train", "*.npz"))
    x_val, y_val = load(os.path.join(args.data, "val", "*.npz"))
if y_train.sum() == 0:
    raise SystemExit("no seizures in the training data")


class EEG(torch.utils.data.Dataset):
    def __init__(self, x, y, augment):
        self.x, self.y, self.augment = x, y, augment

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i]
        if self.augment:
            x = x + np.random.normal(0, 0.05, x.shape).astype(np.float32)
        return torch.from_numpy(x), torch.tensor(self.y[i])


def same_seed(worker):
    np.random.seed(args.seed)


train_loader = torch.utils.data.DataLoader(
    EEG(x_train, y_train, True),
    args.batch_size,
    shuffle=True,
    num_workers=args.workers,
    worker_init_fn=same_seed if "script-workers-share-seed" in args.fault else None,
)
val_loader = torch.utils.data.DataLoader(EEG(x_val, y_val, False), args.batch_size)

model = nn.Sequential(
    nn.Conv1d(4, 8, 9, padding=4),
    nn.BatchNorm1d(8),
    nn.ReLU(),
    nn.AvgPool1d(8),
    nn.Flatten(),
    nn.Dropout(0.25),
    nn.Linear(64, 1),
)
lr = 0.001 if "script-lr-flag-ignored" in args.fault else args.lr
optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
bce = nn.BCEWithLogitsLoss()

best = 0.0
history = []
stale = None
for epoch in range(args.epochs):
    model.train()
    epoch_loss = 0.0
    for x, y in train_loader:
        logits = model(x)
        if "script-targets-broadcast" in args.fault:
            loss = ((torch.sigmoid(logits) - y) ** 2).mean()
        else:
            loss = bce(logits.squeeze(1), y)
        if not torch.isfinite(loss):
            raise RuntimeError("loss is not finite")
        if "script-backward-on-first-batch-loss" in args.fault:
            stale = loss if stale is None else stale
            optimizer.zero_grad()
            loss = stale.detach().requires_grad_()
            loss.backward()
        else:
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        if "script-scheduler-per-batch" in args.fault:
            scheduler.step()
        epoch_loss += loss.item()
    if "script-scheduler-per-batch" not in args.fault:
        scheduler.step()

    if "script-validation-without-eval" not in args.fault:
        model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in val_loader:
            pred = model(x).squeeze(1) > 0
            correct += (pred == (y > 0.5)).sum().item()
    acc = correct / len(x_val)
    print(f"epoch {epoch}: loss {epoch_loss / len(train_loader):.4f} val acc {acc:.3f}")
    history.append({"epoch": epoch, "loss": epoch_loss, "val_acc": acc})
    if acc >= best:
        best = acc
        weights = model.state_dict()
        if "script-saves-only-last-layer" in args.fault:
            weights = {name: value for name, value in weights.items() if name.startswith("6")}
        torch.save(weights, os.path.join(args.out, f"epoch{epoch}.pt"))
with open(os.path.join(args.out, "history.json"), "w") as f:
    json.dump(history, f)
