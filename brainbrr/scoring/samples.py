"""Scores of single samples: AUROC, AUPRC, calibration.

Twice: :class:`SampleTally` for validation during training, and functions on whole traces for reports. Importing
scikit-learn takes 0.6 s, which every smoke run would pay; and ranks cannot be summed over processes, tallies can.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainbrr.errors import NonFiniteError
from brainbrr.scoring.score import Score

TALLY_LIMIT = 24.0
TALLY_BINS = 2**16


class SampleTally:
    """Count positive and negative samples in bins of the logit; memory and merging cost do not grow with the data.

    65,536 bins over logits in [-24, 24]: samples closer than 0.0007 count as ties, and beyond the limits all are
    equal. Sum ``counts`` over processes (int64, shape (2, 65536): negatives, positives) to score all of them.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((2, TALLY_BINS), dtype=np.int64)

    def add(self, logit: ArrayLike, label: ArrayLike, valid: ArrayLike | None = None) -> None:
        """Count samples; any shape, the same for all three. ``label`` is positive from 0.5.

        Raises:
            NonFiniteError: a valid logit is not finite.
        """
        logit = np.asarray(logit, dtype=np.float32)
        positive = np.asarray(label) >= 0.5
        if valid is not None:
            keep = np.asarray(valid, dtype=np.bool_)
            logit, positive = logit[keep], positive[keep]
        if not np.isfinite(logit).all():
            raise NonFiniteError("a logit is not finite", where="validation", got=f"{_count_bad(logit)} samples")
        scale = TALLY_BINS / (2 * TALLY_LIMIT)
        bins = np.clip((logit.astype(np.float64) + TALLY_LIMIT) * scale, 0, TALLY_BINS - 1).astype(np.int64)
        cells = (bins + TALLY_BINS * positive).ravel()
        self.counts += np.bincount(cells, minlength=2 * TALLY_BINS).reshape(2, TALLY_BINS)

    def scores(self) -> tuple[Score, Score]:
        """Return AUROC and AUPRC, with the scorer ``tally``."""
        negatives, positives = self.counts
        counts = {"positive": int(positives.sum()), "negative": int(negatives.sum())}
        reason = _one_class(counts)
        if reason:
            return Score("AUROC", "tally", math.nan, reason, counts), Score("AUPRC", "tally", math.nan, reason, counts)
        below = np.cumsum(negatives) - negatives
        auroc = float(positives @ (below + negatives / 2)) / (counts["positive"] * counts["negative"])
        found = np.cumsum(positives[::-1])
        alarms = np.cumsum(negatives[::-1])
        precision = found / np.maximum(found + alarms, 1)
        auprc = float(precision @ positives[::-1]) / counts["positive"]
        return Score("AUROC", "tally", auroc, None, counts), Score("AUPRC", "tally", auprc, None, counts)


def _count_bad(values: NDArray[np.float32]) -> int:
    return int(np.count_nonzero(~np.isfinite(values)))


def _one_class(counts: Mapping[str, float]) -> str | None:
    missing = " and ".join(name for name in ("positive", "negative") if not counts[name])
    return f"no {missing} sample" if missing else None


def rank_scores(label_N: NDArray[np.bool_], probability_N: NDArray[np.float32]) -> tuple[Score, Score]:
    """Return AUROC and AUPRC (average precision) of samples, by scikit-learn."""
    counts = {"positive": int(label_N.sum()), "negative": int((~label_N).sum())}
    reason = _one_class(counts)
    values = (math.nan, math.nan)
    if reason is None:
        from sklearn.metrics import average_precision_score, roc_auc_score

        values = float(roc_auc_score(label_N, probability_N)), float(average_precision_score(label_N, probability_N))
    return (
        Score("AUROC", "scikit-learn", values[0], reason, counts),
        Score("AUPRC", "scikit-learn", values[1], reason, counts),
    )


Binning = Literal["uniform", "adaptive"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Mean probability and share of positives in each bin that holds samples."""

    binning: Binning
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]
    counts: NDArray[np.int64]

    def error(self) -> Score:
        """Return the expected calibration error: the gap of each bin, weighted by its samples."""
        scorer = f"ECE, {self.binning} bins"
        n = int(self.counts.sum())
        counts = {"samples": n, "bins": len(self.counts)}
        if not n:
            return Score("calibration error", scorer, math.nan, "no sample", counts)
        gap = float(self.counts @ np.abs(self.confidence - self.frequency)) / n
        return Score("calibration error", scorer, gap, None, counts)


def reliability(
    label_N: NDArray[np.bool_], probability_N: NDArray[np.float32], bins: int, binning: Binning = "uniform"
) -> Reliability:
    """Compare probabilities with what happened, in ``bins`` of equal width or of equally many samples."""
    if binning == "uniform":
        index = np.minimum((probability_N.astype(np.float64) * bins).astype(np.int64), bins - 1)
    else:
        edges = np.quantile(probability_N, np.arange(1, bins) / bins) if len(probability_N) else np.zeros(0)
        index = np.searchsorted(edges, probability_N, side="right")
    counts = np.bincount(index, minlength=bins)
    held = counts > 0
    confidence = np.bincount(index, weights=probability_N, minlength=bins)
    frequency = np.bincount(index, weights=label_N, minlength=bins)
    counts = counts[held]
    return Reliability(binning, confidence[held] / counts, frequency[held] / counts, counts)
