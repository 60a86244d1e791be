"""Real headers and label files of three corpora, where a package index can be reached.

The source distribution of epilepsy2bids 0.0.7 ships headers of TUSZ, CHB-MIT and Siena with two seconds of random
samples each, beside the corpora's own label files. Set ``BRAINBRR_EPILEPSY2BIDS`` to an unpacked copy to spare the
download.
"""

import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from brainbrr.recordings import read_recording, scan_corpus
from brainbrr.recordings.edf import read_facts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    if folder := os.environ.get("BRAINBRR_EPILEPSY2BIDS"):
        return Path(folder)
    folder = tmp_path_factory.mktemp("epilepsy2bids")
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "epilepsy2bids==0.0.7"]
    try:
        done = subprocess.run([*download, "-d", str(folder)], capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("epilepsy2bids 0.0.7 could not be downloaded in three minutes")
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"epilepsy2bids 0.0.7 cannot be downloaded here: {done.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "epilepsy2bids-0.0.7"


def test_every_header_is_read(shipped):
    montages = Counter()
    interpolated = Counter()
    paths = sorted(shipped.glob("tests/**/*.edf"))
    for path in paths:
        montage = "bipolar" if "chb" in path.name else "referential"
        interpolated[read_facts(path, montage).interpolated] += 1
        montages[montage] += 1
        signal, rate = read_recording(path, montage)
        assert signal.shape[0] == 19
        assert rate in (250, 256, 400, 512, 1000)
    assert len(paths) == 311
    assert interpolated[("Fz", "Pz")] == 1


@pytest.mark.parametrize(
    ("folder", "name", "n_recordings", "n_seizures"),
    [("tuh", "tusz", 217, 253), ("chbmit", "chb-mit", 59, 10), ("siena", "siena", 7, 7)],
)
def test_every_label_file_is_read(shipped, folder, name, n_recordings, n_seizures):
    corpus = scan_corpus(shipped / "tests" / "data" / folder)
    assert (corpus.reader.name, len(corpus.located), corpus.strangers) == (name, n_recordings, ())
    annotations = [corpus.reader.annotate(located) for located in corpus.located]
    assert sum(len(annotation.seizures) for annotation in annotations) == n_seizures
