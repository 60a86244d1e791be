"""Pictures of an evaluation and of a recording, as PNG, drawn without a display and without touching pyplot."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from brainbrr.config.scoring import Scoring
from brainbrr.scoring.evaluation import Evaluation
from brainbrr.scoring.intervals import Event
from brainbrr.scoring.operating import budget_name
from brainbrr.scoring.traces import Trace
from brainbrr.scoring.writers import write_bytes

BLUE, RED, GRAY = "#2166ac", "#b2182b", "#777777"
# More points than a screen has pixels only cost time.
MOST_POINTS = 4000


def plot_curve(path: str | Path, evaluation: Evaluation, note: str = "") -> Path:
    """Draw sensitivity against false alarms per 24 h, with the operating points found on dev as they do here."""
    curve = evaluation.curve
    alarms, sensitivity = curve.false_alarms_per_24h, curve.sensitivity
    figure, (axes,) = _open(f"Sensitivity against false alarms, {evaluation.split}", evaluation, note)
    if not len(sensitivity) or np.isnan(sensitivity).all():
        _say(axes, "undefined: no reference seizure")
        return _save(figure, path)
    # What a budget buys, by the rule of the search: from the highest threshold down.
    x, y = np.maximum.accumulate(alarms[::-1]), np.maximum.accumulate(sensitivity[::-1])
    axes.step(x, y, where="post", color=BLUE, lw=1.8, label="best within a budget")
    axes.plot(alarms, sensitivity, ".", color=BLUE, alpha=0.4, ms=5, label=f"{len(alarms)} thresholds")
    for point, budgets in _budget_points(evaluation).items():
        axes.plot(*point, "o", color=RED, ms=6, zorder=3, clip_on=False)
        text = ", ".join(f"{budget:g}" for budget in budgets)
        axes.annotate(text, point, (6, -12), textcoords="offset points", color=RED, fontsize=8)
    axes.plot([], [], "o", color=RED, ms=6, label="at budgets (FA/24 h), threshold from dev")
    axes.set_xscale("symlog", linthresh=1.0)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_xlim(0, max(24.0, float(alarms.max()) * 1.1))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"false alarms per 24 h of recording ({curve.scorer}; linear below 1)")
    axes.set_ylabel(f"sensitivity ({curve.scorer})")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return _save(figure, path)


def plot_reliability(path: str | Path, evaluation: Evaluation, note: str = "") -> Path:
    """Draw how often samples of a probability were seizure, with the number of samples in each bin."""
    bins = evaluation.reliability
    figure, (axes, below) = _open(f"Reliability, {evaluation.split}", evaluation, note, heights=(4, 1))
    if not len(bins.counts):
        _say(axes, "undefined: no sample")
        return _save(figure, path)
    axes.plot([0, 1], [0, 1], "--", color=GRAY, lw=1, label="perfectly calibrated")
    axes.plot(bins.confidence, bins.frequency, "o-", color=BLUE, ms=4, lw=1.5, label=f"{bins.binning} bins")
    below.vlines(bins.confidence, 0.8, bins.counts, color=BLUE, lw=4)
    below.set_yscale("log")
    below.set_ylim(0.8, None)
    below.set_xlabel("mean probability in the bin")
    below.set_ylabel("samples")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of seizure samples")
    error = next(score for score in evaluation.scores if score.name == "calibration error")
    axes.legend(loc="upper left", frameon=False, fontsize=8, title=f"{error.scorer}: {error.value:.4f}")
    return _save(figure, path)


def plot_timeline(path: str | Path, trace: Trace, events: Sequence[Event], scoring: Scoring, note: str = "") -> Path:
    """Draw a recording: probability, thresholds, reference seizures (if annotated) and events found."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    minutes = trace.duration_s >= 600
    unit, scale = ("min", 60.0) if minutes else ("s", 1.0)
    times, low, high = envelope(trace)
    axes.fill_between(times / scale, low, high, color=BLUE, alpha=0.3, lw=0)
    axes.plot(times / scale, high, color=BLUE, lw=0.9, label="probability")
    axes.axhline(scoring.on_threshold, color=GRAY, lw=0.8, ls="--", label="on / off threshold")
    axes.axhline(scoring.off_threshold, color=GRAY, lw=0.8, ls=":")
    lanes = [(-0.16, RED, "event found", [(event.onset_s, event.offset_s) for event in events])]
    if trace.references is not None:
        lanes.append((-0.32, "black", "reference seizure", [(on, off) for on, off in trace.references.tolist()]))
    for bottom, color, label, spans in lanes:
        bars = [(on / scale, (off - on) / scale) for on, off in spans]
        # The edge keeps a short event of a long recording visible.
        axes.broken_barh(bars, (bottom, 0.12), facecolor=color, edgecolor=color, lw=0.8, label=label)
    axes.set_xlim(0, trace.duration_s / scale)
    axes.set_ylim(lanes[-1][0] - 0.04, 1.04)
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel(f"time from the recording's start ({unit})")
    axes.set_ylabel("seizure probability", loc="top")
    axes.spines[["top", "right"]].set_visible(False)
    _set_title(axes, trace.key, note)
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize=8)
    return _save(figure, path)


def _budget_points(evaluation: Evaluation) -> dict[tuple[float, float], list[float]]:
    """Group the budgets by false alarms and sensitivity: several often share one threshold."""
    found: dict[tuple[float, float], list[float]] = {}
    values = {score.name: score for score in evaluation.scores}
    for point in evaluation.points.points if evaluation.points else ():
        score = values[budget_name(point.budget)]
        if score.reason is None:
            found.setdefault((score.counts["false alarms per 24 h"], score.value), []).append(point.budget)
    return found


def envelope(trace: Trace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times in seconds with the lowest and highest probability from each to the next; NaN in gaps."""
    step = max(1, -(-len(trace.probability_N) // MOST_POINTS))
    starts = np.arange(0, len(trace.probability_N), step)
    low = np.fmin.reduceat(trace.probability_N, starts)
    high = np.fmax.reduceat(trace.probability_N, starts)
    return starts / trace.rate_hz, low, high


def _open(title: str, evaluation: Evaluation, note: str, heights: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0].tolist()
    for axes in rows:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    size = f"{evaluation.n_recordings} recordings, {evaluation.duration_s / 3600:.2f} h"
    _set_title(rows[0], f"{title}: {size}", note)
    return figure, rows


def _set_title(axes: Axes, title: str, note: str) -> None:
    # The note, which may be a smoke mark, has a line of its own and is never cut; a name may hold a dollar sign.
    axes.set_title(f"{title}\n{note}" if note else title, loc="left", fontsize=10, parse_math=False)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GRAY)
    axes.set_xticks([])
    axes.set_yticks([])


def _save(figure: Figure, path: str | Path) -> Path:
    buffer = io.BytesIO()
    # Without the writer's version the same figure is the same bytes.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return write_bytes(path, buffer.getvalue())
