"""Probabilities to events, offline: hysteresis, opening, closing, duration filter, merging, in this order.

Everything happens on *runs* ``[start, stop)`` of detected samples. On runs, opening with a flat window of n samples
drops those shorter than n, and closing fills gaps shorter than n (not those at the recording's ends).
:mod:`brainbrr.scoring.streaming` does the same sample by sample; a test holds the two equal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainbrr.config.scoring import Scoring
from brainbrr.scoring.intervals import Event
from brainbrr.scoring.traces import Trace


@dataclass(frozen=True)
class Rules:
    """The section ``scoring`` in samples of a trace."""

    on: float
    off: float
    opening: int
    closing: int
    min_duration: int
    merge_gap: int

    @classmethod
    def from_config(cls, scoring: Scoring, rate_hz: float) -> "Rules":
        """Round seconds to whole samples at ``rate_hz``."""
        return cls(
            on=scoring.on_threshold,
            off=scoring.off_threshold,
            opening=round(scoring.opening_s * rate_hz),
            closing=round(scoring.closing_s * rate_hz),
            min_duration=round(scoring.min_duration_s * rate_hz),
            merge_gap=round(scoring.merge_gap_s * rate_hz),
        )


@dataclass(frozen=True)
class Runs:
    """Runs of detected samples, sorted: ``[starts, stops)`` and the highest probability in each."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    peaks: NDArray[np.float32]

    def at_least(self, n_samples: int) -> "Runs":
        """Drop the shorter runs."""
        keep = self.stops - self.starts >= n_samples
        return Runs(self.starts[keep], self.stops[keep], self.peaks[keep])

    def fill_gaps(self, n_samples: int) -> "Runs":
        """Join runs with fewer than ``n_samples`` between them."""
        if len(self.starts) < 2:
            return self
        first = np.concatenate(([True], self.starts[1:] - self.stops[:-1] >= n_samples))
        last = np.concatenate((first[1:], [True]))
        return Runs(self.starts[first], self.stops[last], np.maximum.reduceat(self.peaks, np.flatnonzero(first)))


def detect(probability_N: NDArray[np.float32], on: float, off: float, *, was_on: bool = False) -> NDArray[np.bool_]:
    """Mark the samples of a Schmitt trigger: on at ``>= on``, off at ``< off``, NaN is off, before it ``was_on``.

    >>> detect(np.array([0.3, 0.6, 0.45, 0.3, 0.45], np.float32), on=0.5, off=0.4).astype(int).tolist()
    [0, 1, 1, 0, 0]
    """
    high = probability_N >= on
    decided = high | ~(probability_N >= off)
    latest = np.maximum.accumulate(np.where(decided, np.arange(len(decided)), -1))
    return np.where(latest >= 0, high[latest], was_on) if len(high) else high


def find_runs(probability_N: NDArray[np.float32], rules: Rules) -> Runs:
    """Find the events of a trace, in samples."""
    edges = np.diff(detect(probability_N, rules.on, rules.off).astype(np.int8), prepend=0, append=0)
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return Runs(starts, stops, np.zeros(0, dtype=np.float32))
    bounds = np.column_stack((starts, stops)).ravel()
    # A last stop at the end is no valid index of reduceat, and the last start then reaches to the end by itself.
    bounds = bounds[:-1] if bounds[-1] == len(probability_N) else bounds
    runs = Runs(starts, stops, np.maximum.reduceat(probability_N, bounds)[::2])
    runs = runs.at_least(rules.opening).fill_gaps(rules.closing)
    return runs.at_least(rules.min_duration).fill_gaps(rules.merge_gap)


def find_events(trace: Trace, scoring: Scoring) -> tuple[Event, ...]:
    """Find the seizure events of a recording: sorted, disjoint, ``[onset_s, offset_s)``.

    A trace's last sample may stand for less than its full length: the last offset ends with the recording.
    """
    runs = find_runs(trace.probability_N, Rules.from_config(scoring, trace.rate_hz))
    return tuple(
        Event(float(start / trace.rate_hz), float(min(stop / trace.rate_hz, trace.duration_s)), float(peak))
        for start, stop, peak in zip(runs.starts, runs.stops, runs.peaks, strict=True)
    )
