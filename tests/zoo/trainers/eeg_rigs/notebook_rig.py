"""A notebook turned into a script: CNN and LSTM, weighted sampler, noise, EMA, bf16 with a scaler, cosine with warm-up."""

import argparse
import csv
import glob
import math
import os
import random
import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

FS = 64
WIN = 2 * FS


def prepare(run):
    """Recordings in volts, some at 128 Hz, one label track per second; train and test folders of patients."""
    for split, patients in (("train", (1, 2, 3, 4, 5)), ("test", (6, 7))):
        os.makedirs(f"{run.workdir}/eeg/{split}", exist_ok=True)
        for patient in patients:
            rng = np.random.default_rng(patient)
            fs = 128 if patient in (2, 6) else 64
            t = np.arange(28 * fs) / fs
            x = 20e-6 * np.sin(2 * np.pi * (9 + rng.normal()) * t + rng.uniform(0, 6, (4, 1))) + rng.normal(
                0, 1e-5, (4, t.size)
            )
            labels = np.zeros(28, np.int64)
            begin = int(rng.integers(2, 10)) * 2
            labels[begin : begin + 6] = 1
            ictal = np.repeat(labels, fs) > 0
            x[:, ictal] += 70e-6 * np.sin(2 * np.pi * 3 * t[ictal])
            if run.data == "non_finite" and patient < 4:
                x[1, 300:900] = np.nan
            np.savez(f"{run.workdir}/eeg/{split}/sub-{patient:03d}.npz", x=x.astype(np.float32), fs=fs, y=labels)


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class EEGSegments(Dataset):
    def __init__(self, files, augment=False, p_aug=0.5):
        self.X, self.Y = [], []
        self.augment = augment
        self.p_aug = p_aug
        for f in files:
            d = np.load(f)
            x = d["x"] * 1e6  # V -> uV
            step = int(d["fs"]) // FS
            x = x[:, : x.shape[1] // step * step].reshape(len(x), -1, step).mean(-1)
            y = d["y"]
            for i in range(x.shape[1] // WIN):
                self.X.append(x[:, i * WIN : (i + 1) * WIN] / 50.0)
                self.Y.append(float(y[2 * i : 2 * i + 2].max()))

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        x = self.X[i].astype(np.float32)
        if self.augment and np.random.rand() < self.p_aug:
            x = x + np.random.normal(0, 0.1, x.shape).astype(np.float32)
            x = x * np.random.uniform(0.8, 1.2)
        return torch.tensor(x, dtype=torch.float32), torch.tensor(self.Y[i], dtype=torch.float32)


class Net(nn.Module):
    def __init__(self, n_ch=4, hid=16, drop=0.2):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv1d(n_ch, hid, 9, padding=4, stride=2), nn.BatchNorm1d(hid), nn.ReLU(),
            nn.Conv1d(hid, hid, 5, padding=2, stride=2), nn.BatchNorm1d(hid), nn.ReLU(),
        )  # fmt: skip
        self.rnn = nn.LSTM(hid, hid, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(2 * hid, 1)

    def forward(self, x):
        z = self.cnn(x)
        z = z.transpose(1, 2)
        z, _ = self.rnn(z)
        z = self.drop(z.mean(dim=1))
        return self.head(z).squeeze(-1)


def focal_loss(logits, y, gamma=2.0, alpha=0.6):
    p = torch.sigmoid(logits)
    pt = p * y + (1 - p) * (1 - y)
    w = alpha * y + (1 - alpha) * (1 - y)
    return -(w * (1 - pt) ** gamma * torch.log(pt.clamp_min(1e-6))).mean()


class EMA:
    def __init__(self, model, decay=0.9):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        for k, v in model.state_dict().items():
            if v.dtype.is_floating_point:
                self.shadow[k].mul_(self.decay).add_(v, alpha=1 - self.decay)
            else:
                self.shadow[k].copy_(v)

    def apply(self, model):
        self.backup = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.shadow)

    def restore(self, model):
        model.load_state_dict(self.backup)
        self.backup = None


def evaluate(model, loader):
    model.eval()
    probs, ys, losses = [], [], []
    with torch.no_grad():
        for x, y in loader:
            out = model(x)
            losses.append(focal_loss(out, y).item())
            probs.append(torch.sigmoid(out).numpy())
            ys.append(y.numpy())
    probs, ys = np.concatenate(probs), np.concatenate(ys)
    return np.mean(losses), average_precision_score(ys, probs), f1_score(ys, probs > 0.5, zero_division=0)


def get_args(argv):
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", default="eeg")
    ap.add_argument("--out", default="runs")
    ap.add_argument("--seed", type=int, default=42)
    ap.add_argument("--epochs", type=int, default=30)
    ap.add_argument("--bs", type=int, default=16)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--wd", type=float, default=0.05)
    ap.add_argument("--clip", type=float, default=1.0)
    ap.add_argument("--p-aug", type=float, default=0.5)
    ap.add_argument("--ema", type=float, default=0.9)
    ap.add_argument("--warmup", type=int, default=4, help="steps")
    ap.add_argument("--horizon", type=int, default=30, help="epochs of the whole schedule")
    ap.add_argument("--resume", default="")
    return ap.parse_args(argv)


def main(argv):
    args = get_args(argv)
    os.makedirs(args.out, exist_ok=True)
    seed_all(args.seed)

    train_files = sorted(glob.glob(f"{args.data}/train/*.npz"))
    val_files = sorted(glob.glob(f"{args.data}/test/*.npz"))
    train_ds = EEGSegments(train_files, augment=True, p_aug=args.p_aug)
    val_ds = EEGSegments(val_files)
    y = np.array(train_ds.Y).astype(int)
    class_w = 1.0 / np.bincount(y, minlength=2)
    gen = torch.Generator().manual_seed(args.seed)
    sampler = WeightedRandomSampler(class_w[y], num_samples=4 * args.bs, generator=gen)
    train_dl = DataLoader(train_ds, batch_size=args.bs, sampler=sampler)
    val_dl = DataLoader(val_ds, batch_size=args.bs)

    model = Net()
    opt = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.wd)
    total = args.horizon * len(train_dl)

    def lr_at(step):
        if step < args.warmup:
            return (step + 1) / args.warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - args.warmup) / (total - args.warmup))))

    sched = torch.optim.lr_scheduler.LambdaLR(opt, lr_at)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    ema = EMA(model, args.ema)

    start_epoch, best = 0, -1.0
    if args.resume:
        ck = torch.load(args.resume, map_location="cpu", weights_only=False)
        model.load_state_dict(ck["model"])
        opt.load_state_dict(ck["opt"])
        sched.load_state_dict(ck["sched"])
        scaler.load_state_dict(ck["scaler"])
        ema.shadow = ck["ema"]
        start_epoch, best = ck["epoch"] + 1, ck["best"]
        torch.set_rng_state(ck["rng"][0])
        np.random.set_state(ck["rng"][1])
        gen.set_state(ck["rng"][2])

    for epoch in range(start_epoch, args.epochs):
        model.train()
        running = 0.0
        for x, y in train_dl:
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(x)
            loss = focal_loss(out.float(), y)
            if not torch.isfinite(loss):
                raise FloatingPointError("loss is not finite")
            scaler.scale(loss).backward()
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            scaler.step(opt)
            scaler.update()
            sched.step()
            ema.update(model)
            running += loss.item()

        ema.apply(model)
        val_loss, val_ap, val_f1 = evaluate(model, val_dl)
        improved = val_ap > best
        if improved:
            best = val_ap
            torch.save({"model": model.state_dict(), "epoch": epoch, "ap": val_ap}, f"{args.out}/best.pt")
        ema.restore(model)
        state = {
            "model": model.state_dict(),
            "opt": opt.state_dict(),
            "sched": sched.state_dict(),
            "scaler": scaler.state_dict(),
            "ema": ema.shadow,
            "epoch": epoch,
            "best": best,
            "rng": (torch.get_rng_state(), np.random.get_state(), gen.get_state()),
        }
        torch.save(state, f"{args.out}/last.tmp")
        os.replace(f"{args.out}/last.tmp", f"{args.out}/last.pt")
        with open(f"{args.out}/log.csv", "a", newline="") as log:
            csv.writer(log).writerow(
                [epoch, running / len(train_dl), val_loss, val_ap, val_f1, opt.param_groups[0]["lr"]]
            )
        print(f"epoch {epoch}: train {running / len(train_dl):.4f} val {val_loss:.4f} AP {val_ap:.3f} F1 {val_f1:.3f}")


def train(run):
    """Epochs of four steps; a run of six steps is two epochs."""
    argv = ["--data", f"{run.workdir}/eeg", "--out", f"{run.workdir}/runs", "--seed", str(run.seed)]
    argv += ["--epochs", str(math.ceil(run.max_steps / 4))]
    if run.resume_from:
        argv += ["--resume", str(run.resume_from)]
    main(argv)


if __name__ == "__main__":
    main(sys.argv[1:])
