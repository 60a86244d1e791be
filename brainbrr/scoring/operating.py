"""Sensitivity against false alarms per 24 h, and the thresholds that keep to a budget of false alarms.

Thresholds are searched on ``dev``: :func:`search_thresholds` refuses the traces of another split, and the operating
points it returns are the only way to a sensitivity at a budget on ``eval``.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainbrr.config.scoring import Scoring
from brainbrr.errors import BrainbrrError
from brainbrr.scoring import nedc, szcore
from brainbrr.scoring.intervals import Intervals, to_intervals
from brainbrr.scoring.nedc import Counts
from brainbrr.scoring.postprocessing import find_events
from brainbrr.scoring.score import Score
from brainbrr.scoring.traces import Split, Trace, Traces

Counter = Callable[[Intervals, Intervals, float], Counts]
COUNTERS: Mapping[str, Counter] = {
    "OVLP": nedc.ovlp,
    "TAES": nedc.taes,
    "EPOCH": nedc.epoch,
    "SzCORE events": szcore.events,
    "SzCORE samples": szcore.samples,
}

PEAK_S = 30.0


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold that kept to ``budget`` false alarms per 24 h on dev at the highest sensitivity, and both there."""

    budget: float
    on_threshold: float
    off_threshold: float
    sensitivity: float
    false_alarms_per_24h: float


@dataclass(frozen=True)
class OperatingPoints:
    """What a threshold search on dev found; ``reason`` says why it found nothing.

    ``scoring`` holds the rules it was found with: thresholds mean nothing under other ones.
    """

    scoring: Scoring
    points: tuple[OperatingPoint, ...]
    reason: str | None = None

    @property
    def scorer(self) -> str:
        """Whose hits and false alarms were counted."""
        return self.scoring.curve_scorer

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON or a checkpoint."""
        points = [dict(vars(point)) for point in self.points]
        rules = self.scoring.model_dump(mode="json")
        return {"split": "dev", "scorer": self.scorer, "reason": self.reason, "points": points, "scoring": rules}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "OperatingPoints":
        """Read what :meth:`to_dict` returned.

        Raises:
            BrainbrrError: they were not found on dev.
            KeyError, TypeError, ValueError: they are no operating points.
        """
        if plain.get("split") != "dev":
            _refuse(plain.get("split"))
        points = tuple(OperatingPoint(**point) for point in plain["points"])
        return cls(Scoring.model_validate(plain["scoring"]), points, plain["reason"])


@dataclass(frozen=True, eq=False)
class Curve:
    """Sensitivity and false alarms per 24 h at each threshold, rising; one entry of ``counts`` per threshold."""

    split: Split
    scorer: str
    thresholds: NDArray[np.float64]
    counts: tuple[Counts, ...]

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Share of seizures found at each threshold, NaN without seizures."""
        return np.array([counts.sensitivity for counts in self.counts])

    @property
    def false_alarms_per_24h(self) -> NDArray[np.float64]:
        """False alarms per 24 h of recording at each threshold."""
        return np.array([counts.false_alarms_per_24h for counts in self.counts])


def with_threshold(scoring: Scoring, on: float) -> Scoring:
    """Return the section with another threshold, hysteresis in proportion."""
    off = on * scoring.off_threshold / scoring.on_threshold
    return scoring.model_copy(update={"on_threshold": on, "off_threshold": off})


def count(traces: Iterable[Trace], scoring: Scoring, scorer: str) -> Counts:
    """Count hits, misses and false alarms of the events that ``scoring`` makes of the traces."""
    total = Counts()
    for trace in traces:
        # Most recordings are silent at most thresholds: this is what makes a search quick.
        events = find_events(trace, scoring) if trace.peak >= scoring.on_threshold else ()
        total += COUNTERS[scorer](trace.annotated(), to_intervals(events, trace.duration_s), trace.duration_s)
    return total


def draw_curve(traces: Traces, scoring: Scoring) -> Curve:
    """Count hits and false alarms at many thresholds, densest where false alarms are few.

    Budgets of a few false alarms a day are decided among the highest of some thousand peaks a day: thresholds lie at
    peaks whose ranks grow geometrically, and between two of them the rank at which a budget is first exceeded is
    bisected.
    """
    levels = _levels(traces)
    counts: dict[int, Counts] = {}

    def try_rank(rank: int) -> None:
        counts[rank] = count(traces, with_threshold(scoring, float(levels[rank])), scoring.curve_scorer)

    if len(levels):
        for rank in np.unique(np.geomspace(1, len(levels), scoring.n_thresholds).round().astype(int)):
            try_rank(int(rank) - 1)
        for budget in scoring.false_alarms_per_24h:
            while (between := _rank_to_try(counts, budget)) is not None:
                try_rank(between)
    ranks = sorted(counts, reverse=True)
    return Curve(traces.split, scoring.curve_scorer, levels[ranks], tuple(counts[rank] for rank in ranks))


def _rank_to_try(counts: Mapping[int, Counts], budget: float) -> int | None:
    """Return the rank halfway between the last within the budget and the first beyond it, None when they are next."""
    within = 0
    for rank in sorted(counts):
        if counts[rank].false_alarms_per_24h > budget:
            return (within + rank) // 2 if rank - within > 1 else None
        within = rank
    return None


def _levels(traces: Traces) -> NDArray[np.float64]:
    """Return, falling, the highest probability of every 30 s, for only there events appear; first one above all."""
    peaks = [np.zeros(0, dtype=np.float32)]
    for trace in traces:
        probability_N = np.where(trace.valid_N, trace.probability_N, 0)
        starts = np.arange(0, len(probability_N), max(1, round(PEAK_S * trace.rate_hz)))
        peaks.append(np.maximum.reduceat(probability_N, starts))
    pooled = np.unique(np.concatenate(peaks))
    pooled = pooled[pooled > 0]
    silent = np.nextafter(pooled[-1:], np.float32(np.inf))
    return np.concatenate((silent, pooled[::-1])).astype(np.float64)


def search_thresholds(dev: Traces, scoring: Scoring) -> OperatingPoints:
    """Find, for each budget of false alarms, the threshold with the highest sensitivity on dev.

    Raises:
        BrainbrrError: the traces are not those of dev.
    """
    if dev.split != "dev":
        _refuse(dev.split)
    return choose_points(draw_curve(dev, scoring), scoring)


def choose_points(curve: Curve, scoring: Scoring) -> OperatingPoints:
    """Choose from a curve of dev what :func:`search_thresholds` would find."""
    if curve.split != "dev":
        _refuse(curve.split)
    sensitivity, alarms = curve.sensitivity, curve.false_alarms_per_24h
    if not len(sensitivity) or math.isnan(sensitivity[0]):
        return OperatingPoints(scoring, (), "no reference seizure on dev")
    points = []
    # False alarms fall again when the threshold gets so low that they all merge into one event that never stops, and
    # any overlap with it is a hit: a threshold counts only if all higher ones keep to the budget too.
    worst = np.maximum.accumulate(alarms[::-1])[::-1]
    for budget in scoring.false_alarms_per_24h:
        within = np.flatnonzero(worst <= budget)
        # Of equal sensitivities the highest threshold.
        best = max(within, key=lambda i: (sensitivity[i], i))
        chosen = with_threshold(scoring, float(curve.thresholds[best]))
        points.append(
            OperatingPoint(
                budget, chosen.on_threshold, chosen.off_threshold, float(sensitivity[best]), float(alarms[best])
            )
        )
    return OperatingPoints(scoring, tuple(points))


def _refuse(split: object) -> None:
    raise BrainbrrError(
        "thresholds are searched on dev only",
        got=f"the split {split!r}",
        hint="Search on dev, and score this split at the operating points found there",
    )


def budget_scores(traces: Traces, scoring: Scoring, points: OperatingPoints | None) -> list[Score]:
    """Return the sensitivity at each budget of ``scoring``, at the thresholds found on dev and by their rules.

    The counts hold the false alarms per 24 h that this threshold made here: on eval they may exceed the budget.
    """
    scores = []
    for budget in scoring.false_alarms_per_24h:
        name = budget_name(budget)
        point = None if points is None else next((p for p in points.points if p.budget == budget), None)
        rules = scoring if points is None else points.scoring
        if point is None:
            missing = (points and points.reason) or "no threshold from dev for this budget"
            scores.append(Score(name, rules.curve_scorer, math.nan, missing, {"hours": traces.duration_s / 3600}))
            continue
        chosen = rules.model_copy(update={"on_threshold": point.on_threshold, "off_threshold": point.off_threshold})
        total = count(traces, chosen, rules.curve_scorer)
        counts = count_items(total) | {
            "threshold": point.on_threshold,
            "false alarms per 24 h": total.false_alarms_per_24h,
        }
        reason = None if total.hits + total.misses else "no reference seizure"
        scores.append(Score(name, rules.curve_scorer, total.sensitivity, reason, counts))
    return scores


def budget_name(budget: float) -> str:
    """Return the name of the sensitivity at a budget."""
    return f"sensitivity at {budget:g} FA/24 h"


def count_items(total: Counts) -> dict[str, float]:
    """Return counts as they are printed beside a score."""
    return {
        "hits": total.hits,
        "misses": total.misses,
        "false alarms": total.false_alarms,
        "hours": total.duration_s / 3600,
    }
