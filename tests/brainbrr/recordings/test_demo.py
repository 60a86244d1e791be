"""The embedded corpus: the same bytes from the same seed, every quirk in some file, seizures not in the first files."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from brainbrr.commands.demo_corpus import demo_corpus
from brainbrr.config.data import Data
from brainbrr.errors import OutputError
from brainbrr.recordings import Recording, open_corpus, read_recording, scan_corpus
from brainbrr.recordings.demo import PLANS, embedded_corpus, more_plans, write_demo_corpus
from brainbrr.recordings.header import read_header
from brainbrr.recordings.index import index_recordings
from brainbrr.recordings.labels import read_tusz_labels


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    assert write_demo_corpus(folder) == len(PLANS)
    return folder


@pytest.fixture
def recordings(demo, own_cache):
    corpus = scan_corpus(demo)
    found = index_recordings(corpus, corpus.located, "referential")
    assert all(isinstance(one, Recording) for one in found)
    return found


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(demo, tmp_path):
    write_demo_corpus(tmp_path / "again")
    assert digest(tmp_path / "again") == digest(demo)
    write_demo_corpus(tmp_path / "other", seed=1, plans=PLANS[:2])
    other = digest(tmp_path / "other")
    assert all(digest(demo)[name] != value for name, value in other.items() if name.endswith(".edf"))


@pytest.mark.parametrize("split", ["train", "dev", "eval"])
def test_the_first_files_hold_no_seizure_and_later_ones_do(recordings, split):
    seizures = [len(one.seizures) for one in recordings if one.split == split]
    assert seizures[:3] == [0, 0, 0]
    assert sum(seizures) >= 2


def test_splits_share_no_patient(recordings):
    patients = Counter(patient for patient, _ in {(one.patient, one.split) for one in recordings})
    assert set(patients.values()) == {1}


def test_every_quirk_is_in_some_file(recordings):
    labels = {label for one in recordings for label in read_header(one.path).labels}
    assert {one.rate_hz for one in recordings} == {250, 256, 400, 512}
    assert {one.montage for one in recordings} == {"01_tcp_ar", "02_tcp_le", "03_tcp_ar_a"}
    assert {
        "EEG FP1-REF",
        "EEG FP1-LE",
        "EEG EKG1-REF",
        "EEG A1-REF",
        "PHOTIC PH",
        "IBI",
        "DC1-DC",
        "EEG 20-REF",
    } <= labels
    assert ("Fz", "Pz") in {one.interpolated for one in recordings}
    assert min(one.duration_s for one in recordings) < 60
    assert {len(one.session) for one in recordings} == {len("s001_2015"), len("s001_2012_05_14")}
    stems = Counter((one.patient, one.session, one.path.stem) for one in recordings)
    assert max(stems.values()) == 2
    assert len({read_header(one.path).labels[:19] for one in recordings if one.interpolated == ()}) > 3
    texts = [one.annotation.read_text() for one in recordings]
    assert any("bkgd" in text for text in texts)
    assert any("TERM,0.0000,1.0400,bckg" in text for text in texts)
    assert any("nesz" in one.annotation.with_suffix(".csv").read_text() for one in recordings)
    one_hertz = [c.samples_per_record for one in recordings for c in read_header(one.path).channels if c.label == "IBI"]
    assert set(one_hertz) == {1}


def test_both_label_files_say_the_same(recordings):
    for one in recordings:
        per_channel = read_tusz_labels(one.path.with_suffix(".csv"))
        assert [(s.onset_s, s.offset_s) for s in per_channel.seizures] == [
            (s.onset_s, s.offset_s) for s in one.seizures
        ]


def test_seizures_stand_out_where_the_labels_are(recordings):
    for one in recordings:
        signal, rate = read_recording(one)
        time_s = np.arange(signal.shape[1]) / float(rate)
        inside = np.zeros(len(time_s), bool)
        for seizure in one.seizures:
            inside |= (time_s >= seizure.onset_s) & (time_s < seizure.offset_s)
        if inside.any():
            assert signal[:, inside].std() > 1.8 * signal[:, ~inside].std()
        assert 8 < signal[:, ~inside].std() < 60
        spectrum = np.abs(np.fft.rfft(signal[:, ~inside], axis=1)).mean(0)
        frequency = np.fft.rfftfreq((~inside).sum(), 1 / float(rate))
        bands = [spectrum[(frequency >= low) & (frequency < 2 * low)].mean() for low in (1, 2, 4, 16, 32)]
        assert bands[0] > bands[2] > bands[3] > bands[4]
        assert spectrum[np.abs(frequency - 60) < 0.2].max() > 3 * np.median(spectrum[np.abs(frequency - 60) < 5])


def test_more_patients_for_learning(tmp_path, own_cache):
    plans = more_plans(5, recordings=2, duration_s=120)
    assert Counter(plan.split for plan in plans) == {"train": 6, "dev": 2, "eval": 2}
    assert len({plan.patient for plan in plans}) == 5
    assert all(first[1] + 60 <= second[0] for plan in more_plans(40, duration_s=600)
               for first, second in zip(plan.seizures, plan.seizures[1:], strict=False))  # fmt: skip
    write_demo_corpus(tmp_path / "c", plans=plans)
    corpus = scan_corpus(tmp_path / "c")
    found = index_recordings(corpus, corpus.located, "referential")
    assert sum(bool(one.seizures) for one in found) == 5


def test_the_folder_must_be_new_or_empty(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")
    with pytest.raises(OutputError, match="exists and is not an empty folder"):
        write_demo_corpus(tmp_path / "full", plans=PLANS[:1])
    (tmp_path / "empty").mkdir()
    write_demo_corpus(tmp_path / "empty", plans=PLANS[:1])
    assert len(list(tmp_path.glob("empty/edf/**/*.edf"))) == 1


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("brainbrr.recordings.demo._write_labels", fail)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        write_demo_corpus(tmp_path / "c", plans=PLANS[:2])
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_corpus_is_written_once(own_cache, monkeypatch):
    folder = embedded_corpus()
    monkeypatch.setattr("brainbrr.recordings.demo.write_recording", None)
    assert embedded_corpus() == folder == open_corpus(Data(directory="demo")).directory
    assert folder.parent == own_cache


def test_the_command(tmp_path):
    result = CliRunner().invoke(demo_corpus, [str(tmp_path / "c")])
    assert result.exit_code == 0
    assert result.output == f"{tmp_path / 'c'}: 19 recordings of 14 patients, 10 seizures\n"
