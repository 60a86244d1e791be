"""Hand-computed examples; the drawings have one column per second."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.scoring.intervals import Event, to_intervals
from brainbrr.scoring.nedc import Counts, epoch, ovlp, taes


def drawn(line):
    """Read ``..##.#``: one second per character."""
    events = [Event(second, second + 1) for second, mark in enumerate(line) if mark == "#"]
    return to_intervals(events, len(line))


def counted(scorer, reference, found):
    counts = scorer(drawn(reference), drawn(found), float(len(reference)))
    assert counts.duration_s == len(reference)
    return counts.hits, counts.misses, counts.false_alarms


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        ("..####....", "..####....", (1, 0, 0)),
        ("..####....", "..........", (0, 1, 0)),
        ("..........", "..####....", (0, 0, 1)),
        ("..####....", ".....#####", (1, 0, 0)),  # one second of overlap is a hit, and no false alarm
        ("..####....", "......####", (0, 1, 1)),  # touching is not overlapping
        ("..##..##..", ".########.", (2, 0, 0)),  # one event hits both
        (".########.", "..##..##..", (1, 0, 0)),  # two events, one hit, no false alarm
        ("##......##", "...##.....", (0, 2, 1)),
    ],
)
def test_ovlp_by_hand(reference, found, expected):
    assert counted(ovlp, reference, found) == expected


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        ("..####....", "..####....", (1, 0, 0)),
        ("..####....", "..........", (0, 1, 0)),
        ("..........", "..####....", (0, 0, 1)),
        ("...####...", ".####.....", (0.5, 0.5, 0.5)),  # starts early: 2 of 4 covered, 2 outside
        ("..####....", "....###...", (0.5, 0.5, 0.25)),  # ends late
        ("...####...", "..######..", (1, 0, 0.5)),  # reaches over both ends
        ("..########", "....##....", (0.25, 0.75, 0)),  # within
        ("....#.....", "..######..", (1, 0, 1)),  # 5 seconds outside a reference of 1: at most 1
        (".########.", "..##..##..", (0.5, 0.5, 0)),  # two events share a reference
        ("..########..", ".###....####", (0.25 + 0.25, 0.5, 0.125 + 0.25)),
        # One event over three references scores the first; 6 seconds outside it count as 1.
        ("..##.##.##..", "..########..", (1, 2, 1)),
        # The event over two references is the second to touch the first: the other stays open for its own event.
        ("####.####...", "#.####.#....", (0.25 + 0.5 + 0.25, 1 - 0.75 + 0.75, 0.5)),
        # It is the first to touch: the other is given up, and its own event is a false alarm.
        ("####.####...", "..####.#....", (0.5, 0.5 + 1, 0.5 + 1)),
    ],
)
def test_taes_by_hand(reference, found, expected):
    assert counted(taes, reference, found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        ("..####....", "..####....", (16, 0, 0)),
        ("..####....", "....####..", (8, 8, 8)),
        ("..........", "#.........", (0, 0, 4)),
    ],
)
def test_epoch_by_hand(reference, found, expected):
    assert counted(epoch, reference, found) == expected


def test_an_epoch_takes_the_label_of_its_middle():
    events = np.array([[0.125, 0.375], [0.7, 0.87]])
    # Middles 0.125 and 0.625 and 0.875: an onset on a middle counts, an offset on a middle does not.
    assert epoch(events, events[:0], 1.0).misses == 1
    assert epoch(np.array([[0.7, 0.88]]), events[:0], 1.0).misses == 1


def test_the_last_epoch_counts_when_its_middle_is_recorded():
    always = np.array([[0.0, 10.0]])
    assert epoch(always, always, 10.1).hits == 40
    assert epoch(always, always, 0.1).hits == 0


LINES = st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.text("#.", min_size=n, max_size=n)] * 2))


@given(LINES)
def test_every_reference_is_hit_or_missed_and_no_count_is_negative(lines):
    for scorer, total in ((ovlp, len(drawn(lines[0]))), (taes, len(drawn(lines[0]))), (epoch, 4 * lines[0].count("#"))):
        hits, misses, false_alarms = counted(scorer, *lines)
        assert hits + misses == pytest.approx(total)
        assert min(hits, misses, false_alarms) > -1e-9


@given(LINES)
def test_ovlp_equals_its_definition_pair_by_pair(lines):
    references, events = (drawn(line).tolist() for line in lines)

    def meet(one, other):
        return one[0] < other[1] and other[0] < one[1]

    hits = sum(any(meet(r, e) for e in events) for r in references)
    alarms = sum(not any(meet(r, e) for r in references) for e in events)
    assert counted(ovlp, *lines) == (hits, len(references) - hits, alarms)


@given(LINES)
def test_perfect_events_are_perfect(lines):
    line = lines[0]
    for scorer in (ovlp, taes, epoch):
        hits, misses, false_alarms = counted(scorer, line, line)
        assert (misses, false_alarms) == pytest.approx((0, 0))
        assert hits > 0 or "#" not in line


def test_rates_are_per_recorded_day_and_undefined_without_a_reference_or_a_recording():
    total = Counts(hits=1, misses=3, false_alarms=2, duration_s=3600.0) + Counts(false_alarms=1, duration_s=7200.0)
    assert total.false_alarms_per_24h == 24.0
    assert total.sensitivity == 0.25
    assert math.isnan(Counts(duration_s=10.0).sensitivity)
    assert math.isnan(Counts().false_alarms_per_24h)
