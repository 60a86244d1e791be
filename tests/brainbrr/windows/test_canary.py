"""Canary recordings: what the model sees is traced back to channel, amplitude and time of the file.

Every channel carries a tone and an amplitude of its own, bursts sit exactly under the labels, decoy channels shout.
Asserted on the tensors that a data loader would hand to the model, after reading, filtering, resampling, caching and
sampling.
"""

import numpy as np
import pytest
import torch
from data_files import csv_bi, settings, write_edf

from brainbrr.montage import CHANNELS
from brainbrr.windows import load_split, make_sampler

pytestmark = pytest.mark.usefixtures("own_cache")

SECONDS = 60
BURSTS = ((12.0, 19.5), (33.25, 41.0))
TONES_HZ = {name: 5 + place for place, name in enumerate(CHANNELS)}  # 5 to 23 Hz
AMPLITUDES_UV = {name: 40 + 4 * place for place, name in enumerate(CHANNELS)}
BURST_HZ = 30
BURST_UV = 200


def write_canary(root, rate_hz, order_seed):
    time_s = np.arange(SECONDS * rate_hz) / rate_hz
    inside = np.zeros(len(time_s), bool)
    for onset_s, offset_s in BURSTS:
        inside |= (time_s >= onset_s) & (time_s < offset_s)
    signals = {}
    for name in CHANNELS:
        tone = AMPLITUDES_UV[name] * np.sin(2 * np.pi * TONES_HZ[name] * time_s)
        signals[f"EEG {name.upper()}-REF"] = tone + inside * BURST_UV * np.sin(2 * np.pi * BURST_HZ * time_s)
    for decoy in ("EEG EKG1-REF", "EEG A1-REF", "EEG C3P-REF", "EEG 20-REF", "DC1"):
        signals[decoy] = 3000 * np.sin(2 * np.pi * 3 * time_s)
    labels = list(np.random.default_rng(order_seed).permutation(list(signals)))
    signals = {label: signals[label] for label in labels} | {"IBI": np.zeros(SECONDS)}
    stem = "aaaaaaaa_s001_t000"
    path = root / "edf/train/aaaaaaaa/s001_2015/01_tcp_ar" / f"{stem}.edf"
    write_edf(path, signals, rate_hz, slow={"IBI": 1})
    path.with_suffix(".csv_bi").write_text(csv_bi(stem, SECONDS, list(BURSTS)))


def power_at(signal, hz, rate_hz):
    """Return the amplitude of a tone in each channel."""
    time_s = np.arange(signal.shape[-1]) / rate_hz
    return np.abs((signal * np.exp(-2j * np.pi * hz * time_s)).mean(-1)) * 2


@pytest.mark.parametrize(
    ("rate_hz", "model_hz"), [(256, 256.0), (250, 256.0), (400, 256.0), (512, 256.0), (200, 128.0), (1000, 200.0)]
)
def test_every_window_is_what_its_place_in_the_file_says(tmp_path, rate_hz, model_hz):
    write_canary(tmp_path, rate_hz, order_seed=rate_hz)
    config = settings(
        tmp_path,
        preprocessing={"rate_hz": model_hz, "standardize": "none", "clip": None, "band_hz": [0.5, 100.0]},
        windows={"length_s": 10.0, "stride_s": 3.0},
    )
    windows = load_split(config, "train")
    sampler = make_sampler(config, windows, seed=0)
    loader = torch.utils.data.DataLoader(windows, batch_size=3, sampler=sampler)
    seen = set()
    for batch in loader:
        for signal, label, place in zip(
            batch["signal"].numpy(), batch["label"].numpy(), batch["window"].tolist(), strict=True
        ):
            start_s = windows.starts[place] / model_hz
            seen.add(place)
            # Channels: the loudest tone of each row is its own, at its own height.
            strength = np.array([power_at(signal, hz, model_hz) for hz in TONES_HZ.values()])
            assert strength.argmax(0).tolist() == list(range(19))
            np.testing.assert_allclose(strength.max(0), list(AMPLITUDES_UV.values()), rtol=0.06)
            # Decoys: nothing of theirs.
            assert power_at(signal, 3, model_hz).max() < 12
            # Time: the burst is where the label is, to the sample of its edges' rise.
            time_s = start_s + np.arange(signal.shape[1]) / model_hz
            truth = np.zeros(len(time_s), bool)
            for onset_s, offset_s in BURSTS:
                truth |= (time_s >= onset_s - 1e-9) & (time_s < offset_s - 1e-9)
            np.testing.assert_array_equal(label.astype(bool), truth)
            assert abs(edge_shift(signal, label, model_hz)) <= 1.0
    assert len(seen) > 5


def edge_shift(signal, label, rate_hz):
    """Return by how many samples the burst should move to fit its label best (0 where a window holds no edge)."""
    if label.all() or not label.any():
        return 0.0
    time_s = np.arange(signal.shape[1]) / rate_hz
    carrier = signal.mean(0) * np.exp(-2j * np.pi * BURST_HZ * time_s)
    # Over one second the tones, which lie whole hertz away from the burst's, cancel.
    second = np.ones(round(rate_hz)) / round(rate_hz)
    envelope = np.abs(np.convolve(carrier, second, "same")) / (BURST_UV / 2)
    ideal = np.convolve(label, second, "same")
    inner = slice(len(second), -len(second))
    shifts = list(range(-6, 7))
    fits = [-np.sum((np.roll(ideal, shift) - envelope)[inner] ** 2) for shift in shifts]
    best = int(np.argmax(fits))
    assert 0 < best < len(fits) - 1
    left, middle, right = fits[best - 1 : best + 2]
    return shifts[best] + 0.5 * (left - right) / (left - 2 * middle + right)  # the peak of the parabola
