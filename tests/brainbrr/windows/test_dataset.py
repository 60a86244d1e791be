"""Windows of a corpus: what is in an item, what is used, what is refused, what is skipped."""

import logging
import pickle

import numpy as np
import pytest
import torch
from data_files import csv_bi, noise, settings, small_corpus, tusz_recording, write_edf

from brainbrr.errors import DataError
from brainbrr.recordings import read_recording
from brainbrr.windows import load_files, load_split, preprocess

pytestmark = pytest.mark.usefixtures("own_cache")


def test_an_item(tmp_path):
    config = settings(small_corpus(tmp_path))
    windows = load_split(config, "train")
    assert (windows.n_found, windows.n_used, len(windows), windows.n_windows) == (3, 3, 17, 17)
    place = next(i for i in range(len(windows)) if windows.describe(i).endswith("aaaaaaac_s001_t000.edf @ 20 s"))
    item = windows[place]
    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items() if name != "window"} == {
        "signal": ((19, 2560), torch.float32), "label": ((2560,), torch.float32), "valid": ((2560,), torch.bool),
    }  # fmt: skip
    assert item["window"] == place
    assert item["valid"].all()
    assert torch.nonzero(item["label"]).ravel().tolist() == list(range(round(5.5 * 256)))
    recording = windows.recordings[windows.recording_of(place)]
    whole = preprocess(*read_recording(recording), config.preprocessing)
    np.testing.assert_array_equal(item["signal"], whole[:, 20 * 256 : 30 * 256])


def test_counts_are_those_of_the_items(tmp_path):
    for split in ("train", "dev"):
        windows = load_split(settings(small_corpus(tmp_path)), split) if split == "train" else windows_of_dev(tmp_path)
        labels = [windows[i]["label"][windows[i]["valid"]] for i in range(len(windows))]
        assert windows.n_seizure_windows == sum(bool(label.any()) for label in labels)
        share = sum(label.sum().item() for label in labels) / sum(len(label) for label in labels)
        assert windows.seizure_share == pytest.approx(share)
        kinds = [0 if not label.any() else 2 if label.all() else 1 for label in labels]
        assert windows.kinds.tolist() == kinds
        assert set(kinds) == {0, 1, 2} if split == "dev" else True


def windows_of_dev(tmp_path):
    return load_split(settings(tmp_path, windows={"length_s": 4.0}), "dev")


def test_evaluation_counts_every_sample_once(tmp_path):
    windows = load_split(settings(small_corpus(tmp_path)), "dev")
    seen = np.zeros(25 * 256, int)
    label = np.zeros(25 * 256)
    for i in range(len(windows)):
        item, start = windows[i], int(windows.starts[i])
        places = start + np.flatnonzero(item["valid"])
        seen[places] += 1
        label[places] = item["label"][item["valid"]]
        assert start + 2560 <= 25 * 256
    assert (seen == 1).all()
    assert np.flatnonzero(label).tolist() == list(range(5 * 256, 15 * 256))
    np.testing.assert_array_equal(windows.labels(0), label.astype(bool))


def test_short_recordings_are_padded_and_masked_or_skipped_and_counted(tmp_path):
    small_corpus(tmp_path)
    tusz_recording(tmp_path, "aaaaaaad", seconds=7, seizures=((2.0, 3.0),))
    windows = load_split(settings(tmp_path), "train")
    item = windows[len(windows) - 1]
    assert item["valid"].tolist() == [True] * 7 * 256 + [False] * 3 * 256
    assert not item["signal"][:, 7 * 256 :].any()
    assert item["label"].sum() == 256
    skipping = load_split(settings(tmp_path, windows={"short": "skip"}), "train")
    assert (skipping.n_used, skipping.n_found) == (3, 4)
    assert [(one.key.rpartition("/")[2], one.reason) for one in skipping.skipped] == [
        ("aaaaaaad_s001_t000.edf", "shorter than a window (7 s)")
    ]


def test_limit_is_on_what_is_used_whatever_is_cached(tmp_path, monkeypatch):
    config = settings(small_corpus(tmp_path))
    load_split(config, "train").prepare()
    monkeypatch.setenv("BGB_LIMIT_FILES", "2")
    windows = load_split(config, "train")
    assert (windows.n_found, windows.n_used, windows.n_seizure_windows) == (3, 2, 0)


def test_a_missing_label_file_is_an_error_under_both_policies(tmp_path):
    tusz_recording(small_corpus(tmp_path), "aaaaaaad", labels=False)
    for policy in ("error", "skip"):
        config = settings(tmp_path, data={"on_bad_recording": policy, "max_skipped_share": 1.0})
        with pytest.raises(DataError, match=r"aaaaaaad_s001_t000\.edf: missing label file"):
            load_split(config, "train")


@pytest.mark.parametrize("damage", ["header", "samples"])
def test_an_unreadable_recording_among_good_ones(tmp_path, damage):
    small_corpus(tmp_path)
    bad = tusz_recording(tmp_path, "aaaaaaad")
    if damage == "header":
        bad.write_bytes(b"<html>" + bad.read_bytes()[6:])
    else:  # nothing but the samples says so
        header = 256 * 20
        bad.write_bytes(bad.read_bytes()[:header] + b"\0" * (bad.stat().st_size - header))
    with pytest.raises(DataError, match=r"aaaaaaad_s001_t000.*(not an EDF file|far too small)"):
        load_split(settings(tmp_path), "train").prepare()
    skipping = load_split(settings(tmp_path, data={"on_bad_recording": "skip", "max_skipped_share": 0.25}), "train")
    skipping.prepare()
    assert (skipping.n_used, skipping.n_found, len(skipping)) == (3, 4, 17)
    assert [one.key.rpartition("/")[2] for one in skipping.skipped] == ["aaaaaaad_s001_t000.edf"]
    with pytest.raises(
        DataError, match=r"too many recordings of train skipped .got 1 of 4: .*aaaaaaad.*share up to 0\.05"
    ):
        load_split(settings(tmp_path, data={"on_bad_recording": "skip"}), "train").prepare()


def test_a_rate_that_cannot_be_reached_is_a_bad_recording(tmp_path):
    small_corpus(tmp_path)
    stem = "aaaaaaad_s001_t000"
    path = tmp_path / "edf/train/aaaaaaad/s001_2015/01_tcp_ar" / f"{stem}.edf"
    write_edf(path, noise(30 * 1.0007, 10_000 / 10_007 * 100), 10_000 / 100.07, record_s=10.007)
    path.with_suffix(".csv_bi").write_text(csv_bi(stem, 30, []))
    with pytest.raises(DataError, match=r"aaaaaaad_s001_t000\.edf: no usable ratio"):
        load_split(settings(tmp_path), "train")
    windows = load_split(settings(tmp_path, data={"on_bad_recording": "skip", "max_skipped_share": 0.3}), "train")
    assert (windows.n_used, len(windows.skipped)) == (3, 1)


def test_interpolation_is_counted_and_said_also_from_the_cache(tmp_path, caplog):
    signals = {label: values for label, values in noise(30, 256).items() if label != "EEG FZ-REF"}
    tusz_recording(small_corpus(tmp_path), "aaaaaaad", signals=signals)
    config = settings(tmp_path)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            windows = load_split(config, "train")
            windows.prepare()
        assert windows.n_interpolated == 1
        assert "train: Fz or Pz interpolated in 1 of 4 recordings" in caplog.messages


def test_strangers_are_an_error_or_counted(tmp_path):
    write_edf(small_corpus(tmp_path) / "edf" / "train" / "copy of x.edf", noise(5, 64), 64)
    with pytest.raises(DataError, match=r"copy of x\.edf: an EDF file whose place does not fit"):
        load_split(settings(tmp_path), "train")
    skipping = load_split(settings(tmp_path, data={"on_bad_recording": "skip", "max_skipped_share": 0.4}), "train")
    assert [one.key for one in skipping.skipped] == ["edf/train/copy of x.edf"]


def test_overlap_of_patients_is_found_on_the_files_used(tmp_path, monkeypatch):
    small_corpus(tmp_path)
    tusz_recording(tmp_path, "aaaaaaac", split="eval", take="t001")
    with pytest.raises(DataError, match="patients in both train and eval: aaaaaaac"):
        load_split(settings(tmp_path), "dev")
    monkeypatch.setenv("BGB_LIMIT_FILES", "2")
    assert load_split(settings(tmp_path), "train").n_used == 2
    monkeypatch.delenv("BGB_LIMIT_FILES")
    by_ratio = settings(tmp_path, data={"split": "ratio", "split_ratio": {"train": 0.5, "dev": 0.2, "eval": 0.3}})
    patients = [{r.patient for r in load_split(by_ratio, split).recordings} for split in ("train", "dev", "eval")]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 5


def test_an_empty_split_is_said(tmp_path):
    tusz_recording(tmp_path, "aaaaaaaa")
    with pytest.raises(DataError, match=r"no recording in split 'dev' .got 1 in all"):
        load_split(settings(tmp_path), "dev")


def test_files_without_labels(tmp_path):
    path = write_edf(tmp_path / "some name.edf", noise(25, 200), 200)
    windows = load_files(settings(tmp_path), [path])
    assert (len(windows), windows.n_seizure_windows, windows.stride) == (3, 0, 2560)
    assert [int(windows[i]["valid"].sum()) for i in range(3)] == [2560, 2560, 1280]


def test_items_cross_process_borders(tmp_path):
    windows = load_split(settings(small_corpus(tmp_path)), "train")
    expected = windows[3]["signal"]
    copy = pickle.loads(pickle.dumps(windows))
    assert torch.equal(copy[3]["signal"], expected)
    loader = torch.utils.data.DataLoader(windows, batch_size=4, num_workers=1, multiprocessing_context="fork")
    batch = next(iter(loader))
    assert batch["signal"].shape == (4, 19, 2560)
    assert torch.equal(batch["signal"][3], expected)
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_the_real_recordings(real_corpus):
    config = settings(real_corpus, windows={"length_s": 60.0, "stride_s": 10.0})
    train, dev = (load_split(config, split) for split in ("train", "dev"))
    assert (train.n_found, train.n_seizure_windows > 0, dev.n_seizure_windows) == (4, True, 2)
    train.prepare()
    dev.prepare()
    for windows in (train, dev):
        for i in range(len(windows)):
            assert torch.isfinite(windows[i]["signal"]).all()
            assert 0.3 < windows[i]["signal"].std() < 10
