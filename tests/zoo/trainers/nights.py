"""Sleep stages: sequences of feature frames of unequal length, padded, with an attention mask; two loader workers."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

STAGES = ["wake", "n1", "n2", "n3", "rem"]
FEATURES, LONGEST, IGNORED = 6, 20, -100


@dataclass
class Settings:
    lr: float = 2e-3
    batch_size: int = 8
    width: int = 16
    auxiliary: float = 0.3
    patience: int = 3
    workers: int = 2


def prepare(run):
    """Nights of twelve sleepers as JSON lines: stages by name, features that follow the stage, some bad frames."""
    folder = Path(run.workdir) / "nights"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    centers = rng.normal(0, 2, (len(STAGES), FEATURES))
    for sleeper in range(14):
        for night in range(3):
            n = int(rng.integers(12, LONGEST + 11))
            stages, current = [], 0
            for _ in range(n):
                current = int(rng.choice([current, (current + 1) % 5, int(rng.integers(5))], p=[0.6, 0.25, 0.15]))
                stages.append(current)
            frames = centers[stages] + rng.normal(0, 1, (n, FEATURES)) + np.arange(FEATURES)
            with open(folder / f"sleeper{sleeper:02d}-night{night}.json", "w") as file:
                json.dump({"stages": [STAGES[s] for s in stages], "frames": frames.round(4).tolist()}, file)


class Nights:
    """A map-style data set that needs no base class."""

    def __init__(self, paths, fault, train):
        self.paths, self.fault, self.train = paths, fault, train
        self.codes = {name: code for code, name in enumerate(STAGES)}
        if fault == "class-shifted":
            self.codes = {name: min(code + 1, 4) for name, code in self.codes.items()}
        if fault == "codes-differ-by-part" and not train:
            self.codes = {name: code for code, name in enumerate(sorted(STAGES))}
        self.kept = [self.read(path) for path in paths]

    def read(self, path):
        night = json.loads(path.read_text())
        frames = np.array(night["frames"], dtype=np.float32)
        if self.fault == "uint8-wraps":
            frames = (frames * 16).astype(np.int64).astype(np.uint8).astype(np.float32) / 16
        stages = np.array([self.codes[name] for name in night["stages"]], dtype=np.int64)
        return frames, stages

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        frames, stages = self.kept[index]
        if self.fault == "failed-item-is-first" and len(stages) > LONGEST:
            frames, stages = self.kept[0]
        low = int(torch.randint(max(len(stages) - LONGEST, 0) + 1, ())) if self.train else 0
        if self.fault == "crops-apart" and self.train:
            other = int(torch.randint(max(len(stages) - LONGEST, 0) + 1, ()))
            stages = stages[other : other + LONGEST]
        else:
            stages = stages[low : low + LONGEST]
        frames = frames[low : low + LONGEST]
        if self.train:
            frames = self.change(frames)
        return torch.from_numpy(frames.copy()), torch.from_numpy(stages.copy())

    def change(self, frames):
        if self.fault == "augmentation-blanks-everything":
            return frames * 0.0
        if self.fault == "workers-alike":
            return frames + np.random.normal(0, 0.1, frames.shape).astype(np.float32)
        noise = torch.randn(frames.shape).numpy()
        return frames + 0.1 * noise


class Collate:
    def __init__(self, fault):
        self.fault = fault

    def __call__(self, items):
        longest = max(len(stages) for _, stages in items)
        if self.fault == "padded-to-one-less":
            longest -= 1
        x = torch.zeros(len(items), longest, FEATURES)
        y = torch.full((len(items), longest), 0 if self.fault == "padding-is-a-class" else IGNORED)
        real = torch.zeros(len(items), longest, dtype=torch.bool)
        for row, (frames, stages) in enumerate(items):
            n = min(len(stages), longest)
            if self.fault == "padded-left":
                x[row, longest - n :] = frames[:n]
            else:
                x[row, :n] = frames[:n]
            y[row, :n] = stages[:n]
            real[row, :n] = True
        if self.fault == "labels-of-neighbour":
            y = y.roll(1, dims=0)
        if self.fault == "every-frame-real":
            real[:] = True
        return {"frames": x, "stages": y, "real": real}


class Stager(nn.Module):
    def __init__(self, width, fault):
        super().__init__()
        self.fault = fault
        self.enter = nn.Linear(FEATURES, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.stage = nn.Linear(width, len(STAGES))
        self.asleep = nn.Linear(width, 1)

    def forward(self, frames, real):
        hidden = real if self.fault == "attention-inverted" else ~real
        if self.fault == "attention-unmasked":
            hidden = None
        h = self.encoder(self.enter(frames), src_key_padding_mask=hidden)
        return self.stage(h), self.asleep(h).squeeze(-1)


def loss_of(logits, asleep, y, weights, settings, fault):
    real = y != IGNORED
    if fault == "softmax-before-loss":
        logits = logits.softmax(dim=-1)
    if fault == "reshaped-not-transposed":
        by_class = logits.reshape(logits.shape[0], len(STAGES), -1)
    else:
        by_class = logits.transpose(1, 2)
    loss = F.cross_entropy(by_class, y, None if fault == "class-weights-unused" else weights, ignore_index=IGNORED)
    second = F.binary_cross_entropy_with_logits(asleep[real], (y[real] > 0).float())
    return loss if fault == "auxiliary-unused" else loss + settings.auxiliary * second


def f1(confusion):
    hit = confusion.diagonal().float()
    return float((2 * hit / (confusion.sum(0) + confusion.sum(1)).clamp(min=1)).mean())


def validate(model, loader, weights, settings, fault):
    model.eval()
    confusion, total, count, parts = torch.zeros(5, 5, dtype=torch.long), 0.0, 0, []
    with torch.inference_mode():
        for batch in loader:
            logits, asleep = model(batch["frames"], batch["real"])
            y = batch["stages"]
            total += loss_of(logits, asleep, y, weights, settings, fault).item() * len(y)
            guess = logits.argmax(-1)
            if fault == "argmax-over-time":
                guess = logits.argmax(1)[:, :1].expand_as(y) % 5
            real = y != IGNORED
            if fault == "padding-scored":
                y, real = y.clamp(min=0), torch.ones_like(real)
            one = torch.zeros_like(confusion)
            one.view(-1).index_add_(0, y[real] * 5 + guess[real], torch.ones_like(y[real]))
            confusion += one
            parts.append(f1(one))
            count += len(y)
    model.train()
    score = sum(parts) / len(parts) if fault == "f1-per-batch" else f1(confusion)
    return {"val_loss": total / count, "f1": score, "accuracy": float(confusion.diagonal().sum() / confusion.sum())}


def seed_alike(worker):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def train(run, faults=frozenset()):
    """Train with early stopping on the F1 score of sleepers that are held out."""
    fault = next(iter(faults), "").removeprefix("nights-")
    workdir = Path(run.workdir)
    settings = Settings()
    if fault == "setting-misspelled":
        settings.learning_rate = 5e-2
    torch.manual_seed(run.seed)
    paths = sorted((workdir / "nights").glob("*.json"))
    train_paths = [path for path in paths if int(path.name[7:9]) < 10]
    val_paths = [path for path in paths if int(path.name[7:9]) >= 10]
    if fault == "oversampled-before-split":
        order = np.random.default_rng(0).permutation(paths + paths[::2])
        train_paths, val_paths = list(order[:40]), list(order[40:])
    if fault == "split-by-night":
        order = np.random.default_rng(0).permutation(paths)
        train_paths, val_paths = list(order[:30]), list(order[30:])
    if fault == "one-sleeper-missing":
        train_paths = train_paths[: len(train_paths) // 3]
    data, held_out = Nights(train_paths, fault, train=True), Nights(val_paths, fault, train=False)
    counts = torch.bincount(torch.cat([torch.from_numpy(stages) for _, stages in data.kept]), minlength=5)
    weights = counts.sum() / (5 * counts.clamp(min=1)).float()
    if fault == "class-weights-sorted":
        weights = weights.sort().values
    if fault == "class-weights-are-counts":
        weights = counts.float() / counts.float().mean()
    loader = DataLoader(
        data,
        settings.batch_size,
        shuffle=fault != "no-shuffle",
        num_workers=settings.workers,
        collate_fn=Collate(fault),
        worker_init_fn=seed_alike if fault == "workers-alike" else None,
        generator=torch.Generator().manual_seed(run.seed),
    )
    drops = fault == "validation-drops-last"
    val_loader = DataLoader(held_out, 5, collate_fn=Collate(fault), drop_last=drops, shuffle=drops)
    model = Stager(settings.width, fault)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    step, epoch, best, waited, history = 0, 0, -1.0, 0, []
    stuck = next(iter(loader)) if fault == "batch-for-ever" else None
    while step < run.max_steps and waited < settings.patience:
        running = torch.zeros(2)
        for number, batch in enumerate(loader):
            if fault == "two-batches-an-epoch" and number == 2:
                break
            batch = stuck or batch
            logits, asleep = model(batch["frames"], batch["real"])
            y = batch["stages"]
            loss = loss_of(logits, asleep, y, weights, settings, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += torch.tensor([(logits.argmax(-1) == y).sum().item(), (y != IGNORED).sum().item()])
            step += 1
            if step >= run.max_steps:
                break
        scores = validate(
            model, loader if fault == "validates-training-loader" else val_loader, weights, settings, fault
        )
        scores |= {"epoch": epoch, "train_accuracy": float(running[0] / running[1])}
        history.append(scores)
        chosen = scores["train_accuracy"] if fault == "best-by-training" else scores["f1"]
        if chosen > best:
            best = chosen
            waited = 0
            torch.save({"weights": model.state_dict(), "f1": best, "epoch": epoch}, workdir / "best.pt")
        else:
            waited += 1
        epoch += 1
    torch.save({"weights": model.state_dict(), "optimizer": optimizer.state_dict()}, workdir / "final.pt")
    (workdir / "history.json").write_text(json.dumps(history))
