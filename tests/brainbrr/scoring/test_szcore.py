import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timescoring.annotations import Annotation
from timescoring.scoring import EventScoring, SampleScoring

from brainbrr.scoring import szcore
from brainbrr.scoring.intervals import Event, to_intervals


def intervals(*pairs, duration_s=2000.0):
    return to_intervals([Event(*pair) for pair in pairs], duration_s)


def counted(scorer, references, found, duration_s=2000.0):
    counts = scorer(intervals(*references), intervals(*found), duration_s)
    return counts.hits, counts.misses, counts.false_alarms


@pytest.mark.parametrize(
    ("references", "found", "expected"),
    [
        ([(500, 560)], [(510, 520)], (1, 0, 0)),
        ([(500, 560)], [(471, 480)], (1, 0, 0)),  # within 30 s before
        ([(500, 560)], [(460, 470)], (0, 1, 1)),  # earlier
        ([(500, 560)], [(619, 625)], (1, 0, 0)),  # within 60 s after
        ([(500, 560)], [(621, 625)], (0, 1, 1)),  # later
        ([(500, 560)], [(1000, 1010), (1090, 1100)], (0, 1, 1)),  # a gap of 80 s: one event
        ([(500, 560)], [(1000, 1010), (1100, 1110)], (0, 1, 2)),  # a gap of 90 s: two
        ([(0, 650)], [(10, 20)], (1, 2, 0)),  # 300 + 300 + 50 s
        ([], [(1000, 1700)], (0, 0, 3)),
        ([], [], (0, 0, 0)),
    ],
)
def test_events_by_hand(references, found, expected):
    assert counted(szcore.events, references, found) == expected


def test_samples_by_hand():
    assert counted(szcore.samples, [(10, 20)], [(15, 30)]) == (5, 5, 10)
    assert counted(szcore.samples, [], []) == (0, 0, 0)


MASKS = st.integers(20, 400).flatmap(lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 2))


@given(MASKS)
def test_counts_are_those_of_timescoring_fed_with_masks(masks):
    truth, found = (Annotation(np.repeat(mask, 10), 10) for mask in masks)
    duration_s = float(len(masks[0]))
    pairs = [to_intervals([Event(*event) for event in each.events], duration_s) for each in (truth, found)]
    for scorer, theirs in ((szcore.samples, SampleScoring), (szcore.events, EventScoring)):
        ours, expected = scorer(*pairs, duration_s), theirs(truth, found)
        assert (ours.hits, ours.hits + ours.misses, ours.false_alarms) == (expected.tp, expected.refTrue, expected.fp)
        assert ours.false_alarms / duration_s * 86_400 == pytest.approx(expected.fpRate)


@pytest.mark.parametrize("duration_s", [0.01, 0.3, 0.96, 1.04])
@pytest.mark.parametrize("scorer", [szcore.samples, szcore.events])
def test_short_recordings_are_scored(scorer, duration_s):
    everything = intervals((0, duration_s), duration_s=duration_s)
    counts = scorer(everything, everything, duration_s)
    assert (counts.misses, counts.false_alarms, counts.duration_s) == (0, 0, duration_s)
    assert counts.hits == (round(duration_s * 10) > 0 if scorer is szcore.events else round(duration_s))


def test_an_event_shorter_than_the_grid_is_no_false_alarm_within_a_seizure():
    assert counted(szcore.events, [(500, 560)], [(510.01, 510.04), (540, 550)]) == (1, 0, 0)
    assert counted(szcore.events, [(500, 560)], [(510.01, 510.04)]) == (0, 1, 0)
