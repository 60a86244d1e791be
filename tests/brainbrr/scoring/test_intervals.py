import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.errors import DataError
from brainbrr.recordings.types import Seizure, merge
from brainbrr.scoring.intervals import Event, to_intervals, to_mask
from brainbrr.windows.cutting import mask, seizure_samples

TENTHS = st.integers(-20, 120)


@given(st.lists(st.tuples(TENTHS, st.integers(0, 40))))
def test_intervals_are_sorted_disjoint_and_cover_the_same_time(pairs):
    events = [Event(start / 10, (start + length) / 10) for start, length in pairs]
    intervals = to_intervals(events, duration_s=10.0)
    assert (intervals[:, 1] > intervals[:, 0]).all()
    assert (intervals[1:, 0] > intervals[:-1, 1]).all()
    covered = np.zeros(100, dtype=bool)
    for start, length in pairs:
        covered[max(0, start) : max(0, start + length)] = True
    assert (to_mask(intervals, 10.0, 100) == covered).all()


@pytest.mark.parametrize("event", [Event(2.0, 1.0), Event(math.nan, 1.0), Event(0.0, math.inf)])
def test_times_that_are_no_interval_are_refused(event):
    with pytest.raises(DataError, match="no interval"):
        to_intervals([event], 10.0)


@given(
    st.lists(st.tuples(st.integers(0, 9999), st.integers(1, 4000)), max_size=4),
    st.sampled_from([16.0, 100.0, 250.0, 256.0]),
    st.integers(1, 20),
)
def test_labels_are_those_of_the_windows(pairs, rate_hz, block):
    seizures = merge([Seizure(start / 1000, (start + length) / 1000) for start, length in pairs])
    n_samples = int(10 * rate_hz)
    expected = mask(0, n_samples, seizure_samples(seizures, rate_hz, n_samples)) > 0
    intervals = to_intervals(seizures, 10.0)
    assert (to_mask(intervals, rate_hz, n_samples) == expected).all()
    blocks = -(-n_samples // block)
    padded = np.pad(expected, (0, blocks * block - n_samples)).reshape(blocks, block)
    assert (to_mask(intervals, rate_hz, blocks, block) == padded.any(axis=1)).all()


@given(st.integers(0, 100_000), st.integers(1, 1000), st.sampled_from([16.0, 100.0, 256.0, 250.0, 512 / 3]))
def test_rounding_of_seconds_adds_no_sample(start, length, rate_hz):
    interval = np.array([[start / rate_hz, (start + length) / rate_hz]])
    assert np.flatnonzero(to_mask(interval, rate_hz, start + length + 5)).tolist() == [*range(start, start + length)]
