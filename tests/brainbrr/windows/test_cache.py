"""Cached arrays: made once, made again exactly when they must be, never half there."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from data_files import csv_bi, settings, small_corpus, tusz_recording

from brainbrr.config.data import Preprocessing
from brainbrr.errors import OutputError
from brainbrr.recordings import read_recording
from brainbrr.windows import cache as entries
from brainbrr.windows import load_split, preprocess, store

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def made(monkeypatch):
    """Names of the recordings that were preprocessed."""
    names = []
    write = entries.write_entry

    def spy(path, array, key, source):
        names.append(source.rpartition("/")[2][:8])
        write(path, array, key, source)

    monkeypatch.setattr(store.cache, "write_entry", spy)
    return names


def prepare(directory, **sections):
    windows = load_split(settings(directory, **sections), "train")
    windows.prepare()
    return windows


ALL = ["aaaaaaaa", "aaaaaaab", "aaaaaaac"]


def test_arrays_are_made_once(tmp_path, made):
    prepare(small_corpus(tmp_path))
    assert made == ALL
    prepare(tmp_path)
    assert made == ALL


def test_an_entry_is_a_plain_array(tmp_path, own_cache):
    windows = prepare(small_corpus(tmp_path))
    path = windows.store.entry(windows.recordings[0])
    whole = preprocess(*read_recording(windows.recordings[0]), Preprocessing())
    np.testing.assert_array_equal(np.load(path), whole)
    assert entries.read_trailer(path)["source"] == windows.recordings[0].key


def test_half_precision(tmp_path):
    single, half = (prepare(small_corpus(tmp_path / name), cache={"dtype": name}) for name in ("float32", "float16"))
    sizes = [w.store.entry(w.recordings[0]).stat().st_size for w in (single, half)]
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.01)
    np.testing.assert_allclose(half[3]["signal"], single[3]["signal"], atol=0.01)
    with pytest.raises(OutputError, match="samples too large for float16"):
        entries.write_entry(tmp_path / "x.npy", np.full((19, 5), 1e5, np.float32), half.store.key, "x")
    assert not list(tmp_path.glob("*x.npy*"))


def one(root):
    return next(root.glob("edf/train/aaaaaaab/*/*/*.edf"))


def relabel(root):
    path = one(root)
    path.with_suffix(".csv_bi").write_text(csv_bi(path.stem, 30, [(2.0, 8.0)]))
    return {}


def rerecord(root):
    tusz_recording(root, "aaaaaaab", seed=77)
    return {}


def touch(root):
    os.utime(one(root), (1, 1))
    return {}


CHANGES = {
    "settings": (lambda root: {"preprocessing": {"clip": 10.0}}, ALL),
    "montage": (lambda root: {"data": {"montage": "bipolar"}}, ALL),
    "dtype": (lambda root: {"cache": {"dtype": "float16"}}, ALL),
    "windows": (lambda root: {"windows": {"length_s": 5.0, "stride_s": 1.0}}, []),
    "labels": (relabel, []),
    "edf": (rerecord, ["aaaaaaab"]),
    "touched": (touch, []),
    "moved": (lambda root: {"data": {"directory": str(shutil.move(root, f"{root}-moved"))}}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_remakes_exactly_what_it_touches(tmp_path, made, name):
    root = small_corpus(tmp_path / "corpus")
    before = prepare(root).n_seizure_windows
    made.clear()
    change, remade = CHANGES[name]
    after = prepare(root, **change(root))
    assert made == remade
    assert (after.n_seizure_windows != before) == (name in ("labels", "windows"))


def test_the_codes_version_is_part_of_the_key(tmp_path, made, monkeypatch):
    prepare(small_corpus(tmp_path))
    made.clear()
    monkeypatch.setattr(entries, "CACHE_VERSION", entries.CACHE_VERSION + 1)
    prepare(tmp_path)
    assert made == ALL


def test_the_cache_folder_can_be_moved(tmp_path, made):
    prepare(small_corpus(tmp_path / "corpus"), cache={"directory": str(tmp_path / "here")})
    (tmp_path / "here").rename(tmp_path / "there")
    prepare(tmp_path / "corpus", cache={"directory": str(tmp_path / "there")})
    assert made == ALL


def test_an_edit_of_equal_size_and_time_within_a_moment_is_seen(tmp_path, made):
    root = small_corpus(tmp_path)
    prepare(root)
    made.clear()
    path = one(root)
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-200:-100] = bytes(100)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    prepare(root)
    assert made == ["aaaaaaab"]


@pytest.mark.parametrize("damage", ["cut", "emptied", "one sample", "trailer", "header", "other shape"])
def test_a_damaged_entry_is_noticed_and_made_again(tmp_path, made, caplog, damage):
    windows = prepare(small_corpus(tmp_path))
    expected = windows[3]["signal"].clone()
    path = windows.store.entry(windows.recordings[0])
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes({
        "cut": content[: len(content) // 2], "emptied": b"", "one sample": content[:9000] + b"\x55" + content[9001:],
        "trailer": content[:-3], "header": b"\0" * 64 + content[64:],
        "other shape": windows.store.entry(windows.recordings[2]).read_bytes(),
    }[damage])  # fmt: skip
    made.clear()
    fresh = load_split(windows.config, "train")
    assert (fresh[3]["signal"] == expected).all()
    assert made == ["aaaaaaaa"]
    assert str(path) in caplog.text
    assert load_split(windows.config, "train")[3]["signal"].equal(expected)
    assert made == ["aaaaaaaa"]


def test_a_full_disk_leaves_no_half_entry(tmp_path, own_cache):
    small_corpus(tmp_path)
    windows = load_split(settings(tmp_path), "train")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # Python ignores the signal, so writing fails
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large"):
            windows.prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (own_cache / "windows").rglob("*") if path.is_file()]
    windows.prepare()
    assert len(list((own_cache / "windows").glob("??/*.npy"))) == 3


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare(small_corpus(tmp_path / "c"), cache={"directory": str(tmp_path / "file" / "below")})


BUILDER = """
import sys
sys.path.insert(0, sys.argv[1])
from data_files import settings
from brainbrr.windows import load_split
windows = load_split(settings(sys.argv[2]), "train", rank=int(sys.argv[3]), world_size=2)
print("ready", flush=True)
sys.stdin.readline()
windows.prepare()
print(sum(float(windows[i]["signal"].double().abs().sum()) for i in range(len(windows))))
"""


def builder(root, rank):
    helpers = __file__.rpartition("/windows/")[0]
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, helpers, str(root), str(rank)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_build_at_once(tmp_path, own_cache):
    for number in range(6):
        tusz_recording(tmp_path, "aaaaaaa" + "abcdef"[number], seconds=20, seed=number)
    both = [builder(tmp_path, rank) for rank in (0, 1)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    sums = [float(process.communicate(timeout=60)[0]) for process in both]
    assert sums[0] == sums[1]
    windows = load_split(settings(tmp_path), "train")
    assert sum(float(windows[i]["signal"].double().abs().sum()) for i in range(len(windows))) == sums[0]
    assert len(list((own_cache / "windows").glob("??/*.npy"))) == 6
    assert not list((own_cache / "windows").rglob(".*.partial"))


def test_random_edits_moves_and_kills(tmp_path, own_cache):
    """Whatever happens to the files, a window is what preprocessing its recording now gives."""
    dice = random.Random(5)
    root = small_corpus(tmp_path / "corpus")
    folder = tmp_path / "cache0"
    for round_number in range(24):
        kind = dice.choice(["edit", "damage", "remove", "move", "kill", "settings", "nothing"])
        clip = dice.choice([5.0, 20.0])
        config = settings(root, cache={"directory": str(folder)}, preprocessing={"clip": clip})
        arrays = sorted(folder.glob("??/*.npy"))
        if kind == "edit":
            tusz_recording(root, dice.choice(ALL[:2]), seed=round_number + 100)
        elif kind == "damage" and arrays:
            path = dice.choice(arrays)
            content = bytearray(path.read_bytes())
            content[dice.randrange(len(content))] ^= 1 + dice.randrange(255)
            path.write_bytes(content[: dice.choice([len(content), dice.randrange(len(content))])])
        elif kind == "remove" and arrays:
            dice.choice(arrays).unlink()
        elif kind == "move":
            new = tmp_path / f"cache{round_number + 1}"
            if folder.exists():
                folder.rename(new)
            folder = new
            config = settings(root, cache={"directory": str(folder)}, preprocessing={"clip": clip})
        elif kind == "kill":
            with_leftover = folder / "ab" / ".abc.npy.x.partial"
            with_leftover.parent.mkdir(parents=True, exist_ok=True)
            with_leftover.write_bytes(b"half")
        windows = load_split(config, "train")
        windows.prepare()
        for i in dice.sample(range(len(windows)), 3):
            recording = windows.recordings[windows.recording_of(i)]
            whole = preprocess(*read_recording(recording), config.preprocessing)
            start = int(windows.starts[i])
            np.testing.assert_array_equal(windows[i]["signal"], whole[:, start : start + windows.length], err_msg=kind)


@pytest.mark.slow
def test_a_killed_builder_leaves_nothing_half(tmp_path, own_cache):
    for number in range(6):
        tusz_recording(tmp_path, "aaaaaaa" + "abcdef"[number], seconds=60, seed=number)
    for wait_s in (0.3, 0.6, 1.0):
        process = builder(tmp_path, 0)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stdin.close()
        for path in (own_cache / "windows").glob("??/*.npy"):
            entries.read_trailer(path)
    windows = load_split(settings(tmp_path), "train")
    windows.prepare()
    assert windows.n_used == 6
