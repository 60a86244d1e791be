"""The embedded corpus: small real EDF files in TUSZ layout, with the quirks of real ones, from a seed.

It exists so that the real data path runs on any machine. In every split the first files in name order hold no
seizure, as in real corpora; later ones do. Quirks, each in some file: rates of 250, 256, 400 and 512 Hz; ``-REF`` and
``-LE``; channels in another order; EKG, ears, photic, DC, numbered and 1-Hz channels; no Fz and Pz; a file under 60
s; one stem in two montage folders of a session; old and new session names; a background row that does not cover its
file; the typo ``bkgd``; a non-epileptic attack; per-channel labels that overlap.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from brainbrr import environment
from brainbrr.errors import OutputError
from brainbrr.montage import CHANNELS
from brainbrr.recordings.synthesis import add_seizure, background, draw_morphology

# Raise when the files change.
DEMO_VERSION = 1
DEFAULT_SEED = 20_260

Event = tuple[float, float]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """One recording of the corpus."""

    split: str
    patient: str
    session: str
    montage: str
    take: str = "t000"
    rate_hz: int = 256
    duration_s: int = 90
    seizures: tuple[Event, ...] = ()
    quirks: frozenset[str] = field(default=frozenset())

    @property
    def folder(self) -> str:
        """Folder below the corpus."""
        return f"edf/{self.split}/{self.patient}/{self.session}/{self.montage}"

    @property
    def stem(self) -> str:
        """Name of the files without suffix."""
        return f"{self.patient}_{self.session[:4]}_{self.take}"


def _plan(split: str, patient: str, session: str, montage: str, *quirks: str, **facts: object) -> Plan:
    return replace(Plan(split, patient, session, montage, quirks=frozenset(quirks)), **facts)  # type: ignore[arg-type]


AR, LE, AR_A = "01_tcp_ar", "02_tcp_le", "03_tcp_ar_a"
PLANS: tuple[Plan, ...] = (
    _plan("train", "aaaaaaaa", "s001_2012_05_14", AR, "ears", "ekg", "photic"),
    _plan("train", "aaaaaaaa", "s001_2012_05_14", AR_A, "one-hertz", "ekg", rate_hz=250),
    _plan("train", "aaaaaaab", "s001_2014", LE, "no-midline", "dc", "short-background", rate_hz=400),
    _plan("train", "aaaaaaac", "s001_2015", AR, "ears", "ekg", duration_s=120, seizures=((40, 95),)),
    _plan("train", "aaaaaaac", "s002_2015", AR, "shuffled", "one-hertz", duration_s=150, seizures=((20, 50), (80,
    145))), _plan("train", "aaaaaaad", "s003_2016", AR_A, "numbered", rate_hz=512, duration_s=120, seizures=((30,
    75.5),)), _plan("train", "aaaaaaae", "s001_2017", LE, "dc", "ears", rate_hz=250, duration_s=160, seizures=((50.25,
    140.75),)), _plan("train", "aaaaaaaf", "s001_2018", AR, "typo", duration_s=42), _plan("train", "aaaaaaaf",
    "s001_2018", AR, "non-epileptic", "ekg", take="t001", duration_s=100), _plan("dev", "aaaaaaba", "s001_2013", AR,
    "ears", "ekg"), _plan("dev", "aaaaaaba", "s001_2013", AR, "short-background", take="t001", duration_s=48,
    rate_hz=250), _plan("dev", "aaaaaabb", "s001_2015_02_03", LE, "no-midline", "one-hertz", rate_hz=400,
    duration_s=75), _plan("dev", "aaaaaabc", "s001_2016", AR, "photic", duration_s=130, seizures=((45, 100),)),
    _plan("dev", "aaaaaabd", "s004_2017", AR_A, "shuffled", rate_hz=512, duration_s=120, seizures=((25, 55), (75,
    110))), _plan("eval", "aaaaaaca", "s001_2013", AR, "ears", "ekg"), _plan("eval", "aaaaaaca", "s002_2014", LE,
    "no-midline", rate_hz=250, duration_s=80), _plan("eval", "aaaaaacb", "s001_2015", AR, "typo", rate_hz=400,
    duration_s=50), _plan("eval", "aaaaaacc", "s001_2016", AR, "numbered", duration_s=130, seizures=((30, 90),)),
    _plan("eval", "aaaaaacd", "s001_2017", AR_A, "one-hertz", rate_hz=512, duration_s=120, seizures=((60, 105),)),
)  # fmt: skip


def more_plans(
    patients: int, *, recordings: int = 4, duration_s: int = 300, seed: int = DEFAULT_SEED
) -> tuple[Plan, ...]:
    """Plan further patients with seizures of their own form: of five, three in train, one each in dev and eval."""
    plans = []
    for number in range(patients):
        random = np.random.default_rng((seed, 7, number))
        split = ("train", "dev", "train", "eval", "train")[number % 5]
        patient = "aaab" + "".join(chr(ord("a") + number // 26**power % 26) for power in (3, 2, 1, 0))
        for take in range(recordings):
            seizures = _draw_times(random, duration_s) if take % 2 else ()
            rate_hz = int(random.choice([250, 256, 256, 256, 400]))
            plans.append(
                Plan(split, patient, f"s001_{2010 + number % 10}", AR, f"t{take:03d}", rate_hz, duration_s, seizures)
            )
    return tuple(plans)


def _draw_times(random: np.random.Generator, duration_s: int) -> tuple[Event, ...]:
    times = []
    start = 10.0
    while start + 65 < duration_s:
        onset = round(start + random.uniform(5, 40), 2)
        offset = min(round(onset + random.uniform(20, 80), 2), duration_s - 5.0)
        times.append((onset, offset))
        start = offset + 60
    return tuple(times)


def write_demo_corpus(directory: Path, *, seed: int = DEFAULT_SEED, plans: Sequence[Plan] = PLANS) -> int:
    """Write the corpus into a folder that is new or empty; the folder appears whole or not at all.

    Returns:
        The number of recordings.

    Raises:
        OutputError: the folder holds something already, or cannot be written.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - a trailing slash or dot must not change the parent
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise OutputError("exists and is not an empty folder", where=directory, hint="Name a new folder")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent))
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda plan: write_recording(partial, plan, seed), plans))
            (partial / "README.txt").write_text(
                _README.format(version=DEMO_VERSION, seed=seed, n=len(plans)), encoding="utf-8"
            )
            partial.chmod(0o755)
            partial.replace(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=directory) from error
    return len(plans)


def embedded_corpus() -> Path:
    """Return the folder of the embedded corpus, written when it is first asked for.

    Raises:
        OutputError: it cannot be written.
    """
    directory = environment.cache_dir() / f"demo-corpus-v{DEMO_VERSION}"
    if not directory.is_dir():
        try:
            write_demo_corpus(directory)
        except OutputError:
            if not directory.is_dir():  # else another process wrote the same meanwhile
                raise
    return directory


def write_recording(root: Path, plan: Plan, seed: int) -> Path:
    """Write one recording with both label files; return the EDF file's path."""
    form = draw_morphology(np.random.default_rng((seed, 1, *plan.patient.encode())))
    random = np.random.default_rng((seed, 2, *f"{plan.folder}/{plan.stem}".encode()))
    n = plan.duration_s * plan.rate_hz
    signal_CN = background(random, n, plan.rate_hz)
    for onset_s, offset_s in plan.seizures:
        add_seizure(random, signal_CN, plan.rate_hz, onset_s, offset_s, form)
    folder = root / plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plan.stem}.edf"
    _write_edf(path, plan, signal_CN, random)
    _write_labels(path, plan, form.focus)
    return path


_LIMIT_UV = 3276.7


def _write_edf(path: Path, plan: Plan, signal_CN: Values, random: np.random.Generator) -> None:
    import edfio

    n = signal_CN.shape[1]
    time_s = np.arange(n) / plan.rate_hz
    reference = "LE" if plan.montage == LE else "REF"

    def noise() -> Values:
        return np.asarray(random.normal(0, 15, n))

    def signal(label: str, values: Values, unit: str = "uV", rate_hz: float = plan.rate_hz) -> edfio.EdfSignal:
        return edfio.EdfSignal(
            np.clip(values, -_LIMIT_UV, _LIMIT_UV), rate_hz, label=label, transducer_type="Unknown",
            physical_dimension=unit, physical_range=(-_LIMIT_UV, _LIMIT_UV), digital_range=(-32767, 32767),
            prefiltering="HP:0.000 Hz LP:0.0 Hz N:0.0",
        )  # fmt: skip

    names = [name for name in CHANNELS if not ("no-midline" in plan.quirks and name in ("Fz", "Pz"))]
    if "shuffled" in plan.quirks:
        names = [str(name) for name in random.permutation(names)]
    signals = [signal(f"EEG {name.upper()}-{reference}", signal_CN[CHANNELS.index(name)]) for name in names]
    heart = 400 * np.exp(-(((time_s % 0.83) - 0.4) ** 2) / 2e-4)
    extras = {
        "ears": [(f"EEG A1-{reference}", noise()), (f"EEG A2-{reference}", noise()), (f"EEG T1-{reference}", noise())],
        "ekg": [(f"EEG EKG1-{reference}" if reference == "REF" else "EEG EKG-LE", heart + noise())],
        "numbered": [(f"EEG {number}-{reference}", noise()) for number in (20, 21, 32)],
        "dc": [("DC1-DC", noise() * 10), ("EMG-REF", noise()), (f"EEG C3P-{reference}", noise())],
    }
    for quirk, channels in extras.items():
        if quirk in plan.quirks:
            signals += [signal(label, values) for label, values in channels]
    if "photic" in plan.quirks:
        signals += [signal("PHOTIC-REF", noise()), signal("PHOTIC PH", np.sign(np.sin(2 * np.pi * 5 * time_s)), "mm")]
    if "one-hertz" in plan.quirks:
        signals += [
            signal(label, random.integers(0, 3, plan.duration_s).astype(float), rate_hz=1)
            for label in ("IBI", "BURSTS", "SUPPR")
        ]
    edf = edfio.Edf(signals, data_record_duration=1)
    edf.local_patient_identification = f"{plan.patient} X 01-JAN-1960 {plan.patient} Age:50"
    edf.local_recording_identification = f"Startdate 01-JAN-{plan.session[5:9]} {plan.stem} 00 XXX"
    edf.write(path)


_TCP = (
    "FP1-F7", "F7-T3", "T3-T5", "T5-O1", "FP2-F8", "F8-T4", "T4-T6", "T6-O2", "A1-T3", "T3-C3", "C3-CZ", "CZ-C4",
    "C4-T4", "T4-A2", "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2",
)  # fmt: skip


def _write_labels(path: Path, plan: Plan, focus: int) -> None:
    head = (
        f"# version = csv_v1.0.0\n# bname = {plan.stem}\n# duration = {plan.duration_s:.4f} secs\n"
        "# montage_file = $NEDC_NFC/lib/nedc_eas_default_montage.txt\n#\n"
        "channel,start_time,stop_time,label,confidence\n"
    )
    background_code = "bkgd" if "typo" in plan.quirks else "bckg"
    covered_s = 1.04 if "short-background" in plan.quirks else plan.duration_s
    terms = [("TERM", *event, "seiz") for event in plan.seizures] or [("TERM", 0.0, covered_s, background_code)]
    rows: list[tuple[str, float, float, str]] = []
    near = CHANNELS[focus].upper()
    for channel in (
        _TCP if "ears" in plan.quirks or plan.montage != AR_A else [c for c in _TCP if "A1" not in c and "A2" not in c]
    ):
        at_focus = near in channel.split("-") or (channel == _TCP[0] and not any(near in c.split("-") for c in _TCP))
        previous_s = 0.0
        for onset_s, offset_s in plan.seizures:
            middle_s = (onset_s + offset_s) / 2
            parts = (
                [(onset_s, middle_s, "fnsz"), (middle_s - 2, offset_s, "gnsz")]
                if at_focus
                else [(middle_s, offset_s - 1, "gnsz")]
            )
            rows.append((channel, previous_s, parts[0][0], background_code))
            rows += [(channel, *part) for part in parts]
            previous_s = offset_s
        if "non-epileptic" in plan.quirks and not plan.seizures:
            rows.append((channel, 20.0, 35.0, "nesz"))
        rows.append((channel, previous_s, float(plan.duration_s), background_code))
    for suffix, events in ((".csv_bi", terms), (".csv", rows)):
        lines = [f"{channel},{start:.4f},{stop:.4f},{code},1.0000\n" for channel, start, stop, code in events]
        path.with_suffix(suffix).write_text(head + "".join(lines), encoding="utf-8", newline="\n")


_README = """The embedded demo corpus of brainbrr, version {version}, seed {seed}, {n} recordings.

The signals are computed, not recorded: they test machinery and say nothing about seizure detection in people.
"""
