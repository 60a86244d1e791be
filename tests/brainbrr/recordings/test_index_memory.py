"""What is remembered between runs is what the files say now."""

import json
import os

import pytest
from data_files import csv_bi, noise, small_corpus, tusz_recording, write_edf

from brainbrr.errors import DataError
from brainbrr.recordings import index, scan_corpus
from brainbrr.recordings.types import Recording, Seizure


@pytest.fixture
def read(monkeypatch):
    """Names of the recordings whose files were read."""
    names = []
    original = index.index_recording

    def spy(corpus, located, montage):
        names.append(located.path.name[:8])
        return original(corpus, located, montage)

    monkeypatch.setattr(index, "index_recording", spy)
    return names


def settle(root):
    """Make every file look as if it had been written long ago."""
    for path in root.rglob("*"):
        os.utime(path, ns=(10**18, path.stat().st_mtime_ns - 3600 * 10**9))


def run(root):
    corpus = scan_corpus(root)
    return index.index_recordings(corpus, corpus.located, "referential")


def test_a_second_run_reads_no_file(tmp_path, own_cache, read):
    settle(small_corpus(tmp_path / "c"))
    first = run(tmp_path / "c")
    assert len(read) == 5
    read.clear()
    assert run(tmp_path / "c") == first
    assert all(isinstance(one, Recording) for one in first)
    assert read == []


def test_files_written_a_moment_ago_are_read_again(tmp_path, own_cache, read):
    small_corpus(tmp_path / "c")
    run(tmp_path / "c")
    run(tmp_path / "c")
    assert len(read) == 10


def test_a_changed_label_or_recording_is_read_again_and_only_that(tmp_path, own_cache, read):
    root = small_corpus(tmp_path / "c")
    settle(root)
    run(root)
    read.clear()
    path = next(root.glob("edf/train/aaaaaaab/*/*/*.edf"))
    path.with_suffix(".csv_bi").write_text(csv_bi(path.stem, 30, [(1.0, 2.0)]))
    changed = run(root)
    assert read == ["aaaaaaab"]
    assert [one.seizures for one in changed if one.patient == "aaaaaaab"] == [(Seizure(1, 2),)]
    read.clear()
    write_edf(path, noise(30, 250), 250)
    assert [one.rate_hz for one in run(root) if one.patient == "aaaaaaab"] == [250]
    assert read == ["aaaaaaab"]


def test_a_recording_that_appears_makes_its_folder_read_again(tmp_path, own_cache, read):
    """Siena's lists omit recordings without seizures: whether one is misspelt shows in what else is there."""
    root = small_corpus(tmp_path / "c")
    settle(root)
    run(root)
    read.clear()
    tusz_recording(root, "aaaaaaab", take="t001")
    run(root)
    assert read == ["aaaaaaab", "aaaaaaab"]


def test_a_file_that_broke_is_not_remembered_as_sound(tmp_path, own_cache, read):
    root = small_corpus(tmp_path / "c")
    settle(root)
    run(root)
    path = next(root.glob("edf/train/aaaaaaab/*/*/*.edf"))
    path.write_bytes(path.read_bytes()[:-1])
    (bad,) = (one for one in run(root) if isinstance(one, DataError))
    assert "size does not fit" in str(bad)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"x": 1}', b"\xff\xfe"])
def test_a_damaged_memory_is_made_again(tmp_path, own_cache, read, content):
    root = small_corpus(tmp_path / "c")
    settle(root)
    first = run(root)
    (memory,) = (own_cache / "index").glob("*.json")
    memory.write_bytes(content)
    assert run(root) == first
    assert set(json.loads(memory.read_text())) >= {one.key for one in first}


def test_wrong_values_in_the_memory_are_read_again(tmp_path, own_cache, read):
    root = small_corpus(tmp_path / "c")
    settle(root)
    first = run(root)
    (memory,) = (own_cache / "index").glob("*.json")
    table = json.loads(memory.read_text())
    for place, wrong in enumerate(["x", None, 0, 5, [["a", 1, 2]]]):
        entry = table[first[place].key]
        entry[min(place + 1, 5)] = wrong
    memory.write_text(json.dumps(table))
    assert [one.rate for one in run(root)] == [one.rate for one in first]


def test_a_memory_that_cannot_be_written_is_only_a_warning(tmp_path, monkeypatch, caplog, read):
    root = small_corpus(tmp_path / "c")
    settle(root)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BGB_CACHE_DIR", str(tmp_path / "file"))
    assert all(isinstance(one, Recording) for one in run(root))
    assert "the index is not remembered" in caplog.text


def test_montages_are_remembered_apart(tmp_path, own_cache):
    path = tusz_recording(tmp_path / "c", "aaaaaaaa")
    labels = [label for label in noise(1, 1) if "FZ" not in label]
    write_edf(path, {label: values for label, values in noise(30, 256).items() if label in labels}, 256)
    settle(tmp_path / "c")
    corpus = scan_corpus(tmp_path / "c")
    for montage in ("referential", "bipolar", "referential"):
        (one,) = index.index_recordings(corpus, corpus.located, montage)
        assert one.interpolated == ("Fz",)
    assert len(list((tmp_path / "own-cache" / "index").glob("*.json"))) == 2
