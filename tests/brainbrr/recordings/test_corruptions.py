"""Files damaged at random are refused in one sentence, or read as what they say now: never something else.

EDF and label files carry no checksum: a changed digit is another valid file. So what is read is compared with an
independent, slow reading of the damaged file by the letter of the format; where that sees no valid file, ours must
refuse it.
"""

import random

import numpy as np
import pytest
from data_files import csv_bi, noise, write_edf

from brainbrr.errors import DataError
from brainbrr.montage import CHANNELS, INTERPOLATED_FROM, POSITIONS, parse_label
from brainbrr.recordings import read_recording
from brainbrr.recordings.labels import SEIZURE_CODES, read_tusz_labels
from brainbrr.windows import cache

SECONDS, RATE = 4, 64
HEADER = 256 * 21


def damaged(content: bytes, dice: random.Random, front: int) -> bytes:
    """Damage bytes as disks, transfers and editors do; half of the time in the first ``front`` bytes."""
    content = bytearray(content)
    end = min(front, len(content)) if dice.random() < 0.5 else len(content)
    at, length = dice.randrange(end), dice.choice([1, 1, 1, 2, 8, 80])
    kind = dice.choice(["flip", "bytes", "digits", "zeros", "cut", "insert", "delete", "repeat"])
    if kind == "flip":
        content[at] ^= 1 << dice.randrange(8)
    elif kind == "bytes":
        content[at : at + length] = dice.randbytes(len(content[at : at + length]))
    elif kind == "digits":
        content[at : at + length] = bytes(dice.choice(b"0123456789. -") for _ in content[at : at + length])
    elif kind == "zeros":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = dice.randbytes(length)
    elif kind == "delete":
        del content[at : at + length]
    else:
        content[at:at] = content[at : at + length]
    return bytes(content)


def by_the_letter(content: bytes) -> np.ndarray | None:
    """Read the 19 channels in microvolts as the format says, or return None where the file is not valid."""
    try:
        n = int(content[252:256])
        sizes = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
        starts = np.cumsum([256, *(size * n for size in sizes)])

        def column(which):
            return [
                content[starts[which] + i * sizes[which] :][: sizes[which]].decode("latin-1").strip() for i in range(n)
            ]

        labels, units = column(0), column(2)
        counts = [int(text) for text in column(8)]
        n_records = int(content[236:244])
        records = np.frombuffer(content[256 * (n + 1) :], "<i2").reshape(n_records, sum(counts))
        rows = {}
        for i, label in enumerate(labels):
            name = parse_label(label)
            if name is None:
                continue
            low, high, bottom, top = (float(column(which)[i].replace(",", ".")) for which in (3, 4, 5, 6))
            digital = records[:, sum(counts[:i]) : sum(counts[: i + 1])].ravel()
            scale = {"uV": 1, "mV": 1e3, "V": 1e6}[units[i]]
            rows[name[0]] = ((digital - bottom) * (high - low) / (top - bottom) + low) * scale
        for name, neighbors in INTERPOLATED_FROM.items():  # a destroyed label of Fz or Pz is a missing Fz or Pz
            if name not in rows:
                near = [1 / np.sum(np.subtract(POSITIONS[name], POSITIONS[other]) ** 2) for other in neighbors]
                rows[name] = sum(w / sum(near) * rows[other] for w, other in zip(near, neighbors, strict=True))
        return np.array([rows[name] for name in CHANNELS])
    except (ValueError, KeyError, UnicodeError, ZeroDivisionError):
        return None


@pytest.fixture(scope="module")
def sound_edf(tmp_path_factory):
    signals = noise(SECONDS, RATE) | {"EEG EKG1-REF": np.zeros(SECONDS * RATE)}
    return write_edf(tmp_path_factory.mktemp("edf") / "x.edf", signals, RATE).read_bytes()


@pytest.mark.parametrize("batch", range(4))
def test_damaged_edf_files(tmp_path, sound_edf, batch):
    dice = random.Random(batch)
    refused = read = 0
    np.testing.assert_allclose(by_the_letter(sound_edf), read_recording(write(tmp_path, sound_edf))[0], atol=1e-3)
    for number in range(60):
        content = damaged(sound_edf, dice, HEADER)
        path = write(tmp_path, content)
        try:
            signal, _ = read_recording(path)
        except DataError as error:
            refused += one_sentence(error, path)
            continue
        truth = by_the_letter(content)
        assert truth is not None, f"read an invalid file ({batch=}, {number=})"
        np.testing.assert_allclose(signal, truth, rtol=1e-5, atol=1e-3, err_msg=f"{batch=}, {number=}")
        read += 1
    assert refused > 10
    assert read > 5


def one_sentence(error, path):
    assert str(path) in str(error)
    assert "\n" not in str(error)
    return True


def write(folder, content, name="x.edf"):
    path = folder / name
    path.write_bytes(content)
    return path


def naive_seizures(content: bytes) -> set[int]:
    """Return the milliseconds that are seizure by the rows of a label file."""
    found: set[int] = set()
    for line in content.decode().splitlines():
        cells = line.split(",")
        if len(cells) == 5 and cells[3].strip().lower() in SEIZURE_CODES:
            found |= set(range(round(float(cells[1]) * 1000), round(float(cells[2]) * 1000)))
    return found


@pytest.mark.parametrize("batch", range(2))
def test_damaged_label_files(tmp_path, batch):
    dice = random.Random(100 + batch)
    sound = csv_bi("x", 60, [(3.0, 9.5), (20.0, 31.25), (40.5, 50.0)]).encode()
    refused = read = 0
    for number in range(75):
        content = damaged(sound, dice, 250)
        path = write(tmp_path, content, "x.csv_bi")
        try:
            annotation = read_tusz_labels(path)
        except DataError as error:
            refused += one_sentence(error, path)
            continue
        found = {ms for s in annotation.seizures for ms in range(round(s.onset_s * 1000), round(s.offset_s * 1000))}
        assert found == naive_seizures(content), f"{batch=}, {number=}"
        read += 1
    assert refused > 20
    assert read > 5


@pytest.mark.parametrize("batch", range(2))
def test_damaged_cache_entries(tmp_path, batch):
    dice = random.Random(200 + batch)
    signal = np.random.default_rng(0).normal(size=(19, 700)).astype(np.float32)
    key = cache.CacheKey('{"dtype": "float32"}')
    path = tmp_path / "x.npy"
    cache.write_entry(path, signal, key, "x.edf")
    sound = path.read_bytes()
    refused = 0
    for number in range(75):
        # The end holds the trailer: damage it as often as the rest.
        content = damaged(sound[::-1], dice, 300)[::-1] if number % 2 else damaged(sound, dice, 300)
        path.write_bytes(content)
        try:
            array = cache.open_entry(path, key, (19, 700), verify=True)
        except cache.DamagedEntryError as error:
            refused += one_sentence(error, path)
            continue
        np.testing.assert_array_equal(array, signal, err_msg=f"{batch=}, {number=}")
    assert refused > 40
