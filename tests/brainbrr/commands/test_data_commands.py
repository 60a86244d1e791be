"""The commands of the data plane, by their command line."""

import json

import numpy as np
import pytest
from data_files import csv_bi, noise, small_corpus, tusz_recording, write_edf
from matplotlib.image import imread

from brainbrr.cli import main

pytestmark = pytest.mark.usefixtures("own_cache")


def run(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def write_config(tmp_path, **lines):
    path = tmp_path / "config.yaml"
    sections = {"run": "{name: t, output_dir: unused}", "data": f"{{directory: {tmp_path / 'corpus'}}}"} | lines
    path.write_text("".join(f"{name}: {value}\n" for name, value in sections.items()))
    return path


def test_corpus(tmp_path, capsys):
    small_corpus(tmp_path / "corpus")
    tusz_recording(tmp_path / "corpus", "aaaaaaad", labels=False)
    code, out, _ = run(capsys, "corpus", tmp_path / "corpus")
    assert code == 0
    assert "6 recordings in the layout of tusz" in out
    assert "rates in Hz: 256 (5)" in out
    assert "missing label file (1), for instance" in out
    code, out, _ = run(capsys, "corpus", tmp_path / "corpus", "--json")
    found = json.loads(out)
    assert found["splits"]["train"] == {
        "recordings": 3, "patients": 3, "hours": pytest.approx(100 / 3600), "recordings_with_seizures": 1,
        "seizures": 1, "seizure_hours": pytest.approx(13.5 / 3600),
    }  # fmt: skip
    assert list(found["problems"]) == ["missing label file"]


def test_corpus_of_nothing(tmp_path, capsys):
    code, out, err = run(capsys, "corpus", tmp_path)
    assert (code, out, err) == (1, "", f"error: {tmp_path}: no EDF file below the data directory\n")


def test_plot(tmp_path, capsys):
    path = tusz_recording(tmp_path, "aaaaaaaa", seconds=40, seizures=((10.0, 20.0),))
    (tmp_path / "events.tsv").write_text("onset\tduration\teventType\n25\t5\tsz\n")
    code, out, _ = run(capsys, "plot", path, "-o", tmp_path / "x.png", "--predictions", tmp_path / "events.tsv")
    assert (code, out) == (0, f"{tmp_path / 'x.png'}: 40 s, 1 labelled seizures, 1 predicted\n")
    image = imread(tmp_path / "x.png")[..., :3]
    height, width = image.shape[:2]
    assert (height, width) == (1000, 1200)
    # The axes hold 40 s: look for the two colors at the places of the two events, away from the traces.
    reddish = (image[..., 0] > 0.9) & (image[..., 1] < 0.85) & (image[..., 1] > 0.6)
    bluish = (image[..., 2] > 0.85) & (image[..., 0] < 0.85) & (image[..., 0] > 0.6)
    columns = np.flatnonzero(reddish.sum(0) > 100)
    rows_blue, columns_blue = np.nonzero(bluish)
    left, right = axes_edges(image)
    seconds = lambda column: (column - left) / (right - left) * 40  # noqa: E731
    assert seconds(columns.min()) == pytest.approx(10, abs=0.3)
    assert seconds(columns.max()) == pytest.approx(20, abs=0.3)
    band = columns_blue[rows_blue < height / 4]
    assert seconds(band.min()) == pytest.approx(25, abs=0.3)
    assert seconds(band.max()) == pytest.approx(30, abs=0.3)


def axes_edges(image):
    dark = (image.max(-1) < 0.2).sum(0)
    edges = np.flatnonzero(dark > image.shape[0] * 0.8)
    return edges.min(), edges.max()


def test_plot_without_labels_and_beyond_the_end(tmp_path, capsys):
    path = write_edf(tmp_path / "some.edf", noise(10, 256), 256)
    code, out, _ = run(capsys, "plot", path, "-o", tmp_path / "x.png", "--start", 2, "--seconds", 3)
    assert (code, "no label file" in out) == (0, True)
    code, _, err = run(capsys, "plot", path, "--start", 11)
    assert (code, err) == (2, "error: --start: the recording ends before (got 11.0, expected below 10)\n")
    code, _, err = run(capsys, "plot", tmp_path / "none.edf")
    assert (code, err) == (1, f"error: {tmp_path / 'none.edf'}: no such file\n")


def test_cache(tmp_path, capsys, own_cache):
    small_corpus(tmp_path / "corpus")
    config = write_config(tmp_path)
    code, out, _ = run(capsys, "cache", "build", config)
    assert code == 0
    assert "train: 3 of 3 recordings in" in out
    code, out, _ = run(capsys, "cache", "info", config)
    assert "5 arrays, " in out
    assert "5 of these settings" in out
    assert run(capsys, "cache", "verify", config)[0] == 0
    victim = min((own_cache / "windows").glob("??/*.npy"))
    content = bytearray(victim.read_bytes())
    content[5000] ^= 1
    victim.write_bytes(content)
    code, out, err = run(capsys, "cache", "verify", config)
    assert (code, err) == (1, f"{victim}: a damaged cache entry: wrong checksum\n")
    assert run(capsys, "cache", "verify", config, "--remove")[0] == 0
    assert not victim.exists()
    run(capsys, "cache", "build", config, "--split", "train", "--set", "preprocessing.clip=5.0")
    code, out, _ = run(capsys, "cache", "prune", config, "--dry-run")
    assert "3 files would be removed" in out
    code, out, _ = run(capsys, "cache", "prune", config)
    assert "3 files removed" in out
    assert len(list((own_cache / "windows").glob("??/*.npy"))) == 4


@pytest.mark.slow
def test_cache_build_in_parallel(tmp_path, capsys, own_cache):
    small_corpus(tmp_path / "corpus")
    code, _, _ = run(capsys, "cache", "build", write_config(tmp_path), "--jobs", 2, "--split", "train")
    assert (code, len(list((own_cache / "windows").glob("??/*.npy")))) == (0, 3)


def test_cache_build_skips_and_says_so(tmp_path, capsys):
    bad = tusz_recording(small_corpus(tmp_path / "corpus"), "aaaaaaad")
    bad.write_bytes(bad.read_bytes()[: 256 * 20] + b"\0" * (bad.stat().st_size - 256 * 20))
    config = write_config(tmp_path)
    code, _, err = run(capsys, "cache", "build", config)
    assert code == 1
    assert "far too small" in err
    skip = ["--set", "data.on_bad_recording=skip", "--set", "data.max_skipped_share=0.3"]
    code, out, _ = run(capsys, "cache", "build", config, *skip)
    assert code == 0
    assert "train: 3 of 4 recordings" in out
    assert "skipped edf/train/aaaaaaad/" in out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Dask's own shutdown
def test_cache_build_on_a_dask_cluster(tmp_path, capsys, own_cache):
    distributed = pytest.importorskip("distributed")
    for number in range(4):
        tusz_recording(tmp_path / "corpus", "aaaaaaa" + "abcd"[number], seed=number)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        code, out, _ = run(capsys, "cache", "build", write_config(tmp_path), "--dask", cluster.scheduler_address)
        with distributed.Client(cluster) as client:
            workers = client.run(lambda: __import__("os").getpid())
    assert len(workers) == 2
    assert (code, "train: 4 of 4 recordings" in out) == (0, True)
    assert len(list((own_cache / "windows").glob("??/*.npy"))) == 4


def test_no_dask_scheduler(tmp_path, capsys):
    small_corpus(tmp_path / "corpus")
    (tmp_path / "corpus" / "x.csv_bi").write_text(csv_bi("x", 1, []))
    code, _, err = run(capsys, "cache", "build", write_config(tmp_path), "--dask", "nonsense://x")
    assert (code, err) == (2, "error: --dask: no Dask scheduler answers (got nonsense://x)\n")
