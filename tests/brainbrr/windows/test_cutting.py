"""Window and mask arithmetic against the obvious way, sample by sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.recordings.types import Seizure, merge
from brainbrr.windows.cutting import fresh_from, mask, overlaps, seizure_samples, window_starts

sizes = st.integers(1, 300), st.integers(1, 60), st.integers(1, 80)


@given(*sizes)
def test_windows_cover_the_recording(n, length, stride):
    starts = window_starts(n, length, stride)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= stride).all()
    assert starts[-1] == max(n - length, 0)
    if n >= length:
        assert starts[-1] + length == n
        assert starts[:-1].tolist() == list(range(0, n - length, stride))
    if stride <= length:
        assert set(range(n)) <= {int(s) + k for s in starts for k in range(length)}


@given(*sizes[:2])
def test_fresh_samples_count_once(n, length):
    starts = window_starts(n, length, length)
    fresh = fresh_from(starts, length)
    counted = [k for s, f in zip(starts, fresh, strict=True) for k in range(s + f, min(s + length, n))]
    assert counted == list(range(n))


@st.composite
def seizures(draw):
    times = draw(st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 40_000)), max_size=4))
    return merge([Seizure(on / 1e4, (on + length) / 1e4) for on, length in times])


@given(seizures(), st.sampled_from([10.0, 25.6, 32.0, 100.0]), *sizes)
def test_labels_are_those_of_the_samples_own_times(events, rate_hz, n, length, stride):
    # Time stamps have four decimals; k / rate is compared on that grid, as a label file would give it.
    naive = [
        any(round(s.onset_s * 1e4) <= k / rate_hz * 1e4 + 1e-6 < round(s.offset_s * 1e4) for s in events)
        for k in range(n)
    ]
    intervals = seizure_samples(events, rate_hz, n)
    starts = window_starts(n, length, stride)
    stops = np.minimum(starts + length, n)
    counts = overlaps(starts, stops, intervals)
    for start, stop, count in zip(starts, stops, counts, strict=True):
        labels = mask(int(start), length, intervals)
        assert labels[: stop - start].astype(bool).tolist() == naive[start:stop]
        assert not labels[stop - start :].any()
        assert count == sum(naive[start:stop])


def test_the_mask_is_half_open():
    intervals = seizure_samples([Seizure(1.0, 2.0)], 256.0, 1000)
    labels = mask(0, 1000, intervals)
    assert (labels[255], labels[256], labels[511], labels[512]) == (0, 1, 1, 0)
