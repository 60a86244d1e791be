import csv
import io
import json
import math
import os
from datetime import datetime

import numpy as np
import pytest

from brainbrr.errors import OutputError
from brainbrr.recordings.bids import read_events
from brainbrr.recordings.labels import read_tusz_labels
from brainbrr.scoring import Event, Stitcher
from brainbrr.scoring.writers import write_bids_tsv, write_bytes, write_csv_bi, write_json, write_trace

EVENTS = [Event(36.8868, 183.3055, 0.97), Event(200.0, 210.5)]


def test_bids_tsv_has_szcore_columns(tmp_path):
    path = write_bids_tsv(tmp_path / "events.tsv", EVENTS, 1275.0, datetime(2016, 11, 6, 13, 43, 4))
    assert path.read_text() == (
        "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
        "36.8868\t146.4187\tsz\t0.9700\tn/a\t2016-11-06 13:43:04\t1275.0000\n"
        "200.0000\t10.5000\tsz\tn/a\tn/a\t2016-11-06 13:43:04\t1275.0000\n"
    )


def test_bids_tsv_without_events_is_background(tmp_path):
    text = write_bids_tsv(tmp_path / "events.tsv", [], 600.0).read_text()
    (row,) = csv.DictReader(io.StringIO(text), delimiter="\t")
    assert row == {
        "onset": "0.0000",
        "duration": "600.0000",
        "eventType": "bckg",
        "confidence": "n/a",
        "channels": "n/a",
        "dateTime": "n/a",
        "recordingDuration": "600.0000",
    }


def test_csv_bi_is_that_of_tusz(tmp_path):
    path = write_csv_bi(tmp_path / "x.csv_bi", EVENTS, 1275.0, "aaaaaaac_s001_t000")
    assert path.read_text() == (
        "# version = csv_v1.0.0\n"
        "# bname = aaaaaaac_s001_t000\n"
        "# duration = 1275.0000 secs\n"
        "# montage_file = nedc_eas_default_montage.txt\n"
        "#\n"
        "channel,start_time,stop_time,label,confidence\n"
        "TERM,36.8868,183.3055,seiz,0.9700\n"
        "TERM,200.0000,210.5000,seiz,1.0000\n"
    )


@pytest.mark.parametrize("events", [EVENTS, []])
def test_the_readers_of_a_corpus_read_what_was_written(tmp_path, events):
    tsv = read_events(write_bids_tsv(tmp_path / "sub-1_events.tsv", events, 1275.0))
    csv_bi = read_tusz_labels(
        write_csv_bi(tmp_path / "aaaaaaac_s001_t000.csv_bi", events, 1275.0, "aaaaaaac_s001_t000")
    )
    for annotation in (tsv, csv_bi):
        assert annotation.duration_s == 1275.0
        assert [(seizure.onset_s, seizure.offset_s) for seizure in annotation.seizures] == [
            pytest.approx((event.onset_s, event.offset_s), abs=1e-4) for event in events
        ]


def test_csv_bi_without_events_is_background(tmp_path):
    last = write_csv_bi(tmp_path / "x.csv_bi", [], 600.0, "x").read_text().splitlines()[-1]
    assert last == "TERM,0.0000,600.0000,bckg,1.0000"


def test_a_trace_keeps_its_gaps(tmp_path):
    stitch = Stitcher("p/r.edf", rate_hz=16.0, n_samples=32)
    stitch.add(0, np.full(16, 0.25))
    with np.load(write_trace(tmp_path / "r.npz", stitch.trace())) as stored:
        np.testing.assert_array_equal(stored["probability"], [0.25] * 16 + [math.nan] * 16)
        assert (float(stored["rate_hz"]), float(stored["duration_s"]), str(stored["key"])) == (16.0, 2.0, "p/r.edf")


def test_json_refuses_nan(tmp_path):
    assert json.loads(write_json(tmp_path / "new" / "x.json", {"a": 1.5}).read_text()) == {"a": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "y.json", {"a": math.nan})
    assert not (tmp_path / "y.json").exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_bytes(tmp_path / "x.json", b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device") as caught:
        write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / "out" / "x.json", b"")


def test_a_result_is_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    path = write_bytes(tmp_path / "x", b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
