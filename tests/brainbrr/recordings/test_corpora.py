"""Layouts: found, told apart, and read into the same types."""

import sys
import types
from importlib.metadata import EntryPoint

import pytest
from data_files import csv_bi, noise, small_corpus, tusz_recording, write_edf

from brainbrr.config.data import Data
from brainbrr.errors import ConfigError, DataError
from brainbrr.recordings import open_corpus, registry, scan_corpus
from brainbrr.recordings.index import MissingLabelsError, index_recordings
from brainbrr.recordings.types import Annotation, Located, Seizure

BIPOLAR = (
    "FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2",
    "FP2-F8", "F8-T8", "T8-P8", "P8-O2", "FZ-CZ", "CZ-PZ", "T7-FT9", "FT9-FT10", "FT10-T8", "-", ".",
)  # fmt: skip

SIENA = (
    "Fp1", "F3", "C3", "P3", "O1", "F7", "T3", "T5", "Fz", "CZ", "Pz", "FP2", "F4", "C4", "P4", "O2", "F8", "T4", "T6",
    "F9", "1", "MK",
)  # fmt: skip
BIDS = (
    "Fp1", "F3", "C3", "P3", "O1", "F7", "T3", "T5", "Fz", "Cz", "Pz", "Fp2", "F4", "C4", "P4", "O2", "F8", "T4", "T6",
)  # fmt: skip


def index(corpus, montage="referential"):
    found = index_recordings(corpus, corpus.located, montage)
    for item in found:
        if isinstance(item, DataError):
            raise item
    return {recording.key: recording for recording in found}


def test_tusz(tmp_path, own_cache):
    tusz_recording(tmp_path, "aaaaaaaa", seizures=((3.0, 9.5), (8.0, 12.0)))
    old = tmp_path / "edf/dev/bbbbbbbb/s002_2012_05_14"
    for montage in ("01_tcp_ar", "03_tcp_ar_a"):
        path = write_edf(old / montage / "bbbbbbbb_s002_t001.edf", noise(5, 200), 200)
        rows = "FP1-F7,1.0,2.0,fnsz,1.0\nF7-T3,1.5,3.0,gnsz,1.0\nF7-T3,3.5,4.0,nesz,1.0\n"
        path.with_suffix(".csv").write_text(csv_bi(path.stem, 5, []) + rows)
    corpus = scan_corpus(tmp_path)
    assert corpus.reader.name == "tusz"
    found = index(corpus)
    one = found["edf/train/aaaaaaaa/s001_2015/01_tcp_ar/aaaaaaaa_s001_t000.edf"]
    assert (one.patient, one.split, one.session, one.montage) == ("aaaaaaaa", "train", "s001_2015", "01_tcp_ar")
    assert (one.seizures, one.duration_s, one.rate_hz) == ((Seizure(3, 12),), 30, 256)
    twins = [recording for key, recording in found.items() if "bbbbbbbb" in key]
    assert [recording.montage for recording in twins] == ["01_tcp_ar", "03_tcp_ar_a"]
    assert {recording.session for recording in twins} == {"s002_2012_05_14"}
    assert all(recording.seizures == (Seizure(1, 3),) for recording in twins)


def test_tusz_split_is_told_from_inside_it(tmp_path):
    tusz_recording(tmp_path, "aaaaaaaa", split="eval")
    assert [one.split for one in scan_corpus(tmp_path / "edf" / "eval").located] == ["eval"]


def test_csv_bi_is_preferred_to_csv(tmp_path, own_cache):
    path = tusz_recording(tmp_path, "aaaaaaaa", seizures=((1.0, 2.0),))
    path.with_suffix(".csv").write_text(csv_bi(path.stem, 30, [(5.0, 6.0)]))
    assert [one.seizures for one in index(scan_corpus(tmp_path)).values()] == [(Seizure(1, 2),)]


def test_chb_mit(tmp_path, own_cache):
    for name in ("chb02_16", "chb02_16+"):
        write_edf(tmp_path / "chb02" / f"{name}.edf", noise(20, 256, labels=BIPOLAR), 256, annotations=True)
    (tmp_path / "chb02" / "chb02-summary.txt").write_text(
        "File Name: chb02_16.edf\nFile End Time: 24:02:01\nNumber of Seizures in File: 1\n"
        "Seizure Start Time: 5 seconds\nSeizure End Time: 9 seconds\n"
        "File Name: chb02_16+.edf\nNumber of Seizures in File: 0\n"
    )
    write_edf(tmp_path / "chb21" / "chb21_01.edf", noise(20, 256, labels=BIPOLAR), 256)
    (tmp_path / "chb21" / "chb21-summary.txt").write_text("File Name: chb21_01.edf\nNumber of Seizures in File: 0\n")
    corpus = scan_corpus(tmp_path)
    assert corpus.reader.name == "chb-mit"
    found = index(corpus, "bipolar")
    assert [one.patient for one in found.values()] == ["chb02", "chb02", "chb01"]
    assert [one.seizures for one in found.values()] == [(), (Seizure(5, 9),), ()]
    with pytest.raises(DataError, match=r"set data\.montage: bipolar"):
        index(corpus)


def test_a_chb_mit_recording_outside_its_summary(tmp_path, own_cache):
    for name in ("chb24_01", "chb24_02"):
        write_edf(tmp_path / "chb24" / f"{name}.edf", noise(20, 256, labels=BIPOLAR), 256)
    summary = tmp_path / "chb24" / "chb24-summary.txt"
    times = "Seizure Start Time: 5 seconds\nSeizure End Time: 9 seconds\n"
    listed = "File Name: chb24_01.edf\nNumber of Seizures in File: 1\n" + times
    summary.write_text(listed)
    assert [one.seizures for one in index(scan_corpus(tmp_path), "bipolar").values()] == [(Seizure(5, 9),), ()]
    summary.write_text(listed + "File Name: chb24_03.edf\nNumber of Seizures in File: 0\n")
    with pytest.raises(DataError, match=r"does not mention the recording .expected chb24_02\.edf"):
        index(scan_corpus(tmp_path), "bipolar")


def test_siena(tmp_path, own_cache):
    labels = tuple(f"EEG {name}" for name in SIENA)
    for name in ("PN11-1", "PN11-2"):
        write_edf(tmp_path / "PN11" / f"{name}.edf", noise(200, 64, labels=labels), 64)
    listing = tmp_path / "PN11" / "Seizures-list-PN11.txt"
    listing.write_text(
        "Seizure n 1\nFile name: PN11-.edf\nRegistration start time: 23.59.00\nRegistration end time: 00.03.00\n"
        "Seizure start time: 23.59.50\nSeizure end time: 00.01.00\n"
    )
    corpus = scan_corpus(tmp_path)
    assert corpus.reader.name == "siena"
    assert [(one.patient, one.seizures) for one in index(corpus).values()] == [
        ("PN11", (Seizure(50, 120),)),
        ("PN11", ()),
    ]
    listing.write_text(listing.read_text().replace("PN11-.edf", "PN11-22.edf"))
    with pytest.raises(DataError, match=r"names recordings that are not here.*pn11-22\.edf but not PN11-1\.edf"):
        index(scan_corpus(tmp_path))


def test_bids(tmp_path, own_cache):
    folder = tmp_path / "sub-01" / "ses-02" / "eeg"
    signals = noise(30, 256, labels=tuple(f"{name}-Avg" for name in BIDS))
    write_edf(folder / "sub-01_ses-02_task-szMonitoring_run-00_eeg.edf", signals, 256)
    (folder / "sub-01_ses-02_task-szMonitoring_run-00_events.tsv").write_text(
        "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
        "3.50\t4.00\tsz_foc_ia\tn/a\tn/a\t2000-01-01 00:00:00\t30.00\n"
    )
    corpus = scan_corpus(tmp_path)
    assert corpus.reader.name == "bids"
    (one,) = index(corpus).values()
    assert (one.patient, one.session, one.seizures) == ("01", "02", (Seizure(3.5, 7.5, "sz_foc_ia"),))


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        scan_corpus(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no EDF file below the data directory"):
        scan_corpus(tmp_path / "empty")
    write_edf(tmp_path / "odd" / "patient one.edf", noise(2, 64), 64)
    with pytest.raises(DataError, match=r"no known layout.*patient one\.edf.*tusz, chb-mit, siena, bids"):
        scan_corpus(tmp_path / "odd")
    with pytest.raises(DataError, match="no recording in the layout of 'bids'"):
        scan_corpus(small_corpus(tmp_path / "tusz"), "bids")
    with pytest.raises(ConfigError, match=r"unknown corpus .got 'tuzs', expected auto, tusz"):
        scan_corpus(tmp_path / "tusz", "tuzs")
    with pytest.raises(ConfigError, match="no folder of recordings"):
        open_corpus(Data())


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BGB_DATA_DIR", str(small_corpus(tmp_path)))
    assert len(open_corpus(Data(directory="elsewhere")).located) == 5


def test_links_are_followed_and_loops_end(tmp_path):
    small_corpus(tmp_path / "real")
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "link").symlink_to(tmp_path / "real" / "edf")
    (tmp_path / "real" / "edf" / "loop").symlink_to(tmp_path / "seen")
    assert len({one.path.resolve() for one in scan_corpus(tmp_path / "seen").located}) == 5


def test_other_packages_register_readers(tmp_path, monkeypatch, own_cache):
    class Flat:
        name = "flat"

        def matches(self, key):
            return "/" not in key

        def locate(self, root, key):
            return Located(root / key, key, key[:2], None, "", "", root / key)

        def annotate(self, located):
            return Annotation((Seizure(0, 1),))

    module = types.ModuleType("flat_corpus")
    module.Flat, module.NoReader = Flat, dict
    monkeypatch.setitem(sys.modules, "flat_corpus", module)
    points = [
        EntryPoint("flat", "flat_corpus:Flat", registry.GROUP),
        EntryPoint("odd", "flat_corpus:NoReader", registry.GROUP),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group, **params: [p for p in points if p.name == params.get("name", p.name)]
    )
    assert registry.reader_names()[-2:] == ["flat", "odd"]
    write_edf(tmp_path / "p1.edf", noise(5, 64), 64)
    assert [one.seizures for one in index(scan_corpus(tmp_path, "flat")).values()] == [(Seizure(0, 1),)]
    with pytest.raises(ConfigError, match="not a corpus reader"):
        registry.reader("odd")


def test_labels_must_fit_their_recording(tmp_path, own_cache):
    path = tusz_recording(tmp_path, "aaaaaaaa")
    labels = path.with_suffix(".csv_bi")
    labels.write_text(csv_bi(path.stem, 300, []))
    with pytest.raises(DataError, match=r"differ in duration .got 300 s, expected 30 s"):
        index(scan_corpus(tmp_path))
    labels.write_text(csv_bi(path.stem, 30, [(29.0, 30.5)]))
    assert [one.seizures for one in index(scan_corpus(tmp_path)).values()] == [(Seizure(29, 30),)]
    labels.unlink()
    with pytest.raises(MissingLabelsError, match="missing label file"):
        index(scan_corpus(tmp_path))
