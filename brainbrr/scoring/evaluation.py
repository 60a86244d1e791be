"""All scores of a split, as ``evaluate`` reports them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from brainbrr.config.scoring import Scoring
from brainbrr.scoring import nedc, samples, szcore
from brainbrr.scoring.intervals import Event, to_intervals
from brainbrr.scoring.nedc import Counts
from brainbrr.scoring.operating import (
    COUNTERS,
    Curve,
    OperatingPoints,
    budget_scores,
    choose_points,
    count_items,
    draw_curve,
)
from brainbrr.scoring.postprocessing import find_events
from brainbrr.scoring.score import Score, ratio
from brainbrr.scoring.traces import Split, Traces


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a split, and what its plots are drawn from.

    ``points`` are the operating points used; on dev they were searched on these very traces, so that the
    sensitivities at a budget are optimistic there.
    """

    split: Split
    scores: tuple[Score, ...]
    events: Mapping[str, tuple[Event, ...]]
    points: OperatingPoints | None
    curve: Curve
    reliability: samples.Reliability
    n_recordings: int
    duration_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: NaN is None, with the reason beside it."""
        return {
            "split": self.split,
            "recordings": self.n_recordings,
            "hours": self.duration_s / 3600,
            "scores": [score_to_dict(score) for score in self.scores],
            "operating_points": None if self.points is None else self.points.to_dict(),
            "curve": {
                "scorer": self.curve.scorer,
                "threshold": self.curve.thresholds.tolist(),
                "sensitivity": [_number(value) for value in self.curve.sensitivity],
                "false_alarms_per_24h": [_number(value) for value in self.curve.false_alarms_per_24h],
            },
            "reliability": {
                "binning": self.reliability.binning,
                "confidence": self.reliability.confidence.tolist(),
                "frequency": self.reliability.frequency.tolist(),
                "samples": self.reliability.counts.tolist(),
            },
            "events": {key: [list(event) for event in events] for key, events in self.events.items()},
        }


def evaluate_traces(traces: Traces, scoring: Scoring, points: OperatingPoints | None = None) -> Evaluation:
    """Score a split.

    Args:
        traces: one per recording, all annotated.
        scoring: thresholds and rules; event scores use its ``on_threshold`` and ``off_threshold``.
        points: what :func:`~brainbrr.scoring.operating.search_thresholds` found on dev. On dev itself they are
            searched here; without them, the sensitivities at a budget are undefined.
    """
    label_N, probability_N = traces.samples()
    reliability = samples.reliability(label_N, probability_N, scoring.calibration_bins, scoring.calibration_binning)
    curve = draw_curve(traces, scoring)
    if points is None and traces.split == "dev":
        points = choose_points(curve, scoring)
    events = {trace.key: find_events(trace, scoring) for trace in traces}
    scores = [*samples.rank_scores(label_N, probability_N), reliability.error()]
    scores += budget_scores(traces, scoring, points)
    for scorer, counter in COUNTERS.items():
        parts = (
            counter(trace.annotated(), to_intervals(events[trace.key], trace.duration_s), trace.duration_s)
            for trace in traces
        )
        scores += _detection_scores(scorer, sum(parts, start=Counts()))
    return Evaluation(traces.split, tuple(scores), events, points, curve, reliability, len(traces), traces.duration_s)


def _detection_scores(scorer: str, total: Counts) -> Iterable[Score]:
    hits, misses, alarms = total.hits, total.misses, total.false_alarms
    counts = count_items(total)
    yield ratio("sensitivity", scorer, hits, hits + misses, reason="no reference seizure", counts=counts)
    yield ratio("precision", scorer, hits, hits + alarms, reason="no event found", counts=counts)
    reason = "neither reference seizures nor events"
    yield ratio("F1", scorer, 2 * hits, 2 * hits + alarms + misses, reason=reason, counts=counts)
    days = total.duration_s / 86_400
    # A false alarm of the scorers by samples is a sample: its rate is a time, not a number of alarms.
    name = "false alarm seconds per 24 h" if scorer in SAMPLE_S else "false alarms per 24 h"
    yield ratio(name, scorer, alarms * SAMPLE_S.get(scorer, 1.0), days, reason="no recording", counts=counts)


SAMPLE_S = {"EPOCH": nedc.EPOCH_S, "SzCORE samples": 1 / szcore.SAMPLE_RATE_HZ}


def score_to_dict(score: Score) -> dict[str, Any]:
    """Return a score as plain data for JSON."""
    return {
        "name": score.name,
        "scorer": score.scorer,
        "value": _number(score.value),
        "reason": score.reason,
        "counts": {name: _number(value) for name, value in score.counts.items()},
    }


def _number(value: float) -> float | int | None:
    """Return a Python number, None for NaN (JSON has none)."""
    value = value.item() if hasattr(value, "item") else value
    return None if math.isnan(value) else value
