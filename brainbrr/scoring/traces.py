"""Window probabilities stitched to one trace per recording.

Shape suffix N: samples of a recording, of its trace, or of a window.
"""

import functools
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainbrr.errors import DataError, NonFiniteError
from brainbrr.scoring.intervals import Interval, Intervals, to_intervals, to_mask

Split = Literal["train", "dev", "eval"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Trace:
    """Seizure probabilities along one recording.

    ``probability_N`` is float32, NaN where ``valid_N`` is false: there no window had anything to say. ``duration_s``
    is that of the recording. ``references`` are its annotated seizures, None where nobody annotated it.
    """

    key: str
    rate_hz: float
    duration_s: float
    probability_N: NDArray[np.float32]
    valid_N: NDArray[np.bool_]
    references: Intervals | None = None
    block: int = 1
    """Samples of the model in one of the trace."""

    @property
    def label_N(self) -> NDArray[np.bool_]:
        """The samples that hold at least one of the model's that is seizure."""
        return to_mask(self.annotated(), self.rate_hz * self.block, len(self.probability_N), self.block)

    def annotated(self) -> Intervals:
        """Return the reference seizures.

        Raises:
            DataError: nobody annotated the recording.
        """
        if self.references is None:
            raise DataError("scores need the recording's annotation, and it has none", where=self.key)
        return self.references

    @functools.cached_property
    def peak(self) -> np.float32:
        """The highest probability, 0 where no window said anything."""
        return np.float32(np.fmax.reduce(self.probability_N, initial=0))

    @property
    def uncovered_s(self) -> float:
        """Seconds about which no window said anything."""
        return float(np.count_nonzero(~self.valid_N)) / self.rate_hz


class Stitcher:
    """Add a recording's windows in any order, overlapping or not, then take its :class:`Trace`.

    A sample of the trace is the mean over a whole block of the model's samples, of all windows that hold them; the
    block is the largest that keeps the trace's rate at or above ``trace_rate_hz``. Memory grows with the trace, so
    that a day of recording takes 22 MB at 16 Hz.
    """

    def __init__(
        self,
        key: str,
        *,
        rate_hz: float,
        n_samples: int,
        trace_rate_hz: float = math.inf,
        references: Iterable[Interval] | None = None,
    ) -> None:
        if n_samples < 1:
            raise DataError("the recording has no samples", where=key, got=n_samples)
        self.key = key
        self.rate_hz = rate_hz
        self.duration_s = n_samples / rate_hz
        self.factor = max(1, math.floor(rate_hz / trace_rate_hz + 1e-9))
        self.references = None if references is None else to_intervals(references, self.duration_s)
        self.n_samples = n_samples
        self._sum_N = np.zeros(-(-n_samples // self.factor), dtype=np.float64)
        self._count_N = np.zeros(len(self._sum_N), dtype=np.int64)

    def add(self, start: int, probability_N: ArrayLike, valid_N: ArrayLike | None = None) -> None:
        """Add one window whose first sample is the recording's sample ``start``.

        Samples with ``valid_N`` false (padding) are ignored, and so is what hangs over the recording's ends.

        Raises:
            NonFiniteError: a valid probability is not finite.
            DataError: a valid probability lies outside [0, 1], shapes differ, or the window misses the recording.
        """
        probability_N = np.asarray(probability_N)
        valid_N = np.ones(probability_N.shape, dtype=np.bool_) if valid_N is None else np.asarray(valid_N)
        where = f"{self.key}, window at sample {start}"
        if probability_N.ndim != 1 or probability_N.shape != valid_N.shape or valid_N.dtype != np.bool_:
            got = f"{probability_N.shape} and {valid_N.dtype} {valid_N.shape}"
            raise DataError("wrong shapes of probability and valid", where=where, got=got, expected="(N,), bool (N,)")
        skip = max(0, -start)
        first, last = start + skip, min(start + len(probability_N), self.n_samples)
        if first >= last:
            raise DataError("the window lies outside the recording", where=where, expected=f"0..{self.n_samples}")
        inside = slice(skip, skip + last - first)
        keep = valid_N[inside]
        values = np.where(keep, probability_N[inside], 0.0)
        if not np.isfinite(values).all():
            raise NonFiniteError("a probability is not finite", where=where)
        if values.min() < 0 or values.max() > 1:
            got = f"{values.min():.6g}..{values.max():.6g}"
            raise DataError("not probabilities", where=where, got=got, expected="0..1", hint="Apply the sigmoid first")
        blocks = np.arange(first // self.factor, (last - 1) // self.factor + 1)
        edges = np.maximum(blocks * self.factor, first) - first
        self._sum_N[blocks] += np.add.reduceat(values, edges, dtype=np.float64)
        self._count_N[blocks] += np.add.reduceat(keep, edges, dtype=np.int64)

    def trace(self) -> Trace:
        """Return what the windows said so far."""
        valid_N = self._count_N > 0
        mean_N = self._sum_N / np.maximum(self._count_N, 1)
        return Trace(
            key=self.key,
            rate_hz=self.rate_hz / self.factor,
            duration_s=self.duration_s,
            probability_N=np.where(valid_N, mean_N, np.nan).astype(np.float32),
            valid_N=valid_N,
            references=self.references,
            block=self.factor,
        )


@dataclass(frozen=True, eq=False)
class Traces:
    """The traces of one split. The split travels with them: thresholds are searched on ``dev`` and nowhere else."""

    split: Split
    traces: tuple[Trace, ...]

    def __post_init__(self) -> None:
        keys = [trace.key for trace in self.traces]
        twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
        if twice:
            raise DataError("recordings stitched twice", where=self.split, got=", ".join(twice))
        gaps = [trace for trace in self.traces if not trace.valid_N.all()]
        if gaps:
            first = ", ".join(trace.key for trace in gaps[:3]) + (", ..." if len(gaps) > 3 else "")
            seconds = sum(trace.uncovered_s for trace in gaps)
            logger.warning("%.1f s of %d recordings in no window: %s", seconds, len(gaps), first)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)

    def __len__(self) -> int:
        return len(self.traces)

    @property
    def duration_s(self) -> float:
        """Recorded seconds, each counted once."""
        return math.fsum(trace.duration_s for trace in self.traces)

    def samples(self) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return labels and probabilities of all valid samples, joined."""
        labels = [trace.label_N[trace.valid_N] for trace in self.traces]
        values = [trace.probability_N[trace.valid_N] for trace in self.traces]
        return (
            np.concatenate(labels) if labels else np.zeros(0, np.bool_),
            np.concatenate(values) if values else np.zeros(0, np.float32),
        )
