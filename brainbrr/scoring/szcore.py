"""SzCORE scores through ``timescoring`` 0.0.7: samples at 1 Hz, events at 10 Hz with tolerances.

Event rules: gaps under 90 s merged, events over 300 s split, references widened by 30 s before and 60 s after, any
overlap a hit.
"""

from typing import Any

import numpy as np
from timescoring.annotations import Annotation
from timescoring.scoring import EventScoring, SampleScoring

from brainbrr.scoring.intervals import Intervals
from brainbrr.scoring.nedc import Counts

SAMPLE_RATE_HZ = 1
EVENT_RATE_HZ = 10


def samples(references: Intervals, events: Intervals, duration_s: float) -> Counts:
    """Count samples at 1 Hz. A recording under half a second has none."""
    n_samples = round(duration_s * EVENT_RATE_HZ)
    if round(n_samples / EVENT_RATE_HZ) == 0:
        return Counts(duration_s=duration_s)
    scores = SampleScoring(_annotation(references, n_samples), _annotation(events, n_samples), fs=SAMPLE_RATE_HZ)
    hits = int(scores.tp)
    return Counts(hits, int(scores.refTrue) - hits, int(scores.fp), duration_s)


def events(references: Intervals, found: Intervals, duration_s: float) -> Counts:
    """Count events at 10 Hz. A recording under a twentieth of a second has none."""
    n_samples = round(duration_s * EVENT_RATE_HZ)
    if n_samples == 0:
        return Counts(duration_s=duration_s)
    scores = EventScoring(_annotation(references, n_samples), _annotation(found, n_samples))
    return Counts(int(scores.tp), int(scores.refTrue) - int(scores.tp), int(scores.fp), duration_s)


def _annotation(intervals: Intervals, n_samples: int) -> Any:
    # An event between two samples of the grid would be a false alarm even inside a reference.
    seen = np.round(intervals[:, 1] * EVENT_RATE_HZ) > np.round(intervals[:, 0] * EVENT_RATE_HZ)
    return Annotation([(float(onset), float(offset)) for onset, offset in intervals[seen]], EVENT_RATE_HZ, n_samples)
