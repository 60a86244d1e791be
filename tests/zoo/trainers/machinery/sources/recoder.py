"""An encoder-decoder with batch normalisation, dropout, GRU and attention; two groups, OneCycle, early stopping."""

import json
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, BATCH, PATIENCE = 10, 6, 5


def signals(n, seed, channels=5, length=80):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, channels, length)).astype(np.float32)
    y = np.zeros((n, length), np.float32)
    lengths = np.full(n, length)
    for i in range(n):
        start = int(rng.integers(5, 45))
        x[i, :, start : start + 25] += 2 * np.sin(np.arange(25) * 0.9)[None]
        y[i, start : start + 25] = 1
        if i % 3 == 0:
            lengths[i] = 64
            x[i, :, 64:] = 0
            y[i, 64:] = 0
    return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(lengths)


class Down(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 5, stride=2, padding=2, bias=False)
        self.bn = nn.BatchNorm1d(cout)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Up(nn.Module):
    def __init__(self, cin, cskip, cout):
        super().__init__()
        self.up = nn.ConvTranspose1d(cin, cout, 2, stride=2)
        self.conv = nn.Conv1d(cout + cskip, cout, 5, padding=2, bias=False)
        self.bn = nn.BatchNorm1d(cout)

    def forward(self, x, skip):
        return F.relu(self.bn(self.conv(torch.cat([self.up(x), skip], 1))))


class Encoder(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.first = Down(channels, width)
        self.second = Down(width, width * 2)

    def forward(self, x):
        a = self.first(x)
        return a, self.second(a)


class SeqNet(nn.Module):
    def __init__(self, channels=5, width=6):
        super().__init__()
        self.encoder = Encoder(channels, width)
        self.gru = nn.GRU(width * 2, width, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(width * 2, 2, dropout=0.1, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.decoder = Up(width * 2, width, width)
        self.last = nn.ConvTranspose1d(width, width, 2, stride=2)
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x, lengths):
        a, b = self.encoder(x)
        h, _ = self.gru(b.transpose(1, 2))
        mask = torch.arange(h.shape[1])[None] >= (lengths[:, None] // 4)
        h = h + self.attention(h, h, h, key_padding_mask=mask, need_weights=False)[0]
        h = self.drop(h).transpose(1, 2)
        return self.head(F.relu(self.last(self.decoder(h, a)))).squeeze(1)


def masked_loss(logits, target, lengths):
    mask = torch.arange(logits.shape[1])[None] < lengths[:, None]
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * mask).sum() / mask.sum()


def evaluate(model, loader):
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for x, y, n in loader:
            total += masked_loss(model(x, n), y, n).item() * len(x)
            count += len(x)
    model.train()
    return total / count


def write(path, state):
    part = str(path) + ".part"
    torch.save(state, part)
    os.replace(part, path)


def train(run):
    torch.manual_seed(run.seed)
    data = TensorDataset(*signals(18, 1))
    held_out = TensorDataset(*signals(9, 2))
    order = torch.Generator()
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, generator=order)
    val_loader = DataLoader(held_out, batch_size=BATCH)
    model = SeqNet()
    encoder = [p for n, p in model.named_parameters() if n.startswith("encoder.")]
    others = [p for n, p in model.named_parameters() if not n.startswith("encoder.")]
    optimizer = torch.optim.AdamW([{"params": encoder, "lr": 1e-3}, {"params": others, "lr": 4e-3}], weight_decay=1e-3)
    total = EPOCHS * len(loader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[2e-3, 8e-3], total_steps=total)
    step, epoch, position, best, bad = 0, 0, 0, float("inf"), 0
    log = []

    if run.resume_from is not None:
        state = torch.load(run.resume_from, map_location="cpu", weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        step, epoch, position = state["step"], state["epoch"], state["position"]
        best, bad = state["best"], state["bad"]
        torch.set_rng_state(state["rng"])

    def snapshot():
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "step": step,
            "epoch": epoch,
            "position": position,
            "best": best,
            "bad": bad,
            "rng": torch.get_rng_state(),
        }

    model.train()
    while epoch < EPOCHS and step < run.max_steps:
        order.manual_seed(run.seed * 100 + epoch)
        rng = torch.get_rng_state()
        batches = list(loader)
        torch.set_rng_state(rng)
        for x, y, n in batches[position:]:
            optimizer.zero_grad()
            logits = model(x, n)
            loss = masked_loss(logits, y, n)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            step += 1
            position += 1
            log.append(loss.item())
            if step >= run.max_steps:
                break
        if position < len(batches):
            break
        position = 0
        epoch += 1
        score = evaluate(model, val_loader)
        if score < best:
            best, bad = score, 0
            write(run.workdir / "best.pt", snapshot())
        else:
            bad += 1
        if bad > PATIENCE:
            break
    write(run.workdir / "last.pt", snapshot())
    (run.workdir / "log.json").write_text(json.dumps({"loss": log, "best": best}))
