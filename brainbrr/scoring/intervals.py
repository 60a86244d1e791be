"""Intervals of a recording's time: half-open ``[onset_s, offset_s)``, in seconds from its start."""

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from brainbrr.errors import DataError

Intervals = NDArray[np.float64]
"""Sorted, disjoint, not touching: shape (K, 2), columns onset and offset in seconds."""


class Interval(Protocol):
    """Anything with an onset and an offset: an :class:`Event`, an annotated seizure."""

    @property
    def onset_s(self) -> float:
        """First second of the interval."""
        ...

    @property
    def offset_s(self) -> float:
        """First second after it."""
        ...


class Event(NamedTuple):
    """A detected seizure, ``[onset_s, offset_s)``; ``confidence`` is the highest probability within it."""

    onset_s: float
    offset_s: float
    confidence: float = math.nan


def to_intervals(events: Iterable[Interval], duration_s: float) -> Intervals:
    """Sort and clip events to ``[0, duration_s)``, and merge those that overlap or touch.

    Scorers count wrongly, and silently, on nested or unsorted events, so all of them are fed from here.

    Raises:
        DataError: an onset or offset is not finite, or an offset lies before its onset.
    """
    pairs = np.array([(event.onset_s, event.offset_s) for event in events], dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(pairs).all() or (pairs[:, 1] < pairs[:, 0]).any():
        raise DataError("an event's times are no interval", got=pairs.tolist(), expected="finite onset <= offset")
    pairs = np.clip(pairs, 0.0, duration_s)
    pairs = pairs[pairs[:, 1] > pairs[:, 0]]
    if not len(pairs):
        return pairs
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    reach = np.maximum.accumulate(pairs[:, 1])
    first = np.concatenate(([True], pairs[1:, 0] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.column_stack((pairs[first, 0], reach[last]))


def to_mask(intervals: Intervals, rate_hz: float, n_samples: int, block: int = 1) -> NDArray[np.bool_]:
    """Mark the samples k with onset <= k / rate < offset, then the blocks of ``block`` samples that hold such a one.

    The rule of the windows' labels. Returns ``n_samples`` blocks; ``rate_hz`` is that of the samples.

    >>> to_mask(np.array([[0.5, 1.01]]), 4.0, 6).astype(int).tolist()
    [0, 0, 1, 1, 1, 0]
    >>> to_mask(np.array([[0.5, 1.01]]), 4.0, 3, block=2).astype(int).tolist()
    [0, 1, 1]
    """
    mask = np.zeros(n_samples, dtype=np.bool_)
    # Times in label files have four decimals; what lies nearer to a sample than that is on it.
    edges = np.ceil(np.round(intervals * rate_hz, 3)).astype(np.int64)
    for start, stop in edges[edges[:, 1] > edges[:, 0]]:
        mask[start // block : -(-stop // block)] = True
    return mask
