"""NEDC scores of the seizure class: OVLP, TAES and EPOCH.

Own code after the definitions in Shah et al., "Objective evaluation metrics for automatic classification of EEG
events" (2021), and the behavior of nedc_eeg_eval 6.0. One difference: NEDC's TAES takes events within a second of
each other for overlapping (it compares whole seconds), which gives negative hits; here overlap means overlap.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainbrr.scoring.intervals import Intervals

EPOCH_S = 0.25


@dataclass(frozen=True)
class Counts:
    """Hits, misses and false alarms in ``duration_s`` of recording: events, fractions of them (TAES) or samples."""

    hits: float = 0.0
    misses: float = 0.0
    false_alarms: float = 0.0
    duration_s: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.misses + other.misses,
            self.false_alarms + other.false_alarms,
            self.duration_s + other.duration_s,
        )

    @property
    def false_alarms_per_24h(self) -> float:
        """False alarms in 24 h of recording, NaN without any recording."""
        return self.false_alarms * 86_400 / self.duration_s if self.duration_s else math.nan

    @property
    def sensitivity(self) -> float:
        """Share of the references that was hit, NaN without references."""
        total = self.hits + self.misses
        return self.hits / total if total else math.nan


def ovlp(references: Intervals, events: Intervals, duration_s: float) -> Counts:
    """Count by any overlap: no tolerance, no merging.

    A reference that any event overlaps is a hit; an event that overlaps no reference is a false alarm.
    """
    hits = int(_overlapped(references, events).sum())
    return Counts(hits, len(references) - hits, int((~_overlapped(events, references)).sum()), duration_s)


def _overlapped(these: Intervals, others: Intervals) -> NDArray[np.bool_]:
    """Say which of ``these`` overlap any of ``others`` (both sorted and disjoint)."""
    ending_later = np.searchsorted(others[:, 1], these[:, 0], side="right")
    starting_earlier = np.searchsorted(others[:, 0], these[:, 1], side="left")
    return np.asarray(starting_earlier > ending_later)


def taes(references: Intervals, events: Intervals, duration_s: float) -> Counts:
    """Count by time-aligned event scoring, in fractions of the reference's duration.

    An event adds the covered fraction to the hits of the reference and what sticks out of it, at most 1, to the
    false alarms; the reference's miss is 1 minus its hits. An event that reaches over several references scores the
    first only, and the others are misses. Events without any reference are one false alarm each.
    """
    hits = misses = false_alarms = 0.0
    free_references = np.ones(len(references), dtype=np.bool_)
    free_events = np.ones(len(events), dtype=np.bool_)
    for i, (onset, offset) in enumerate(references.tolist()):
        if not free_references[i]:
            continue
        touching = np.flatnonzero(free_events & (events[:, 0] < offset) & (events[:, 1] > onset))
        if not len(touching):
            continue
        free_references[i] = False
        hit = 0.0
        for j in touching:
            free_events[j] = False
            start, stop = events[j].tolist()
            hit += (min(stop, offset) - max(start, onset)) / (offset - onset)
            outside = max(0.0, onset - start) + max(0.0, stop - offset)
            false_alarms += min(1.0, outside / (offset - onset))
        hits += hit
        misses += 1.0 - hit
        # Only the first event to touch this reference takes further ones along, as in NEDC. (One that ends within this
        # reference reaches no further one.)
        spanned = free_references & (references[:, 0] < events[touching[0], 1])
        spanned &= references[:, 1] > events[touching[0], 0]
        free_references[spanned] = False
        misses += float(spanned.sum())
    misses += float(free_references.sum())
    false_alarms += float(free_events.sum())
    return Counts(hits, misses, false_alarms, duration_s)


def epoch(references: Intervals, events: Intervals, duration_s: float) -> Counts:
    """Count epochs of 0.25 s, each labelled by what holds at its middle.

    The last epoch counts when its middle lies within the recording.
    """
    middles = np.arange(EPOCH_S / 2, duration_s, EPOCH_S)
    truth, found = _holds(references, middles), _holds(events, middles)
    return Counts(int((truth & found).sum()), int((truth & ~found).sum()), int((~truth & found).sum()), duration_s)


def _holds(intervals: Intervals, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    started = np.searchsorted(intervals[:, 0], times, side="right")
    stopped = np.searchsorted(intervals[:, 1], times, side="right")
    return np.asarray(started > stopped)
