"""The canary corpus: recordings whose every channel carries a tone of its own, and what a batch shows of it.

Small EDF files in TUSZ layout, at several rates, some with channels in another order. Channel ``k`` of the 19 holds a
tone of ``3 + 1.5 k`` Hz, and a little more in each further recording; during a seizure all tones are ten times
as loud. So recording, order of channels, rate, time axis and place of the labels can be read off at the model's input,
whatever filters and scales lie between. Every tone has an amplitude of its own in microvolts: what is left of it says
over what the signal was standardized.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.tensors import digest

CHANNELS = (
    "FP1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "FZ", "CZ", "PZ", "FP2", "F4", "C4", "P4", "F8", "T4", "T6", "O2",
)  # fmt: skip
QUIET_UV, LOUD = 15.0, 10.0
RATE_HZ, WINDOW_S = 256, 60
MARK_HZ = 0.11
"""By how much the tones of one recording lie above those of the one before: so a window says where it comes from.

No tone has a whole number of samples at a usual rate, which would leave few distinct values to take quartiles of."""
SMOOTHED = 64
QUARTILES = 1.3489795003921634
"""Distance of the quartiles of a normal distribution of deviation 1."""


@dataclass(frozen=True)
class Recording:
    """One file of the corpus."""

    number: int
    split: str
    patient: str
    rate_hz: int
    turned: bool
    """Whether the channels stand in another order."""
    duration_s: int
    seizure_s: tuple[float, float] | None

    def tone_hz(self, channel: int) -> float:
        """Return the frequency that a channel carries."""
        return tone_hz(channel) + MARK_HZ * self.number

    def gain_uv(self, channel: int) -> float:
        """Return the amplitude of a channel's tone outside of the seizure: another one in every file and channel."""
        return QUIET_UV * (1 + self.number / 2) * (1 + channel / 36)

    def signal(self, channel: int, rate_hz: float) -> Any:
        """Return a channel in microvolts."""
        time_s = np.arange(round(self.duration_s * rate_hz)) / rate_hz
        start, stop = self.seizure_s or (0.0, 0.0)
        loud = np.where((time_s >= start) & (time_s < stop), LOUD, 1.0)
        return self.gain_uv(channel) * loud * np.sin(2 * np.pi * self.tone_hz(channel) * time_s)


FILES = (
    Recording(0, "train", "canaryaa", 512, True, 75, (35.0, 45.0)),
    Recording(1, "train", "canaryaa", 400, False, 50, None),
    Recording(2, "train", "canaryab", 256, True, 45, (10.0, 16.0)),
    Recording(3, "train", "canaryab", 250, False, 50, (25.0, 31.0)),
    Recording(4, "dev", "canaryba", 250, True, 60, (40.0, 56.0)),
)
"""Patients of several recordings, windows with and without seizure, recordings shorter than a window, rare seizures."""


def tone_hz(channel: int) -> float:
    """Return the frequency that a channel carries in the first recording.

    >>> tone_hz(0), tone_hz(18)
    (3.0, 30.0)
    """
    return 3.0 + 1.5 * channel


def write_canary(directory: Path, *, seizures: bool = True) -> None:
    """Write the corpus below a folder, with its seizures or without."""
    import edfio

    takes = Counter[str]()
    for planned in FILES:
        recording = planned if seizures else replace(planned, seizure_s=None)
        patient = recording.patient
        folder = directory / "edf" / recording.split / patient / "s001_2015" / "01_tcp_ar"
        folder.mkdir(parents=True, exist_ok=True)
        signals = [
            edfio.EdfSignal(
                recording.signal(CHANNELS.index(name), recording.rate_hz),
                recording.rate_hz,
                label=f"EEG {name}-REF",
                physical_dimension="uV",
                physical_range=(-3276.7, 3276.7),
                digital_range=(-32767, 32767),
            )
            for name in (reversed(CHANNELS) if recording.turned else CHANNELS)
        ]
        path = folder / f"{patient}_s001_t{takes[patient]:03d}.edf"
        takes[patient] += 1
        edfio.Edf(signals, data_record_duration=1).write(path)
        _write_labels(path, recording)


def _write_labels(path: Path, recording: Recording) -> None:
    edges = [0.0, *(recording.seizure_s or ()), float(recording.duration_s)]
    rows = "".join(
        f"TERM,{start:.4f},{stop:.4f},{'seiz' if place == 1 and recording.seizure_s else 'bckg'},1.0000\n"
        for place, (start, stop) in enumerate(pairwise(edges))
    )
    head = (
        f"# version = csv_v1.0.0\n# bname = {path.stem}\n# duration = {recording.duration_s:.4f} secs\n"
        f"# montage_file = x\n#\n"
    )
    text = f"{head}channel,start_time,stop_time,label,confidence\n{rows}"
    path.with_suffix(".csv_bi").write_text(text, encoding="utf-8")


class Canary:
    """Reads tones, bursts and labels off each batch, and writes them as `probe` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._scales: dict[int, dict[str, float]] = {}

    def install(self) -> None:
        """Ask to be shown every batch."""
        self.watch.shared["look_at_batch"] = self.look

    def look(self, tensors: Iterable[tuple[str, Any]]) -> None:
        """Write what a batch of signals (B, 19, T) and labels (B, T) shows."""
        kept = list(tensors)
        parts = {at: tensor.detach().cpu().numpy() for at, tensor in kept}
        signals = {at: x for at, x in parts.items() if x.ndim == 3 and x.shape[1] == len(CHANNELS)}
        for at, x_BCT in signals.items():
            labels = {
                name: y
                for name, y in parts.items()
                if y.shape == (x_BCT.shape[0], x_BCT.shape[2]) and "valid" not in name
            }
            cycles = [_cycles(x_CT) for x_CT in x_BCT]
            recordings = [_recording(row) for row in cycles]
            result = {
                "signal": at,
                "digest": digest(dict(kept)[at]),
                "labels": sorted(labels),
                "cycles": cycles,
                "recordings": [None if recording is None else recording.number for recording in recordings],
                "patients": [None if recording is None else recording.patient for recording in recordings],
                "scales": [
                    None if recording is None else self._compare(x_CT, recording)
                    for x_CT, recording in zip(x_BCT, recordings, strict=True)
                ],
                "overlaps": {
                    name: [_overlap(x_CT, y_T) for x_CT, y_T in zip(x_BCT, y_BT, strict=True)]
                    for name, y_BT in labels.items()
                },
                "length": x_BCT.shape[2],
            }
            self.watch.emit("probe", name="canary", model="", at="batch", result=result, raised=None)

    def _compare(self, x_CT: Any, recording: Recording) -> dict[str, list[float]]:
        """Return how large each channel is, as a multiple of what each way to standardize would have made of it."""
        if recording.number not in self._scales:
            # Channels differ by their gain only, so that one tells the deviation of all.
            signal = recording.signal(0, RATE_HZ) / recording.gain_uv(0)
            low, high = np.quantile(signal, [0.25, 0.75])
            self._scales[recording.number] = {"robust": float(high - low) / QUARTILES, "zscore": float(signal.std())}
        sizes = _quiet_size(x_CT)
        scales = self._scales[recording.number]
        found = {way: [float(size * scale) for size in sizes] for way, scale in scales.items()}
        found["none"] = [float(size / recording.gain_uv(channel)) for channel, size in enumerate(sizes)]
        return found


def _cycles(x_CT: Any) -> list[int]:
    """Return the strongest frequency of each channel, in cycles per window."""
    spectrum = np.abs(np.fft.rfft(x_CT - x_CT.mean(axis=1, keepdims=True), axis=1))
    return [int(peak) for peak in spectrum.argmax(axis=1)]


def _recording(cycles: list[int]) -> Recording | None:
    """Return the recording that a window was cut from, whatever the order of its channels, or None."""
    for recording in FILES:
        wanted = [recording.tone_hz(channel) * WINDOW_S for channel in range(len(CHANNELS))]
        if all(abs(seen - tone) <= 1 for seen, tone in zip(sorted(cycles), wanted, strict=True)):
            return recording
    return None


def _real(x_CT: Any) -> int:
    """Return how many samples of a window are no padding."""
    moving = np.flatnonzero(np.any(x_CT != 0, axis=0))
    return int(moving[-1]) + 1 if moving.size else 0


def _power(x_CT: Any) -> Any:
    squares = (x_CT[:, : _real(x_CT)].astype(np.float64) ** 2).mean(axis=0)
    return np.convolve(squares, np.ones(SMOOTHED) / SMOOTHED, mode="same")


def _quiet_size(x_CT: Any) -> Any:
    """Return the amplitude of each channel's tone outside of the burst."""
    power = _power(x_CT)
    inner = np.zeros(power.shape, bool)
    inner[RATE_HZ:-RATE_HZ] = True
    low, high = power[inner].min(), power[inner].max()
    loud = power > (low + high) / 2 if high > 20 * max(low, 1e-12) else np.zeros(power.shape, bool)
    # A second around each burst is left out: filters ring there.
    near = np.convolve(loud, np.ones(2 * RATE_HZ + 1), mode="same") > 0
    quiet = x_CT[:, : power.size][:, inner & ~near]
    return np.sqrt(2 * (quiet.astype(np.float64) ** 2).mean(axis=1)) if quiet.size else np.full(len(x_CT), np.nan)


def _overlap(x_CT: Any, label: Any) -> dict[str, float | int]:
    """Compare where the tones are loud with where the label is set: samples of each, and by how many they differ."""
    power = _power(x_CT)
    low, high = float(power[SMOOTHED:-SMOOTHED].min()), float(power[SMOOTHED:-SMOOTHED].max())
    marked = label[: power.size] > 0.5
    # Half way up, the smoothed edge stands where the edge is; a window all loud or all quiet has none to compare.
    edged = high > 20 * max(low, 1e-12)
    loud = power > (low + high) / 2 if edged else np.full(power.shape, bool(marked.mean() > 0.5))
    apart = int((loud != marked)[SMOOTHED:-SMOOTHED].sum()) + int((label[power.size :] > 0.5).sum())
    edges = int(np.abs(np.diff(loud.astype(int))).sum())
    return {"loud": int(loud.sum()), "labelled": int(marked.sum()), "apart": apart, "edges": edges}
