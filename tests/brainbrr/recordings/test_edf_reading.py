"""What is written by another library in one scale comes back in microvolts, on its channel, on its sample."""

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from data_files import noise, write_edf
from hypothesis import given, settings
from hypothesis import strategies as st

from brainbrr.montage import CHANNELS
from brainbrr.recordings import read_recording
from brainbrr.recordings.edf import read_facts

DECOYS = ["EEG EKG1-REF", "PHOTIC PH", "EEG A1-REF", "DC1", "EEG 20-REF"]
NAMES = {"T3": ["T3", "T7"], "T4": ["T4", "T8"], "T5": ["T5", "P7"], "T6": ["T6", "P8"], "O1": ["O1", "01"]}


@st.composite
def recordings(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    suffix, prefix = draw(st.sampled_from([("-REF", "EEG "), ("-LE", "EEG "), ("", ""), ("-Avg", ""), ("", "EEG ")]))
    record_s, rate_hz = draw(st.sampled_from([(1, 200), (1, 250), (1, 256), (0.5, 400), (2, 512), (1, 99), (10, 25.6)]))
    n_records = draw(st.integers(2, 7))
    n = round(n_records * record_s * rate_hz)
    order = draw(st.permutations(list(CHANNELS) + draw(st.lists(st.sampled_from(DECOYS), unique=True))))
    signals, truth = {}, {}
    unit = draw(st.sampled_from(["uV", "mV", "V"]))
    scale = {"uV": 1, "mV": 1e-3, "V": 1e-6}[unit]
    for name in order:
        values = random.normal(0, 40, n)
        if name in CHANNELS:
            truth[name] = values
            written = draw(st.sampled_from(NAMES.get(name, [name])))
            signals[prefix + draw(st.sampled_from([written, written.upper()])) + suffix] = values * scale
        else:
            signals[name] = values * scale
    return signals, truth, rate_hz, record_s, unit, 400 * scale, draw(st.booleans())


@settings(max_examples=40, deadline=None)
@given(recordings())
def test_round_trip(case):
    signals, truth, rate_hz, record_s, unit, limit, annotations = case
    with tempfile.TemporaryDirectory() as folder:
        path = write_edf(
            Path(folder) / "x.edf", signals, rate_hz, unit=unit, limit=limit, record_s=record_s, annotations=annotations
        )
        signal, rate = read_recording(path)
        facts = read_facts(path)
    assert rate == Fraction(str(rate_hz)) == facts.rate
    assert signal.dtype == np.float32
    assert signal.shape == (19, facts.n_samples)
    for row, name in enumerate(CHANNELS):
        # One digital step is 400 / 32767 microvolts.
        np.testing.assert_allclose(signal[row], np.clip(truth[name], -400, 400), atol=0.0125)


def test_one_hertz_channels_do_not_change_the_rate(tmp_path):
    signals = noise(10, 256) | {"IBI": np.arange(10.0), "BURSTS": np.ones(10)}
    path = write_edf(tmp_path / "x.edf", signals, 256, slow={"IBI": 1, "BURSTS": 1})
    signal, rate = read_recording(path)
    assert (signal.shape, rate) == ((19, 2560), 256)
    np.testing.assert_allclose(signal[0], signals["EEG FP1-REF"], atol=0.11)


def test_doubled_bipolar_channels_are_read_once(tmp_path):
    names = [
        "FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2",
        "FP2-F8", "F8-T8", "T8-P8", "T8-P8x", "P8-O2", "FZ-CZ", "CZ-PZ", "P7-T7", "T7-FT9", "FT9-FT10", "FT10-T8",
    ]  # fmt: skip
    signals = noise(4, 256, labels=tuple(names))
    path = write_edf(tmp_path / "x.edf", signals, 256)
    path.write_bytes(path.read_bytes().replace(b"T8-P8x ", b"T8-P8  "))
    signal, _ = read_recording(path, "bipolar")
    np.testing.assert_allclose(signal[0], signals["FP1-F7"], atol=0.11)
    np.testing.assert_allclose(signal[16], signals["T8-P8"], atol=0.11)
    np.testing.assert_allclose(signal[8], signals["FZ-CZ"], atol=0.11)
    chain = signals["T7-FT9"] + signals["FT9-FT10"] + signals["FT10-T8"]
    np.testing.assert_allclose(signal[18], chain, atol=0.31)


def test_missing_midline_is_counted(tmp_path):
    signals = {label: values for label, values in noise(4, 256).items() if label not in ("EEG FZ-REF", "EEG PZ-REF")}
    path = write_edf(tmp_path / "x.edf", signals, 256)
    assert read_facts(path).interpolated == ("Fz", "Pz")
    signal, _ = read_recording(path)
    near = np.array([signals[f"EEG {name}-REF"] for name in ("F3", "F4", "CZ")])
    assert near.min() <= signal[CHANNELS.index("Fz")].min()
    assert np.corrcoef(signal[CHANNELS.index("Fz")], near.sum(0))[0, 1] > 0.95


def test_the_real_recordings_are_read(real_corpus):
    paths = sorted(real_corpus.rglob("*.edf"))
    assert len(paths) == 6
    for path in paths:
        signal, rate = read_recording(path)
        assert (signal.shape[0], rate) == (19, 200)
        assert 1 < np.median(signal.std(1)) < 10_000
