"""EDF files to cached arrays and random windows, against the same work done the usual way, side by side in one run.

    python benchmarks/data_pipeline.py --recordings 20 --minutes 20

The usual way: MNE reads all channels, scipy resamples by FFT, ``lfilter`` filters, z-scores, and overlapping windows
of 60 s every 10 s go into one compressed npz per recording; a random window means opening its npz. Ours: ``brainbrr
cache build`` and ``windows[i]``. Both run on one core, in this order: ours, usual, for each recording, so that a busy
machine slows both.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import edfio
import mne
import numpy as np
from scipy import signal as dsp

from brainbrr.config import config_from_mapping
from brainbrr.montage import CHANNELS
from brainbrr.windows import load_split

RATES = (250, 256, 400, 512)
LENGTH, STRIDE, MODEL_HZ = 60, 10, 256


def write_recordings(root: Path, n: int, minutes: float) -> list[Path]:
    """Write ``n`` recordings of 24 channels, one of them at 1 Hz as in TUSZ."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(n):
        rate, seconds = RATES[number % 4], int(60 * minutes)
        labels = [f"EEG {name.upper()}-REF" for name in CHANNELS] + [
            "EEG EKG1-REF",
            "EEG A1-REF",
            "EEG A2-REF",
            "EEG T1-REF",
        ]
        signals = []
        for label in labels:
            noise = dsp.lfilter([1], [1, -0.95], random.normal(0, 8, seconds * rate))
            signals.append(
                edfio.EdfSignal(noise, rate, label=label, physical_dimension="uV", physical_range=(-3276.7, 3276.7))
            )
        signals.append(
            edfio.EdfSignal(np.ones(seconds), 1, label="IBI", physical_dimension="uV", physical_range=(-9, 9))
        )
        stem = f"{'abcdefghijklmnopqrstuvwxyz'[number] * 8}_s001_t000"
        path = root / "edf" / "train" / stem[:8] / "s001_2015" / "01_tcp_ar" / f"{stem}.edf"
        path.parent.mkdir(parents=True)
        edfio.Edf(signals, data_record_duration=1).write(path)
        path.with_suffix(".csv_bi").write_text(
            f"# duration = {seconds:.4f} secs\nchannel,start_time,stop_time,label,confidence\nTERM,30.0,90.0,seiz,1.0\n"
        )
        paths.append(path)
    return paths


def usual(path: Path, output: Path) -> None:
    """Preprocess one recording the usual way."""
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    picks = [raw.ch_names.index(f"EEG {name.upper()}-REF") for name in CHANNELS]
    data = raw.get_data()[picks] * 1e6
    data = dsp.resample(data, round(data.shape[1] * MODEL_HZ / raw.info["sfreq"]), axis=1)
    b, a = dsp.butter(4, (0.5, 100), "bandpass", fs=MODEL_HZ)
    data = dsp.lfilter(b, a, data, axis=1)
    b, a = dsp.iirnotch(60, 30, fs=MODEL_HZ)
    data = dsp.lfilter(b, a, data, axis=1)
    data = ((data - data.mean(1, keepdims=True)) / data.std(1, keepdims=True)).astype(np.float32)
    length, stride = LENGTH * MODEL_HZ, STRIDE * MODEL_HZ
    windows = np.stack([data[:, s : s + length] for s in range(0, data.shape[1] - length + 1, stride)])
    np.savez_compressed(output, windows=windows)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--cpu", action="store_true", help="measure processor time: for machines that others use too")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = write_recordings(root / "corpus", options.recordings, options.minutes)
        config = config_from_mapping(
            {
                "run": {"name": "benchmark", "output_dir": "unused"},
                "data": {"directory": str(root / "corpus")},
                "cache": {"directory": str(root / "cache"), "dtype": options.dtype},
            },
            "benchmark",
        )
        os.environ["BGB_CACHE_DIR"] = str(root / "index")
        windows = load_split(config, "train")
        ours_s, usual_s = [], []
        (root / "usual").mkdir()
        windows.store.make(windows.recordings[0])  # imports are nobody's work
        for recording, path in zip(windows.recordings, paths, strict=True):
            start = clock()
            windows.store.make(recording)
            ours_s.append(clock() - start)
            start = clock()
            usual(path, root / "usual" / f"{path.stem}.npz")
            usual_s.append(clock() - start)
        sizes = [sum(f.stat().st_size for f in (root / name).rglob("*.np[yz]")) for name in ("cache", "usual")]
        random = np.random.default_rng(1)
        picks = random.integers(0, len(windows), options.windows)
        start = clock()
        windows.prepare()
        for i in range(0, len(windows), 50):
            windows[i]  # checksums, once per recording
        opening_s = clock() - start
        start = clock()
        for i in picks:
            windows[int(i)]
        per_s = len(picks) / (clock() - start)
        files = sorted((root / "usual").glob("*.npz"))
        start = clock()
        n_usual = 0
        while clock() - start < 10 or n_usual < 3:
            with np.load(files[int(random.integers(len(files)))]) as archive:
                held = archive["windows"]
                held[int(random.integers(len(held)))].copy()
            n_usual += 1
        usual_per_s = n_usual / (clock() - start)
    print(json.dumps({
        "recordings": options.recordings, "minutes": options.minutes, "dtype": options.dtype,
        "ours_s_per_recording": round(float(np.mean(ours_s)), 3),
        "usual_s_per_recording": round(float(np.mean(usual_s)), 3),
        "times_faster": round(sum(usual_s) / sum(ours_s), 1),
        "ours_MB": round(sizes[0] / 1e6, 1), "usual_MB": round(sizes[1] / 1e6, 1),
        "times_smaller": round(sizes[1] / sizes[0], 1),
        "opening_with_checksums_s": round(opening_s, 2),
        "windows_per_s": round(per_s), "usual_windows_per_s": round(usual_per_s, 2),
        "times_more": round(per_s / usual_per_s),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
