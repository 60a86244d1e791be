"""Small EEG-like recordings, one file a patient: bursts of a slow rhythm on noise, labels per window and per sample."""

from pathlib import Path

import numpy as np


def patient(number, windows=8, channels=4, length=64):
    """Return windows, window labels and sample masks of one made-up patient."""
    rng = np.random.default_rng(1000 + number)
    x = rng.normal(0.0, 1.0, (windows, channels, length)).astype(np.float32)
    mask = np.zeros((windows, length), np.float32)
    for k in range(0, windows, 2):
        start = int(rng.integers(0, length // 2))
        mask[k, start : start + length // 3] = 1.0
    wave = 2.0 * np.sin(np.arange(length) * 0.6 + rng.uniform(0, 6)).astype(np.float32)
    x += mask[:, None, :] * wave
    return x, mask.any(1).astype(np.int64), mask


def lay_out(run, patients=6, **sizes):
    """Write one file per patient below ``run.workdir/data``."""
    folder = Path(run.workdir) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(patients):
        x, y, mask = patient(number, **sizes)
        np.savez(folder / f"patient{number}.npz", x=x, y=y, mask=mask)


def read(run, numbers):
    """Read the patients of these numbers back: windows, labels, masks."""
    parts = []
    for number in numbers:
        with np.load(Path(run.workdir) / "data" / f"patient{number}.npz") as file:
            parts.append((file["x"], file["y"], file["mask"]))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
