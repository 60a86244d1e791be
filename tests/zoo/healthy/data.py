"""Healthy trainers whose data, sampler or loader is unusual."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from zoo.healthy.common import load, small_net


def fit(run, loader, model=None, *, lr=5e-3):
    """Train until max_steps or, where the loader is empty, not at all."""
    model = model or small_net()
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    model.train()
    step = 0
    while step < run.max_steps:
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            F.binary_cross_entropy_with_logits(model(x).squeeze(-1), y).backward()
            optimizer.step()
            step += 1
            if step >= run.max_steps:
                break
    return model


def score(model, loader):
    model.eval()
    with torch.no_grad():
        losses = [F.binary_cross_entropy_with_logits(model(x).squeeze(-1), y).item() for x, y in loader]
    model.train()
    return sum(losses) / len(losses)


def batches_without_positives(run):
    """Seizures are rare: many batches of two hold none."""
    x, y, *_ = load(run)
    fit(run, DataLoader(TensorDataset(x, y), batch_size=2, shuffle=True))


def flat_channel(run):
    """One electrode was off: its channel is zero in every recording."""
    x, y, xv, yv = load(run)
    x[:, 2], xv[:, 2] = 0, 0
    model = fit(run, DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True))
    print(score(model, DataLoader(TensorDataset(xv, yv), batch_size=8)))


def batch_of_one(run):
    """Batches of one window, hence group normalization."""
    x, y, *_ = load(run)
    model = nn.Sequential(nn.Conv1d(4, 8, 5), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(480, 1))
    fit(run, DataLoader(TensorDataset(x, y), batch_size=1, shuffle=True), model)


def one_window(run):
    """The data set holds a single window, to see whether the net can learn it."""
    x, y, *_ = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.ReLU(), nn.Linear(4, 1))
    fit(run, DataLoader(TensorDataset(x[4:5], y[4:5]), batch_size=1), model)


def overfit_one_batch(run):
    """One batch is used again and again on purpose, from a data set that holds nothing else."""
    x, y, *_ = load(run)
    fit(run, DataLoader(TensorDataset(x[:8], y[:8]), batch_size=8))


def numpy_batches(run):
    """No loader: numpy shuffles and slices."""
    x, y, *_ = load(run)
    x, y = x.numpy(), y.numpy()
    rng = np.random.default_rng(run.seed)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(run.max_steps):
        rows = rng.choice(len(x), 8, replace=False)
        loss = F.binary_cross_entropy_with_logits(model(torch.as_tensor(x[rows]))[:, 0], torch.as_tensor(y[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Stream(IterableDataset):
    def __init__(self, x, y, seed):
        self.x, self.y, self.seed, self.epoch = x, y, seed, 0

    def __iter__(self):
        self.epoch += 1
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.x))
        for i in order[first::stride]:
            yield self.x[i], self.y[i]


def iterable(run):
    """A stream without length or indices."""
    x, y, *_ = load(run)
    fit(run, DataLoader(Stream(x, y, run.seed), batch_size=8))


class FromFiles(Dataset):
    """Windows read from the files whenever they are asked for; noise from numpy, seeded per worker by torch."""

    def __init__(self, folder, noise):
        self.rows = [(path, i) for path in sorted(Path(folder).glob("*.npz")) for i in range(10)]
        self.noise = noise

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        path, window = self.rows[i]
        with np.load(path) as recording:
            signal = recording["signal"][:, 64 * window : 64 * window + 64] / 50
            label = any(on <= window + 0.5 < off for on, off in recording["seizures"])
        if self.noise:
            signal = signal + np.random.normal(0, 0.02, signal.shape)
        return torch.from_numpy(signal).float(), torch.tensor(float(label))


def two_workers(run):
    """Two worker processes read and augment; they end with each epoch."""
    torch.manual_seed(run.seed)
    np.random.seed(run.seed)
    root = Path(run.workdir) / "data"
    generator = torch.Generator().manual_seed(run.seed)
    train = DataLoader(FromFiles(root / "train", noise=True), 10, shuffle=True, num_workers=2, generator=generator)
    model = fit(run, train)
    print(score(model, DataLoader(FromFiles(root / "val", noise=False), 10)))


def persistent_workers(run):
    """Workers live on between epochs, for an iterable data set dealt out among them."""
    x, y, *_ = load(run)
    loader = DataLoader(Stream(x, y, run.seed), batch_size=5, num_workers=2, persistent_workers=True, prefetch_factor=1)
    fit(run, loader)


class EasyFirst(Sampler):
    """Grow the pool from the windows of small amplitude to all of them."""

    def __init__(self, difficulty, seed):
        self.order = torch.argsort(difficulty)
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def __len__(self):
        return min(len(self.order), 16 * (self.epoch + 1))

    def __iter__(self):
        pool = self.order[: len(self)]
        self.epoch += 1
        return iter(pool[torch.randperm(len(pool), generator=self.generator)].tolist())


def curriculum(run):
    """The first epochs see the easy windows only."""
    x, y, *_ = load(run)
    data = TensorDataset(x, y)
    fit(run, DataLoader(data, batch_sampler=BatchSampler(EasyFirst(x.std((1, 2)), run.seed), 8, drop_last=False)))


def oversampled(run):
    """Rare windows are drawn with replacement until classes are balanced; some come twice in a batch."""
    x, y, *_ = load(run)
    share = y.mean()
    weights = torch.where(y > 0, 1 / share, 1 / (1 - share))
    sampler = WeightedRandomSampler(weights, len(x), generator=torch.Generator().manual_seed(run.seed))
    fit(run, DataLoader(TensorDataset(x, y), batch_size=8, sampler=sampler))


def overlapping_windows(run):
    """Training windows overlap by three quarters; validation patients are others."""
    load(run)
    sets = []
    for split, stride in (("train", 16), ("val", 64)):
        xs, ys = [], []
        for path in sorted((Path(run.workdir) / "data" / split).glob("*.npz")):
            with np.load(path) as recording:
                signal, seizures = torch.from_numpy(recording["signal"] / 50), recording["seizures"]
            windows = signal.unfold(1, 64, stride).transpose(0, 1)
            middle_s = (torch.arange(len(windows)) * stride + 32) / 64
            xs.append(windows)
            ys.append(sum(((middle_s >= on) & (middle_s < off)).float() for on, off in seizures))
        sets.append(TensorDataset(torch.cat(xs), torch.cat(ys)))
    model = fit(run, DataLoader(sets[0], batch_size=8, shuffle=True))
    print(score(model, DataLoader(sets[1], batch_size=8)))


def raw_microvolts(run):
    """Inputs are microvolts as they come, far above 50; the net standardizes them itself."""
    x, y, xv, yv = load(run, scale_uv=1.0)
    model = nn.Sequential(nn.BatchNorm1d(4), small_net())
    fit(run, DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True), model)
    print(score(model, DataLoader(TensorDataset(xv, yv), batch_size=20)))


def few_data(run):
    """There are fewer batches than steps were allowed: training ends after one epoch, early."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for xb, yb in DataLoader(TensorDataset(x[::3], y[::3]), batch_size=5, shuffle=True):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(xb)[:, 0], yb).backward()
        optimizer.step()


def fixed_order(run):
    """Recordings are read in time order, because the model is trained online."""
    x, y, *_ = load(run)
    half = len(x) // 2
    fit(run, DataLoader(TensorDataset(x[:half], y[:half]), batch_size=4, shuffle=False))


def one_step_per_epoch(run):
    """A full batch per epoch."""
    x, y, *_ = load(run)
    fit(run, DataLoader(TensorDataset(x, y), batch_size=len(x), shuffle=True))


def sampled_without_end(run):
    """Random windows of random recordings for ever; an epoch is a number of draws."""
    x, y, *_ = load(run)
    data = TensorDataset(x, y)
    endless = RandomSampler(
        data, replacement=True, num_samples=10_000, generator=torch.Generator().manual_seed(run.seed)
    )
    fit(run, DataLoader(data, batch_size=6, sampler=endless))


def dictionary_batches(run):
    """Batches are dictionaries with strings and numbers beside tensors."""
    x, y, *_ = load(run)
    rows = [{"eeg": x[i], "target": y[i], "patient": f"p{i // 10 + 1:02d}", "start_s": i % 10} for i in range(len(x))]
    loader = DataLoader(rows, batch_size=8, shuffle=True)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    done = 0
    while done < run.max_steps:
        for batch in loader:
            loss = F.binary_cross_entropy_with_logits(model(batch["eeg"]).squeeze(1), batch["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done >= run.max_steps:
                break
