"""Probabilities to events as they come: the same events as offline, each as soon as nothing can change it any more."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from brainbrr.config.scoring import Scoring
from brainbrr.errors import DataError
from brainbrr.scoring.intervals import Event
from brainbrr.scoring.postprocessing import Rules, detect


class _Run(NamedTuple):
    start: int
    stop: int
    peak: np.float32


class _Joiner:
    """Drop short runs, then join near ones: two of these in a row are the whole post-processing."""

    def __init__(self, min_length: int, gap: int) -> None:
        self.min_length = min_length
        self.gap = gap
        self.pending: _Run | None = None

    def push(self, runs: list[_Run], horizon: int) -> list[_Run]:
        """Take finished runs; ``horizon`` is the earliest start of any later one. Return runs that are final."""
        final = []
        for run in runs:
            if run.stop - run.start < self.min_length:
                continue
            if self.pending is not None and run.start - self.pending.stop < self.gap:
                self.pending = _Run(self.pending.start, run.stop, max(self.pending.peak, run.peak))
                continue
            if self.pending is not None:
                final.append(self.pending)
            self.pending = run
        if self.pending is not None and horizon - self.pending.stop >= self.gap:
            final.append(self.pending)
            self.pending = None
        return final

    def horizon(self, horizon: int) -> int:
        """Return the earliest start of any later run that leaves here."""
        return horizon if self.pending is None else self.pending.start


class EventStream:
    """Post-process a trace that arrives in pieces.

    Push pieces of any length, then :meth:`finish`: the events returned on the way are, in order, those that
    :func:`~brainbrr.scoring.postprocessing.find_events` returns for the whole trace.
    """

    def __init__(self, scoring: Scoring, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._rules = Rules.from_config(scoring, rate_hz)
        self._seen = 0
        self._open: _Run | None = None
        self._morphology = _Joiner(self._rules.opening, self._rules.closing)
        self._merging = _Joiner(self._rules.min_duration, self._rules.merge_gap)
        self._finished = False

    @property
    def detecting(self) -> bool:
        """Whether the last sample was above the hysteresis thresholds: the earliest sign of a seizure."""
        return self._open is not None

    def push(self, probability_N: ArrayLike) -> list[Event]:
        """Take the next samples (NaN where there are none) and return the events that became final."""
        if self._finished:
            raise DataError("the stream is finished", hint="Open a new one for another recording")
        return self._advance(np.asarray(probability_N, dtype=np.float32), last=False)

    def finish(self, duration_s: float = math.inf) -> list[Event]:
        """Return the remaining events; the recording ended at ``duration_s``, inside the last sample."""
        if self._finished:
            raise DataError("the stream is finished", hint="Open a new one for another recording")
        self._finished = True
        events = self._advance(np.zeros(0, dtype=np.float32), last=True)
        return [event._replace(offset_s=min(event.offset_s, duration_s)) for event in events]

    def _advance(self, probability_N: np.ndarray[tuple[int], np.dtype[np.float32]], *, last: bool) -> list[Event]:
        runs = self._take(probability_N, last=last)
        horizon = self._seen if self._open is None else self._open.start
        # At the end no later run comes: everything pending is final.
        horizon = horizon if not last else self._seen + self._rules.closing + self._rules.merge_gap
        runs = self._morphology.push(runs, horizon)
        runs = self._merging.push(runs, self._morphology.horizon(horizon))
        return [Event(run.start / self.rate_hz, run.stop / self.rate_hz, float(run.peak)) for run in runs]

    def _take(self, probability_N: np.ndarray[tuple[int], np.dtype[np.float32]], *, last: bool) -> list[_Run]:
        """Return the runs of the trigger that ended within these samples, and keep the one that did not."""
        was_on = self._open is not None
        on_N = detect(probability_N, self._rules.on, self._rules.off, was_on=was_on)
        edges = np.diff(on_N.astype(np.int8), prepend=0, append=0)
        runs = []
        for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            run = _Run(self._seen + int(start), self._seen + int(stop), probability_N[start:stop].max())
            if start == 0 and self._open is not None:
                run = _Run(self._open.start, run.stop, max(self._open.peak, run.peak))
                self._open = None
            if self._open is not None:
                runs.append(self._open)
            self._open = run
        self._seen += len(probability_N)
        if self._open is not None and (last or self._open.stop < self._seen):
            runs.append(self._open)
            self._open = None
        return runs
