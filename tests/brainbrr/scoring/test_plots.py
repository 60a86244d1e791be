import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from brainbrr.config.scoring import Scoring
from brainbrr.scoring import Event, Stitcher, Traces, evaluate_traces
from brainbrr.scoring.plots import envelope, plot_curve, plot_reliability, plot_timeline

RULES = Scoring(n_thresholds=10)


def trace(references=(), n_samples=16 * 900, level=0.1):
    stitch = Stitcher("p/r.edf", rate_hz=16.0, n_samples=n_samples, references=references)
    probability = np.full(n_samples, level)
    probability[1600:2400] = 0.8
    stitch.add(0, probability, np.arange(n_samples) < n_samples - 1000)
    return stitch.trace()


def has_color(path, color):
    """Say whether a picture has pixels of a color."""
    pixels = imread(path)[..., :3]
    return bool((np.abs(pixels - mpl.colors.to_rgb(color)).max(axis=-1) < 0.02).sum() > 20)


BLUE, RED, BLACK = "#2166ac", "#b2182b", "black"


@pytest.mark.parametrize("plot", [plot_curve, plot_reliability])
def test_plots_draw_what_is_defined_and_say_what_is_not(tmp_path, plot):
    seizures = evaluate_traces(Traces("dev", (trace([Event(100, 150)]),)), RULES)
    nothing = evaluate_traces(Traces("dev", ()), RULES)
    assert has_color(plot(tmp_path / "drawn.png", seizures), BLUE)
    assert not has_color(plot(tmp_path / "empty.png", nothing, note="SMOKE RUN"), BLUE)


def test_the_curve_shows_the_operating_points(tmp_path):
    dev = evaluate_traces(Traces("dev", (trace([Event(100, 150)]),)), RULES)
    without = evaluate_traces(Traces("eval", (trace([Event(100, 150)]),)), RULES)
    assert has_color(plot_curve(tmp_path / "dev.png", dev), RED)
    budgets = imread(plot_curve(tmp_path / "eval.png", without)) != imread(tmp_path / "dev.png")
    assert budgets.any()


def test_the_timeline_shows_probability_events_and_references(tmp_path):
    found = [Event(100.0, 150.0, 0.8)]
    annotated = plot_timeline(tmp_path / "a.png", trace([Event(100, 150)]), found, RULES)
    unannotated = plot_timeline(tmp_path / "b.png", trace(None, n_samples=5000), [], RULES)
    assert [has_color(annotated, color) for color in (BLUE, RED, BLACK)] == [True] * 3
    assert has_color(unannotated, BLUE)


def test_a_note_changes_the_picture_and_nothing_else_does(tmp_path):
    first, again, noted = (tmp_path / f"{name}.png" for name in "abc")
    plot_timeline(first, trace(), [], RULES)
    plot_timeline(again, trace(), [], RULES)
    plot_timeline(noted, trace(), [], RULES, note="SMOKE RUN")
    assert first.read_bytes() == again.read_bytes() != noted.read_bytes()


def test_a_name_is_no_formula(tmp_path):
    stitch = Stitcher("p$1/r_$^{2.edf", rate_hz=1.0, n_samples=100)
    stitch.add(0, np.zeros(100))
    assert imread(plot_timeline(tmp_path / "x.png", stitch.trace(), [], RULES, note="$a_")).any()


def test_the_envelope_keeps_every_peak_of_a_long_recording():
    stitch = Stitcher("r", rate_hz=16.0, n_samples=16 * 7200)
    probability = np.full(16 * 7200, 0.1)
    probability[50_001] = 0.8
    probability[70_001] = 0.01
    stitch.add(0, probability, np.arange(16 * 7200) < 100_000)
    times, low, high = envelope(stitch.trace())
    assert len(times) <= 4000
    assert np.nanmax(high) == np.float32(0.8)
    assert np.nanmin(low) == np.float32(0.01)
    assert times[np.nanargmax(high)] == pytest.approx(50_001 / 16, abs=2)
    assert np.isnan(high[-1])


def test_drawing_needs_no_display_and_leaves_pyplot_alone():
    script = "import sys, brainbrr.scoring.plots; print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
