from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.config.data import Data, SplitRatio
from brainbrr.errors import ConfigError, DataError
from brainbrr.recordings.splits import assign_patients, check_disjoint, split_recordings
from brainbrr.recordings.types import Located


def located(key, patient, split=None):
    return Located(Path(key), key, patient, split, "", "", None)


@given(st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=3, max_size=40), st.integers(0, 99),
       st.tuples(*[st.floats(0, 1)] * 3).filter(lambda shares: sum(shares) > 0.01))  # fmt: skip
def test_split_by_ratio(patients, seed, shares):
    ratio = SplitRatio(train=shares[0], dev=shares[1], eval=shares[2])
    found = assign_patients(patients, ratio, seed)
    assert found.keys() == patients
    assert found == assign_patients(sorted(patients, reverse=True), ratio, seed)
    wanted = {name for name, share in zip(("train", "dev", "eval"), shares, strict=True) if share > 0}
    assert set(found.values()) == wanted
    for name, share in zip(("train", "dev", "eval"), shares, strict=True):
        count = sum(split == name for split in found.values())
        # One patient is guaranteed to every split, which shifts the others by at most as many.
        assert abs(count - len(patients) * share / sum(shares)) <= 3


def test_split_by_ratio_depends_on_the_seed():
    patients = [f"p{i}" for i in range(20)]
    assert assign_patients(patients, SplitRatio(), 0) != assign_patients(patients, SplitRatio(), 1)


def test_too_few_patients():
    with pytest.raises(
        ConfigError, match=r"too few patients to split .got 2 patients, expected one each for train, dev, eval"
    ):
        assign_patients(["a", "b"], SplitRatio(), 0)


def test_official_splits_are_used_where_there_are_any():
    recordings = [located("b", "p2", "dev"), located("a", "p1", "train")]
    assert {k: [r.key for r in v] for k, v in split_recordings(recordings, Data()).items()} == {
        "train": ["a"], "dev": ["b"], "eval": [],
    }  # fmt: skip
    with pytest.raises(DataError, match="a recording outside the official splits"):
        split_recordings([*recordings, located("c", "p3")], Data())


def test_a_patients_recordings_stay_together_in_a_split_by_ratio():
    recordings = [located(f"{i}", f"p{i % 9}", "train") for i in range(40)]
    splits = split_recordings(recordings, Data(split="ratio"))
    assert all(splits.values())
    check_disjoint(splits)


def test_overlap_names_the_patients():
    splits = {
        "train": [located("a", "p1"), located("b", "p2")],
        "dev": [located("c", "p2"), located("d", "p1")],
        "eval": [],
    }
    with pytest.raises(DataError, match="patients in both train and dev: p1, p2"):
        check_disjoint(splits)
