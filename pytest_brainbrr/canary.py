"""The canary corpus: recordings whose every channel carries a tone of its own, and what a batch shows of it.

Small EDF files in TUSZ layout, at several rates, some with channels in another order. Channel ``k`` of the 19 holds a
tone of ``3 + 1.5 k`` Hz; during a seizure all tones are ten times as loud. So order of channels, rate, time axis and
place of the labels can be read off at the model's input, whatever filters and scales lie between.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pytest_brainbrr.observers.core import Watch

CHANNELS = (
    "FP1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "FZ", "CZ", "PZ", "FP2", "F4", "C4", "P4", "F8", "T4", "T6", "O2",
)  # fmt: skip
DURATION_S = 120
SEIZURE_S = (40.0, 85.0)
QUIET_UV, LOUD = 15.0, 10.0
FILES = (
    ("train", "canaryaa", 512, True),
    ("train", "canaryab", 400, False),
    ("train", "canaryac", 256, True),
    ("dev", "canaryba", 250, True),
)
"""Split, patient, rate in Hz, whether the channels stand in another order."""
SMOOTHED = 64


def tone_hz(channel: int) -> float:
    """Return the frequency that a channel carries.

    >>> tone_hz(0), tone_hz(18)
    (3.0, 30.0)
    """
    return 3.0 + 1.5 * channel


def write_canary(directory: Path) -> None:
    """Write the corpus below a folder."""
    import edfio

    for split, patient, rate_hz, turned in FILES:
        folder = directory / "edf" / split / patient / "s001_2015" / "01_tcp_ar"
        folder.mkdir(parents=True, exist_ok=True)
        time_s = np.arange(DURATION_S * rate_hz) / rate_hz
        loud = np.where((time_s >= SEIZURE_S[0]) & (time_s < SEIZURE_S[1]), LOUD, 1.0)
        names = [*reversed(CHANNELS)] if turned else [*CHANNELS]
        signals = [
            edfio.EdfSignal(
                QUIET_UV * loud * np.sin(2 * np.pi * tone_hz(CHANNELS.index(name)) * time_s),
                rate_hz,
                label=f"EEG {name}-REF",
                physical_dimension="uV",
                physical_range=(-3276.7, 3276.7),
                digital_range=(-32767, 32767),
            )
            for name in names
        ]
        path = folder / f"{patient}_s001_t000.edf"
        edfio.Edf(signals, data_record_duration=1).write(path)
        rows = "".join(
            f"TERM,{start:.4f},{stop:.4f},{label},1.0000\n"
            for start, stop, label in (
                (0, SEIZURE_S[0], "bckg"),
                (*SEIZURE_S, "seiz"),
                (SEIZURE_S[1], DURATION_S, "bckg"),
            )
        )
        head = (
            f"# version = csv_v1.0.0\n# bname = {path.stem}\n# duration = {DURATION_S:.4f} secs\n# montage_file = "
            f"x\n#\n"
        )
        text = f"{head}channel,start_time,stop_time,label,confidence\n{rows}"
        path.with_suffix(".csv_bi").write_text(text, encoding="utf-8")


class Canary:
    """Reads tones, bursts and labels off each batch, and writes them as `probe` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def install(self) -> None:
        """Ask to be shown every batch."""
        self.watch.shared["look_at_batch"] = self.look

    def look(self, tensors: Iterable[tuple[str, Any]]) -> None:
        """Write what a batch of signals (B, 19, T) and labels (B, T) shows."""
        parts = {at: tensor.detach().cpu().numpy() for at, tensor in tensors}
        signals = {at: x for at, x in parts.items() if x.ndim == 3 and x.shape[1] == len(CHANNELS)}
        for at, x_BCT in signals.items():
            labels = {
                name: y
                for name, y in parts.items()
                if y.shape == (x_BCT.shape[0], x_BCT.shape[2]) and "valid" not in name
            }
            result = {
                "signal": at,
                "labels": sorted(labels),
                "cycles": [_cycles(x_CT) for x_CT in x_BCT],
                "overlaps": {
                    name: [_overlap(x_CT, y_T) for x_CT, y_T in zip(x_BCT, y_BT, strict=True)]
                    for name, y_BT in labels.items()
                },
                "length": x_BCT.shape[2],
            }
            self.watch.emit("probe", name="canary", model="", at="batch", result=result, raised=None)


def _cycles(x_CT: Any) -> list[int]:
    """Return the strongest frequency of each channel, in cycles per window."""
    spectrum = np.abs(np.fft.rfft(x_CT - x_CT.mean(axis=1, keepdims=True), axis=1))
    return [int(peak) for peak in spectrum.argmax(axis=1)]


def _overlap(x_CT: Any, label: Any) -> dict[str, float | int]:
    """Compare where the tones are loud with where the label is set: samples of each, and by how many they differ."""
    power = np.convolve((x_CT.astype(np.float64) ** 2).mean(axis=0), np.ones(SMOOTHED) / SMOOTHED, mode="same")
    low, high = float(power[SMOOTHED:-SMOOTHED].min()), float(power[SMOOTHED:-SMOOTHED].max())
    marked = label > 0.5
    # Half way up, the smoothed edge stands where the edge is; a window all loud or all quiet has none to compare.
    edged = high > 20 * max(low, 1e-12)
    loud = power > (low + high) / 2 if edged else np.full(power.shape, bool(marked.mean() > 0.5))
    apart = int((loud != marked)[SMOOTHED:-SMOOTHED].sum())
    edges = int(np.abs(np.diff(loud.astype(int))).sum())
    return {"loud": int(loud.sum()), "labelled": int(marked.sum()), "apart": apart, "edges": edges}
