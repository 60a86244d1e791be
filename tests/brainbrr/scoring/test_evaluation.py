import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from brainbrr.config.scoring import Scoring
from brainbrr.scoring import Event, Score, Stitcher, Traces, evaluate_traces
from brainbrr.scoring.score import ratio
from brainbrr.scoring.tables import score_table

RULES = Scoring(n_thresholds=20)


def traces(name, n_recordings=4, seizures=True):
    generator = np.random.default_rng(0)
    made = []
    for number in range(n_recordings):
        references = [Event(100.0, 140.0)] if seizures and number % 2 == 0 else []
        stitch = Stitcher(f"p{number}/r.edf", rate_hz=16.0, n_samples=16 * 600, references=references)
        probability = generator.random(16 * 600) * 0.3
        if number % 2 == 0:
            probability[16 * 105 : 16 * 135] = 0.9
        stitch.add(0, probability)
        made.append(stitch.trace())
    return Traces(name, tuple(made))


def values(evaluation):
    return {(score.scorer, score.name): score for score in evaluation.scores}


def test_every_score_names_its_scorer_and_its_counts():
    found = values(evaluate_traces(traces("dev"), RULES))
    assert len(found) == len(evaluate_traces(traces("dev"), RULES).scores)
    assert found["OVLP", "sensitivity"].counts == {"hits": 2, "misses": 0, "false alarms": 0, "hours": 2400 / 3600}
    assert found["OVLP", "sensitivity at 1 FA/24 h"].value == 1.0
    assert found["TAES", "sensitivity"].value == pytest.approx(30 / 40)
    assert found["EPOCH", "sensitivity"].value == pytest.approx(30 / 40)
    assert found["SzCORE samples", "sensitivity"].value == pytest.approx(30 / 40)
    assert found["SzCORE events", "false alarms per 24 h"].value == 0.0
    assert found["scikit-learn", "AUROC"].value > 0.8
    assert all(score.counts for score in found.values())


def test_eval_is_scored_at_the_points_of_dev():
    dev = evaluate_traces(traces("dev"), RULES)
    with_points = values(evaluate_traces(traces("eval"), RULES, dev.points))
    without = values(evaluate_traces(traces("eval"), RULES))
    name = ("OVLP", "sensitivity at 10 FA/24 h")
    assert with_points[name].value == 1.0
    assert math.isnan(without[name].value)


def test_without_seizures_the_undefined_is_nan_with_a_reason_and_the_defined_stays():
    found = values(evaluate_traces(traces("dev", seizures=False), RULES))
    assert found["OVLP", "false alarms per 24 h"].value == pytest.approx(2 * 86_400 / 2400)
    undefined = {key: score.reason for key, score in found.items() if math.isnan(score.value)}
    assert undefined["scikit-learn", "AUROC"] == "no positive sample"
    assert undefined["TAES", "sensitivity"] == "no reference seizure"
    assert undefined["OVLP", "sensitivity at 1 FA/24 h"] == "no reference seizure on dev"
    assert found["OVLP", "precision"].value == 0.0
    # Two false events of 30 s in 2,400 s.
    for scorer in ("EPOCH", "SzCORE samples"):
        assert found[scorer, "false alarm seconds per 24 h"].value == pytest.approx(60 * 86_400 / 2400)


def test_no_recording_at_all_is_undefined_throughout():
    evaluation = evaluate_traces(Traces("dev", ()), RULES)
    assert all(math.isnan(score.value) for score in evaluation.scores)
    json.dumps(evaluation.to_dict(), allow_nan=False)


@pytest.mark.parametrize("seizures", [True, False])
def test_the_plain_data_is_json_without_nan(seizures):
    evaluation = evaluate_traces(traces("dev", seizures=seizures), RULES)
    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert plain["recordings"] == 4
    assert plain["hours"] == pytest.approx(2400 / 3600)
    for entry, score in zip(plain["scores"], evaluation.scores, strict=True):
        assert entry["value"] == (None if score.reason else score.value)
        assert entry["reason"] == score.reason
    assert plain["events"]["p0/r.edf"] == [[105.0, 135.0, pytest.approx(0.9)]]


def test_the_table_shows_values_scorers_and_reasons():
    out = io.StringIO()
    evaluation = evaluate_traces(traces("dev", seizures=False), RULES)
    Console(file=out, width=120).print(score_table(evaluation.scores, "dev"))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines[lines.index("scikit-learn") + 1].startswith("AUROC undefined no positive sample; positive 0")
    below = lines.index("TAES")
    assert lines[below + 1 : below + 5] == [
        "sensitivity undefined no reference seizure; hits 0, misses 0, false alarms 2",
        "precision 0",
        "F1 0",
        "false alarms per 24 h 72",
    ]
    assert lines[-1] == "over 0.6667 h of recording"


def test_counts_are_shown_where_they_differ_from_those_above():
    def row(name, hits):
        return Score(name, "OVLP", 0.5, None, {"hits": hits})

    out = io.StringIO()
    Console(file=out, width=100).print(score_table([row("one", 11), row("two", 22), row("three", 22)]))
    assert out.getvalue().count("hits 11") == 1
    assert out.getvalue().count("hits 22") == 1


def test_f1_counts_misses_and_false_alarms():
    stitch = Stitcher(
        "r", rate_hz=16.0, n_samples=16 * 600, references=[Event(100, 110), Event(200, 210), Event(300, 310)]
    )
    probability = np.zeros(16 * 600)
    for second in (100, 400, 500):
        probability[16 * second : 16 * (second + 10)] = 0.9
    stitch.add(0, probability)
    found = values(evaluate_traces(Traces("dev", (stitch.trace(),)), RULES))
    assert found["OVLP", "sensitivity"].value == pytest.approx(1 / 3)
    assert found["OVLP", "precision"].value == pytest.approx(1 / 3)
    assert found["OVLP", "F1"].value == pytest.approx(2 / (2 + 2 + 2))
    assert found["TAES", "F1"].value == pytest.approx(2 / (2 + 2 + 2))


def test_a_score_is_undefined_exactly_when_it_has_a_reason():
    with pytest.raises(ValueError, match="reason"):
        Score("x", "y", math.nan)
    with pytest.raises(ValueError, match="reason"):
        Score("x", "y", 0.5, reason="none")
    assert ratio("x", "y", 1, 0, reason="nothing", counts={}).reason == "nothing"


def test_scoring_imports_neither_torch_nor_scikit_learn_nor_matplotlib():
    script = "import sys, brainbrr.scoring; print(sorted({'torch', 'sklearn', 'matplotlib', 'mne'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
