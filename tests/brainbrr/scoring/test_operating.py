import json
import math

import numpy as np
import pytest

from brainbrr.config.scoring import Scoring
from brainbrr.errors import BrainbrrError, DataError
from brainbrr.scoring import Event, OperatingPoint, OperatingPoints, Stitcher, Traces, search_thresholds
from brainbrr.scoring.operating import budget_scores, choose_points, count, draw_curve, with_threshold

RULES = Scoring(opening_s=0, closing_s=0, min_duration_s=0, merge_gap_s=0, trace_rate_hz=1)


def trace(key, blips, references=(), hours=6):
    """A recording of some hours at 1 Hz with 10-second blips of given probability at given seconds."""
    n = round(hours * 3600)
    probability = np.full(n, 0.01)
    for second, value in blips:
        probability[second : second + 10] = value
    stitch = Stitcher(key, rate_hz=1.0, n_samples=n, references=references)
    stitch.add(0, probability)
    return stitch.trace()


def split(name="dev", eval_shift=0.0):
    """One day of four recordings: seizures at 0.9, 0.7, 0.4, 0.2 and false blips at 0.6, 0.5, 0.3, 0.25."""
    seizure = [Event(1000, 1020)]
    return Traces(
        name,
        (
            trace("a", [(1000, 0.9), (5000, 0.6)], seizure),
            trace("b", [(1000, 0.7), (5000, 0.5)], seizure),
            trace("c", [(1000, 0.4), (5000, 0.3 + eval_shift)], seizure),
            trace("d", [(1000, 0.2), (5000, 0.25 + eval_shift)], seizure),
        ),
    )


@pytest.mark.parametrize("n_thresholds", [2, 100])
def test_each_budget_gets_the_threshold_with_the_highest_sensitivity_within_it(n_thresholds):
    # Six quiet hours more: one event that never stops in each of them is 16 false alarms a day.
    dev = Traces("dev", (*split().traces, *(trace(f"quiet{i}", [], hours=0.3) for i in range(20))))
    rules = RULES.model_copy(update={"false_alarms_per_24h": (10.0, 1.6, 0.5), "n_thresholds": n_thresholds})
    found = search_thresholds(dev, rules)
    assert found.scorer == "OVLP"
    assert [(p.budget, p.sensitivity, p.false_alarms_per_24h) for p in found.points] == [
        (10.0, 1.0, 3.2),
        (1.6, 0.75, 1.6),
        (0.5, 0.5, 0.0),
    ]
    assert [p.on_threshold for p in found.points] == pytest.approx([0.2, 0.4, 0.7])
    assert [p.off_threshold for p in found.points] == pytest.approx([0.16, 0.32, 0.56])


def test_the_curve_ends_in_silence_and_false_alarms_are_per_recorded_day():
    curve = draw_curve(split(), RULES)
    assert curve.split == "dev"
    assert (curve.sensitivity[-1], curve.false_alarms_per_24h[-1]) == (0.0, 0.0)
    assert curve.false_alarms_per_24h.max() == 4.0
    assert (np.diff(curve.thresholds) > 0).all()


def test_one_event_that_never_stops_is_no_operating_point():
    # At 0.01 each recording is one event: every seizure "found", and only two false alarms in 12 h.
    quiet = [trace(f"quiet{i}", [(s, 0.3) for s in range(500, 20_000, 500)], [], hours=3) for i in range(2)]
    dev = Traces("dev", (*quiet, trace("seizure", [], [Event(1000, 1020)])))
    rules = RULES.model_copy(update={"false_alarms_per_24h": (10.0,)})
    curve = draw_curve(dev, rules)
    assert (curve.sensitivity[0], curve.false_alarms_per_24h[0]) == (1.0, 4.0)
    (point,) = search_thresholds(dev, rules).points
    assert point.sensitivity == 0.0


@pytest.mark.parametrize("name", ["eval", "train"])
def test_thresholds_are_searched_on_dev_only(name):
    with pytest.raises(BrainbrrError, match=f"dev only.*{name}"):
        search_thresholds(split(name), RULES)
    plain = search_thresholds(split(), RULES).to_dict() | {"split": name}
    with pytest.raises(BrainbrrError, match="dev only"):
        OperatingPoints.from_dict(plain)


def test_another_split_is_scored_at_the_thresholds_of_dev_and_shows_its_own_false_alarms():
    points = search_thresholds(split(), RULES)
    scores = budget_scores(split("eval", eval_shift=0.4), RULES, points)
    assert [score.name for score in scores] == [f"sensitivity at {b} FA/24 h" for b in ("10", "5", "2.5", "1")]
    at_1 = scores[-1]
    assert at_1.value == 0.5
    assert at_1.counts["false alarms per 24 h"] == 1.0
    assert at_1.counts["threshold"] == points.points[-1].on_threshold
    assert scores[2].counts["false alarms per 24 h"] == 4.0


def test_an_operating_point_brings_its_hysteresis():
    two_peaks = trace("x", [(5000, 0.9), (5010, 0.3), (5020, 0.9)], [Event(1000, 1020)])
    made = [
        budget_scores(
            Traces("eval", (two_peaks,)),
            RULES.model_copy(update={"false_alarms_per_24h": (10.0,)}),
            OperatingPoints(RULES, (OperatingPoint(10.0, 0.8, off, 1.0, 0.0),)),
        )
        for off in (0.2, 0.5)
    ]
    assert [scores[0].counts["false alarms"] for scores in made] == [1, 2]


def test_a_peak_beside_a_gap_is_a_threshold():
    stitch = Stitcher("r", rate_hz=1.0, n_samples=3600, references=[Event(100, 110)])
    probability = np.full(3600, 0.1)
    probability[100:110] = 0.8
    stitch.add(0, probability, np.arange(3600) != 95)
    assert np.float32(0.8) in draw_curve(Traces("dev", (stitch.trace(),)), RULES).thresholds


def test_points_are_chosen_from_a_curve_of_dev_only():
    with pytest.raises(BrainbrrError, match="dev only"):
        choose_points(draw_curve(split("eval"), RULES), RULES)


def test_without_points_or_without_seizures_the_sensitivity_is_undefined_and_says_why():
    for score in budget_scores(split("eval"), RULES, None):
        assert math.isnan(score.value)
        assert score.reason == "no threshold from dev for this budget"
        assert score.counts == {"hours": 24.0}
    nothing = search_thresholds(Traces("dev", (trace("quiet", [(10, 0.9)]),)), RULES)
    assert nothing.points == ()
    assert {score.reason for score in budget_scores(split("eval"), RULES, nothing)} == {"no reference seizure on dev"}
    points = search_thresholds(split(), RULES)
    quiet = Traces("eval", (trace("quiet", [(10, 0.9)], []),))
    assert {score.reason for score in budget_scores(quiet, RULES, points)} == {"no reference seizure"}


def test_points_survive_json():
    points = search_thresholds(split(), RULES)
    assert OperatingPoints.from_dict(json.loads(json.dumps(points.to_dict()))) == points


def test_points_are_applied_by_the_rules_they_were_found_with():
    points = search_thresholds(split(), RULES)
    others = RULES.model_copy(update={"min_duration_s": 3600.0, "curve_scorer": "SzCORE events"})
    assert budget_scores(split("eval"), others, points) == budget_scores(split("eval"), RULES, points)


def test_the_scorer_of_the_curve_can_be_szcore():
    rules = RULES.model_copy(update={"curve_scorer": "SzCORE events"})
    found = search_thresholds(split(), rules)
    assert found.scorer == "SzCORE events"
    assert found.points[0].sensitivity == 1.0


def test_a_recording_without_annotation_cannot_be_scored():
    with pytest.raises(DataError, match="annotation"):
        search_thresholds(Traces("dev", (trace("x", [], None),)), RULES)


def test_no_recording_has_no_thresholds():
    assert search_thresholds(Traces("dev", ()), RULES).reason == "no reference seizure on dev"


def test_hysteresis_keeps_its_proportion():
    moved = with_threshold(Scoring(on_threshold=0.8, off_threshold=0.2), 0.4)
    assert (moved.on_threshold, moved.off_threshold) == pytest.approx((0.4, 0.1))


@pytest.mark.parametrize("value", [0.4, 0.5, 0.7, 0.9])
def test_a_recording_that_just_reaches_the_threshold_is_counted(value):
    rules = RULES.model_copy(update={"on_threshold": value, "off_threshold": value})
    assert count([trace("a", [(1000, value)], [Event(1000, 1020)])], rules, "OVLP").hits == 1
