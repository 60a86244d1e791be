import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from brainbrr.config.scoring import Scoring
from brainbrr.errors import DataError
from brainbrr.scoring import EventStream, Trace, find_events
from brainbrr.scoring.postprocessing import Runs, detect

PROBABILITIES = npst.arrays(
    np.float32,
    st.integers(0, 60),
    elements=st.sampled_from([0.0, 0.3, 0.4, 0.45, 0.5, 0.7, 0.9, np.nan]),
    fill=st.nothing(),  # every sample drawn by itself: else most arrays are nearly constant
)
LENGTHS = st.integers(0, 4).map(float)
RULES = st.builds(
    Scoring,
    on_threshold=st.sampled_from([0.4, 0.5, 0.7]),
    off_threshold=st.sampled_from([0.3, 0.4]),
    opening_s=LENGTHS,
    closing_s=LENGTHS,
    min_duration_s=LENGTHS,
    merge_gap_s=LENGTHS,
)


def as_trace(values, duration_s=None):
    values = np.asarray(values, dtype=np.float32)
    duration_s = float(len(values)) if duration_s is None else duration_s
    return Trace("r", 1.0, duration_s, values, ~np.isnan(values))


def plain_events(values, rules):
    """The definition, sample by sample and set by set."""
    on, state = [], False
    for value in values:
        if value >= np.float32(rules.on_threshold):
            state = True
        elif not value >= np.float32(rules.off_threshold):
            state = False
        on.append(state)
    runs = [
        [run[0][0], run[-1][0] + 1, [values[i] for i, _ in run]]
        for state, group in itertools.groupby(enumerate(on), key=lambda pair: pair[1])
        if state and (run := list(group))
    ]
    for least, gap in ((rules.opening_s, rules.closing_s), (rules.min_duration_s, rules.merge_gap_s)):
        kept = [run for run in runs if run[1] - run[0] >= least]
        runs = []
        for run in kept:
            if runs and run[0] - runs[-1][1] < gap:
                runs[-1] = [runs[-1][0], run[1], runs[-1][2] + run[2]]
            else:
                runs.append(run)
    return [(start, stop, float(max(peak))) for start, stop, peak in runs]


@settings(max_examples=300)
@given(PROBABILITIES, RULES)
def test_events_are_those_of_the_plain_definition(values, rules):
    assert [tuple(event) for event in find_events(as_trace(values), rules)] == plain_events(values, rules)


@settings(max_examples=300)
@given(PROBABILITIES, RULES, st.lists(st.integers(0, 60)))
def test_streaming_equals_offline(values, rules, cuts):
    stream = EventStream(rules, rate_hz=1.0)
    events = []
    for piece in np.split(values, sorted(min(cut, len(values)) for cut in cuts)):
        events += stream.push(piece)
    events += stream.finish(duration_s=float(len(values)))
    assert tuple(events) == find_events(as_trace(values), rules)


@settings(max_examples=200)
@given(PROBABILITIES, RULES)
def test_streaming_returns_an_event_as_soon_as_nothing_can_change_it(values, rules):
    """After every sample the stream has returned exactly the events that every continuation agrees on."""
    stream, events = EventStream(rules, rate_hz=1.0), []
    for seen, value in enumerate(values, start=1):
        events += stream.push([value])
        calm, busy = (find_events(as_trace([*values[:seen], *[p] * 20]), rules) for p in (0.0, 1.0))
        assert tuple(events) == tuple(event for event in calm if event in busy)


def test_a_stream_says_that_it_is_detecting_before_the_event_is_final():
    stream = EventStream(Scoring(opening_s=0, min_duration_s=0), rate_hz=1.0)
    assert not stream.detecting
    assert stream.push([0.1, 0.9]) == []
    assert stream.detecting
    assert stream.push([0.45]) == []
    assert stream.detecting
    stream.push([0.1])
    assert not stream.detecting


def test_a_finished_stream_takes_no_more():
    stream = EventStream(Scoring(), rate_hz=1.0)
    stream.finish()
    with pytest.raises(DataError, match="finished"):
        stream.push([0.1])
    with pytest.raises(DataError, match="finished"):
        stream.finish()


def test_hysteresis_starts_high_and_stops_low():
    values = np.array([0.45, 0.5, 0.4, 0.39, 0.45, np.nan, 0.45, 0.9, np.nan], dtype=np.float32)
    assert np.flatnonzero(detect(values, on=0.5, off=0.4)).tolist() == [1, 2, 7]


@given(npst.arrays(bool, st.integers(1, 50), fill=st.nothing()), st.integers(1, 6))
def test_runs_open_and_close_like_scipy(mask, n):
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    runs = Runs(starts, stops, np.zeros(len(starts), np.float32))

    def filled(runs):
        out = np.zeros(len(mask), dtype=bool)
        for start, stop in zip(runs.starts, runs.stops, strict=True):
            out[start:stop] = True
        return out

    # Padding keeps scipy's own treatment of the border out of the comparison.
    padded = np.pad(mask, 10)
    opened = ndimage.binary_opening(padded, structure=np.ones(n))[10:-10]
    closed = ndimage.binary_closing(padded, structure=np.ones(n))[10:-10]
    assert (filled(runs.at_least(n)) == opened).all()
    assert (filled(runs.fill_gaps(n)) == closed).all()


def test_seconds_become_samples_of_the_trace():
    values = np.zeros(160, dtype=np.float32)
    values[16:64] = 0.8
    values[112:159] = 0.9
    trace = Trace("r", 16.0, 10.0, values, np.ones(160, bool))
    rules = Scoring(opening_s=0, closing_s=0, min_duration_s=3.0, merge_gap_s=0)
    assert find_events(trace, rules) == ((1.0, 4.0, np.float32(0.8)),)


def test_the_last_event_ends_with_the_recording():
    events = find_events(as_trace([0.9] * 5, duration_s=4.25), Scoring(min_duration_s=0))
    assert [(event.onset_s, event.offset_s) for event in events] == [(0.0, 4.25)]
    stream = EventStream(Scoring(min_duration_s=0), rate_hz=1.0)
    stream.push([0.9] * 5)
    assert stream.finish(4.25) == list(events)


def test_an_off_threshold_above_the_on_threshold_is_refused():
    with pytest.raises(ValueError, match="off_threshold at most on_threshold"):
        Scoring(on_threshold=0.3, off_threshold=0.5)
