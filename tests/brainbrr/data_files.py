"""Small EDF files and corpora for tests of the data plane."""

import shutil
from pathlib import Path

import edfio
import numpy as np

from brainbrr.config import Config, config_from_mapping
from brainbrr.montage import CHANNELS

TUSZ_LABELS = tuple(f"EEG {name.upper()}-REF" for name in CHANNELS)


def write_edf(
    path: Path,
    signals: dict[str, np.ndarray],
    rate_hz: float = 256,
    *,
    unit: str = "uV",
    limit: float = 3276.7,
    record_s: float = 1,
    slow: dict[str, float] | None = None,
    patient: str = "",
    annotations: bool = False,
) -> Path:
    """Write float signals, one per label; ``slow`` gives some of them a rate of their own."""
    slow = slow or {}
    channels = [
        edfio.EdfSignal(
            np.clip(values, -limit, limit),
            slow.get(label, rate_hz),
            label=label,
            physical_dimension=unit,
            physical_range=(-limit, limit),
            digital_range=(-32767, 32767),
        )
        for label, values in signals.items()
    ]
    edf = edfio.Edf(channels, data_record_duration=record_s, annotations=() if annotations else None)
    if patient:
        edf.local_patient_identification = patient
    path.parent.mkdir(parents=True, exist_ok=True)
    edf.write(path)
    return path


def noise(
    seconds: float, rate_hz: float, *, seed: int = 0, labels: tuple[str, ...] = TUSZ_LABELS
) -> dict[str, np.ndarray]:
    """Return microvolts for a full set of channels."""
    random = np.random.default_rng(seed)
    return {label: random.normal(0, 30, round(seconds * rate_hz)) for label in labels}


def csv_bi(stem: str, duration_s: float, seizures: list[tuple[float, float]]) -> str:
    """Return the text of a TUSZ label file."""
    rows = [f"TERM,{on:.4f},{off:.4f},seiz,1.0000\n" for on, off in seizures]
    rows = rows or [f"TERM,0.0000,{duration_s:.4f},bckg,1.0000\n"]
    head = f"# version = csv_v1.0.0\n# bname = {stem}\n# duration = {duration_s:.4f} secs\n# montage_file = x\n#\n"
    return head + "channel,start_time,stop_time,label,confidence\n" + "".join(rows)


def tusz_recording(
    root: Path,
    patient: str,
    *,
    split: str = "train",
    take: str = "t000",
    seconds: int = 30,
    rate_hz: int = 256,
    seizures: tuple[tuple[float, float], ...] = (),
    labels: bool = True,
    signals: dict[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Path:
    """Write one recording and its label file into a TUSZ tree; return the EDF file."""
    stem = f"{patient}_s001_{take}"
    path = root / "edf" / split / patient / "s001_2015" / "01_tcp_ar" / f"{stem}.edf"
    write_edf(path, signals or noise(seconds, rate_hz, seed=seed), rate_hz)
    if labels:
        path.with_suffix(".csv_bi").write_text(csv_bi(stem, seconds, list(seizures)))
    return path


def small_corpus(root: Path) -> Path:
    """Write three recordings of train (the last with a seizure) and one of dev and eval each."""
    tusz_recording(root, "aaaaaaaa", seed=1)
    tusz_recording(root, "aaaaaaab", seed=2)
    tusz_recording(root, "aaaaaaac", seconds=40, seizures=((12.0, 25.5),), seed=3)
    tusz_recording(root, "aaaaaaba", split="dev", seconds=25, seizures=((5.0, 15.0),), seed=4)
    tusz_recording(root, "aaaaaaca", split="eval", seed=5)
    return root


def settings(directory: Path, **sections: dict) -> Config:
    """Return a configuration with short windows on a corpus."""
    tree: dict = {
        "run": {"name": "test", "output_dir": "unused"},
        "data": {"directory": str(directory)},
        "windows": {"length_s": 10.0, "stride_s": 5.0},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return config_from_mapping(tree, "test")


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Change bytes of a file in place."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def copy(path: Path, folder: Path) -> Path:
    """Copy a file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder / path.name))
