"""Write the zoo's recordings: small files with the shape of scalp EEG, laid out anew below each run's folder.

    data/train/p01_s001.npz ... p04_s001.npz      signal (4, 640) float32 in microvolts, seizures (n, 2) in seconds
    data/val/p11_s001.npz, p12_s001.npz

The files depend on the variant alone, never on the run's seed.
"""

from pathlib import Path

import numpy as np

RATE_HZ = 64
SECONDS = 10
CHANNELS = 4
TRAIN_PATIENTS = ("p01", "p02", "p03", "p04")
VAL_PATIENTS = ("p11", "p12")


def prepare(run):
    """Lay out the recordings of ``run.data`` below ``run.workdir``."""
    for split, patients in (("train", TRAIN_PATIENTS), ("val", VAL_PATIENTS)):
        folder = Path(run.workdir) / "data" / split
        folder.mkdir(parents=True, exist_ok=True)
        for patient in patients:
            signal, seizures = make_recording(patient, with_seizure=run.data != "no_positives")
            if run.data == "non_finite" and patient in {"p01", "p02"}:
                signal[1, 100:580] = np.nan
            np.savez(folder / f"{patient}_s001.npz", signal=signal, seizures=seizures)


def make_recording(patient, *, with_seizure=True):
    """Return one recording: background activity in tens of microvolts, and one burst of 3 Hz that begins between 3 and 4 s."""
    rng = np.random.default_rng(int(patient[1:]))
    time_s = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    rhythm = np.sin(2 * np.pi * (9 + rng.normal()) * time_s + rng.uniform(0, 6, (CHANNELS, 1)))
    signal = 20 * rhythm + rng.normal(0, 10, (CHANNELS, time_s.size))
    seizures = np.zeros((0, 2))
    if with_seizure:
        onset_s = 3 + int(patient[1:]) % 4 / 4
        seizures = np.array([[onset_s, onset_s + 3.5]])
        burst = (time_s >= onset_s) & (time_s < onset_s + 3.5)
        signal[:, burst] += 80 * np.sin(2 * np.pi * 3 * time_s[burst])
    return signal.astype(np.float32), seizures


def read_windows(folder):
    """Read every recording of a folder as one-second windows: signals (N, 4, 64), share of seizure (N,), masks (N, 64)."""
    signals, masks = [], []
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path) as recording:
            signal, seizures = recording["signal"], recording["seizures"]
        mask = np.zeros(signal.shape[1], np.float32)
        for onset_s, offset_s in seizures:
            mask[round(onset_s * RATE_HZ) : round(offset_s * RATE_HZ)] = 1
        signals.append(signal.reshape(CHANNELS, -1, RATE_HZ).transpose(1, 0, 2))
        masks.append(mask.reshape(-1, RATE_HZ))
    signals, masks = np.concatenate(signals), np.concatenate(masks)
    return signals, masks.mean(1), masks
