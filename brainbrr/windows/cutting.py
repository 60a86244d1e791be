"""Where windows start, which samples are seizure, which count: exact arithmetic on sample numbers.

All sample numbers are at the model's rate; all intervals are half-open.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from brainbrr.recordings.types import Seizure

NONE, PARTIAL, FULL = 0, 1, 2
KINDS = ("none", "partial", "full")

Samples = npt.NDArray[np.int64]


def window_starts(n_samples: int, length: int, stride: int) -> Samples:
    """Return the first samples of the windows of a recording, the last window ending with the recording.

    A recording shorter than a window has one window at 0, to be padded.

    >>> window_starts(25, 10, 10).tolist(), window_starts(7, 10, 10).tolist()
    ([0, 10, 15], [0])
    """
    last = max(n_samples - length, 0)
    starts = np.arange(0, last + 1, stride, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def fresh_from(starts: Samples, length: int) -> Samples:
    """Return, for windows that must not count a sample twice, the first offset within each that no earlier one covered.

    >>> fresh_from(np.array([0, 10, 15]), 10).tolist()
    [0, 0, 5]
    """
    fresh = np.zeros(len(starts), np.int64)
    fresh[1:] = np.maximum(starts[:-1] + length - starts[1:], 0)
    return fresh


def seizure_samples(seizures: Sequence[Seizure], rate_hz: float, n_samples: int) -> Samples:
    """Return the intervals (seizures, 2) of the samples k with onset <= k / rate < offset.

    >>> seizure_samples([Seizure(0.5, 1.01)], 10, 100).tolist()
    [[5, 11]]
    """
    # Times in label files have four decimals; what lies nearer to a sample than that is on it.
    edges = [[_first_at(s.onset_s, rate_hz), _first_at(s.offset_s, rate_hz)] for s in seizures]
    return np.clip(np.array(edges, np.int64).reshape(-1, 2), 0, n_samples)


def _first_at(time_s: float, rate_hz: float) -> int:
    return math.ceil(round(time_s * rate_hz, 3))


def overlaps(starts: Samples, stops: Samples, intervals: Samples) -> Samples:
    """Count, for each [start, stop), its samples inside any of the disjoint intervals."""
    counts = np.zeros(len(starts), np.int64)
    for first, last in intervals:
        counts += np.maximum(np.minimum(stops, last) - np.maximum(starts, first), 0)
    return counts


def mask(start: int, length: int, intervals: Samples) -> npt.NDArray[np.float32]:
    """Return the labels (length,) of the window at ``start``: 1 on seizure samples, else 0."""
    labels = np.zeros(length, np.float32)
    for first, last in intervals:
        labels[max(first - start, 0) : max(last - start, 0)] = 1.0
    return labels
