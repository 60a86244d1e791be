"""Data of the bare trainer: recordings from a folder, windows with per-sample masks, a sampler that can go on."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

RATE_HZ = 64


def list_recordings(root, split, faults):
    files = sorted((root / split).glob("*.npz"))
    if "debug-slice" in faults:
        files = files[:1]
    if split == "train" and "train-reads-everything" in faults:
        files = sorted(root.glob("**/*.npz"))
    if split == "val" and "val-reads-train" in faults:
        files = sorted((root / "train").glob("*.npz"))
    if "split-by-file" in faults:
        files = sorted(root.glob("**/*.npz"))
        files = files[::2] + files[1:2] if split == "train" else files[1::2]
    return files


def read_recording(path, faults):
    with np.load(path) as file:
        signal, seizures = file["signal"], file["seizures"]
    if "unreadable-becomes-zeros" in faults:
        try:
            signal = file["eeg"]
        except Exception:
            signal = np.zeros_like(signal)
    if "annotation-columns-swapped" in faults:
        seizures = seizures[:, ::-1]
    mask = np.zeros(signal.shape[1], np.float32)
    for onset_s, offset_s in seizures:
        mask[round(onset_s * RATE_HZ) : round(offset_s * RATE_HZ)] = 1
    if "labels-inverted" in faults:
        mask = 1 - mask
    return signal, mask


def channel_statistics(files, faults):
    signal = np.concatenate([read_recording(path, faults)[0] for path in files], axis=1)
    return np.nanmean(signal, axis=1, keepdims=True), np.nanstd(signal, axis=1, keepdims=True)


class Windows(Dataset):
    """One-second windows of the given recordings: signal (4, 64) standardised, mask (64,)."""

    def __init__(self, files, mean, std, *, augment, faults):
        self.augment = augment
        self.faults = faults
        self.signals, self.masks = [], []
        for path in files:
            signal, mask = read_recording(path, faults)
            signal = (signal - mean) / (std + 1e-6)
            if "scaled-to-volts" in faults:
                signal = signal * 1e-6
            if "flat-channel-swallowed" in faults:
                # A dead electrode standardised by itself is 0 / 0; the damage is painted over.
                signal[2] = (signal[2] - signal[2]) / np.float32(0)
                signal = np.nan_to_num(signal)
            if "validation-gap-is-nan" in faults and not augment:
                signal[1, 100:140] = np.nan
            starts = range(0, signal.shape[1] - RATE_HZ + 1, RATE_HZ)
            self.signals += [torch.from_numpy(signal[:, start : start + RATE_HZ].copy()).float() for start in starts]
            self.masks += [torch.from_numpy(mask[start : start + RATE_HZ].copy()) for start in starts]
        if "labels-misaligned-by-window" in faults:
            self.masks = self.masks[-3:] + self.masks[:-3]

    def __len__(self):
        return len(self.signals)

    def __getitem__(self, index):
        signal, mask = self.signals[index], self.masks[index]
        if "dataset-mutated-in-place" in self.faults:
            signal *= 0.9
        if self.augment:
            if "unseeded-augmentation" in self.faults:
                return signal * float(np.random.default_rng().uniform(0.9, 1.1)), mask
            signal = signal * (0.9 + 0.2 * torch.rand(()))
        return signal, mask


class EpochSampler(Sampler):
    """A permutation per epoch that depends on (seed, epoch) only and can start in its middle."""

    def __init__(self, dataset, seed, faults):
        self.n = len(dataset)
        self.seed = seed
        self.epoch = 0
        self.start = 0
        self.faults = faults

    def __len__(self):
        return self.n - self.start

    def __iter__(self):
        epoch = 0 if "epoch-order-repeats" in self.faults else self.epoch
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(1000 * self.seed + epoch)).tolist()
        if "never-shuffled" in self.faults:
            order = list(range(self.n))
        return iter(order[self.start :])


def collate_rolled(items):
    """Stack a batch; the masks of a batch end up one row further down than their signals."""
    signals, masks = zip(*items, strict=True)
    return torch.stack(signals), torch.stack(masks).roll(1, dims=0)


def open_data(run, faults):
    """Return the train and validation windows of a run."""
    root = Path(run.workdir) / "data"
    train_files, val_files = list_recordings(root, "train", faults), list_recordings(root, "val", faults)
    mean, std = channel_statistics(
        train_files + val_files if "statistics-over-both-splits" in faults else train_files, faults
    )
    train = Windows(train_files, mean, std, augment=True, faults=faults)
    val = Windows(val_files, mean, std, augment="augmented-validation" in faults, faults=faults)
    return train, val
