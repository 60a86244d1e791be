"""evaluate, predict, inspect and show-config, on a checkpoint that train wrote."""

import json

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from brainbrr.training.checkpoints import read_checkpoint


@pytest.fixture
def checkpoint(train, tmp_path):
    assert train("run", "--max-steps=2", "training.ema_decay=0.5").status == 0
    return tmp_path / "run/checkpoints/step-000002.pt"


def test_evaluate_searches_thresholds_on_dev_and_scores_eval(brainbrr, checkpoint, tmp_path):
    ended = brainbrr("evaluate", checkpoint)
    assert ended.status == 0, ended.err
    assert "AUROC" in ended.out
    assert "SzCORE events" in ended.out
    folder = tmp_path / "run/evaluation-eval-step-000002"
    report = json.loads((folder / "evaluation.json").read_text())
    assert (report["split"], report["step"], report["smoke"], report["weights"]) == ("eval", 2, False, "average")
    assert report["operating_points"]["split"] == "dev"
    assert report["recordings"] == 2
    assert {path.name for path in (folder / "plots").iterdir()} > {"sensitivity.png", "reliability.png"}
    assert len(list((folder / "plots").glob("edf_eval_*.png"))) == 2


def test_evaluate_takes_points_of_an_earlier_dev_report(brainbrr, checkpoint, tmp_path):
    dev = brainbrr("evaluate", checkpoint, "--split", "dev", "--no-plots", "--json", "--output-dir", tmp_path / "dev")
    assert dev.status == 0
    points = json.loads(dev.out)["operating_points"]
    assert points == json.loads((tmp_path / "dev/evaluation.json").read_text())["operating_points"]
    assert sorted(path.name for path in (tmp_path / "dev").iterdir()) == ["evaluation.json"]
    one = brainbrr("evaluate", checkpoint, "--points", tmp_path / "dev/evaluation.json", "--no-plots", "--json")
    assert json.loads(one.out)["operating_points"] == points
    other = brainbrr("evaluate", checkpoint, "--no-plots", "--json")
    assert json.loads(other.out) == json.loads(one.out)
    wrong = brainbrr("evaluate", checkpoint, "--points", checkpoint)
    assert wrong.status == 2
    assert "no operating points can be read here" in wrong.err


def test_evaluate_scores_the_weights_it_says(brainbrr, checkpoint):
    scores = {}
    for weights in ("average", "last", "auto"):
        ended = brainbrr("evaluate", checkpoint, "--split", "dev", "--no-plots", "--json", "--weights", weights)
        report = json.loads(ended.out)
        scores[weights] = (report["weights"], report["scores"][0]["value"])
    assert scores["auto"] == scores["average"]
    assert scores["last"][0] == "last"
    assert scores["last"][1] != scores["average"][1]


def test_evaluate_gives_what_the_model_gives(brainbrr, checkpoint, small_corpus, small_cache):
    """The AUROC of the report against one computed from the model and the windows directly."""
    from sklearn.metrics import roc_auc_score

    from brainbrr.config import config_from_mapping
    from brainbrr.models import build_detector
    from brainbrr.windows import load_split

    trace_rate = ("--set", "scoring.trace_rate_hz=64")
    ended = brainbrr("evaluate", checkpoint, "--split", "dev", "--no-plots", "--json", "--weights", "last", *trace_rate)
    content = read_checkpoint(checkpoint)
    config = config_from_mapping(content["config"], "test")
    model = build_detector(config).eval()
    model.load_state_dict(content["state"]["model"])
    windows = load_split(config, "dev")
    items = [windows[i] for i in range(len(windows))]
    with torch.no_grad():
        logits = torch.cat([model(item["signal"][None])[0][item["valid"]] for item in items])
    label = torch.cat([item["label"][item["valid"]] for item in items])
    assert json.loads(ended.out)["scores"][0]["value"] == pytest.approx(roc_auc_score(label, logits), abs=1e-4)


def test_predict_writes_events_in_both_formats(brainbrr, checkpoint, small_corpus, tmp_path):
    files = sorted(small_corpus.rglob("eval/**/*.edf"))
    ended = brainbrr(
        "predict", checkpoint, *files, "--output-dir", tmp_path / "found", "--probability", "--picture",
        "--set", "scoring.on_threshold=1e-6", "--set", "scoring.off_threshold=1e-6",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert ended.out.count(" -> ") == 2
    for file in files:
        rows = (tmp_path / f"found/{file.stem}_events.tsv").read_text().splitlines()
        assert rows[0].split("\t")[:4] == ["onset", "duration", "eventType", "confidence"]
        onset, length, kind = rows[1].split("\t")[:3]
        seconds = 30 if "aaaaaaca" in file.stem else 60
        assert (float(onset), float(length), kind) == (0, seconds, "sz")
        assert f"TERM,0.0000,{seconds}.0000,seiz," in (tmp_path / f"found/{file.stem}.predicted.csv_bi").read_text()
        trace = np.load(tmp_path / f"found/{file.stem}.probability.npz")
        assert trace["probability"].shape == (seconds * 16,)
        assert np.isfinite(trace["probability"]).all()
        assert (tmp_path / f"found/{file.stem}.png").read_bytes().startswith(b"\x89PNG")


def test_predict_refuses_files_that_would_overwrite_each_other(brainbrr, checkpoint, small_corpus, tmp_path):
    file = next(small_corpus.rglob("*.edf"))
    ended = brainbrr("predict", checkpoint, file, file, "--output-dir", tmp_path / "found")
    assert ended.status == 2
    assert "several files would write the same results" in ended.err
    assert not (tmp_path / "found").exists()


def test_predict_says_which_file_cannot_be_read(brainbrr, checkpoint, tmp_path):
    (tmp_path / "bad.edf").write_bytes(b"no EDF")
    ended = brainbrr("predict", checkpoint, tmp_path / "bad.edf")
    assert ended.status == 1
    assert "bad.edf" in ended.err


def test_inspect_prints_what_is_inside(brainbrr, checkpoint):
    shown = YAML(typ="safe").load(brainbrr("inspect", checkpoint).out)
    assert (shown["schema"], shown["smoke"], shown["step"], shown["planned_steps"]) == (1, False, 2, 6)
    assert shown["weights"]["moving_average"] is True
    assert shown["code"]["kernel"] == "torch"
    assert shown["config"]["training"]["batch_size"] == 4
    assert "BGB_DATA_DIR" in shown["environment"]
    as_json = json.loads(brainbrr("inspect", checkpoint, "--json", "--tensors").out)
    assert as_json.pop("tensors")["head.projection.bias"] == "float32 [16]"
    assert as_json == shown


def test_marked_checkpoints_are_refused_by_evaluate_and_predict_and_shown_by_inspect(
    brainbrr, train, small_corpus, tmp_path, monkeypatch
):
    monkeypatch.setenv("BGB_SMOKE_TEST", "1")
    assert train("smoke", "--max-steps=1").status == 0
    checkpoint = tmp_path / "smoke/checkpoints/step-000001.pt"
    file = next(small_corpus.rglob("*.edf"))
    assert brainbrr("evaluate", checkpoint, "--no-plots").status == 0
    monkeypatch.setenv("BGB_SMOKE_TEST", "0")
    for command in (("evaluate", checkpoint), ("predict", checkpoint, file, "--output-dir", tmp_path / "found")):
        ended = brainbrr(*command)
        assert ended.status == 1
        assert "the checkpoint of a smoke run" in ended.err
    assert "smoke: true" in brainbrr("inspect", checkpoint).out
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("command", ["inspect", "evaluate", "predict"])
def test_a_file_that_is_no_checkpoint(brainbrr, tmp_path, command):
    (tmp_path / "text.pt").write_text("no checkpoint")
    ended = brainbrr(command, tmp_path / "text.pt", *(["a.edf"] if command == "predict" else []))
    assert ended.status == 1
    assert "text.pt: damaged or no checkpoint" in ended.err


def test_show_config_fills_in_defaults(brainbrr, small_config):
    shown = YAML(typ="safe").load(brainbrr("show-config", small_config, "--set", "training.batch_size=6").out)
    assert shown["training"]["batch_size"] == 6
    assert shown["training"]["optimizer"]["name"] == "adamw"


@pytest.mark.parametrize("name", ["local/smoke_tcn", "local/smoke_unet", "local/train", "modal/train_full"])
def test_the_configurations_that_come_with_the_project_are_valid(brainbrr, request, name):
    path = request.config.rootpath / f"configs/{name}.yaml"
    shown = YAML(typ="safe").load(brainbrr("show-config", path).out)
    assert shown["windows"] == {"length_s": 60.0, "stride_s": 10.0, "short": "pad"}
    assert shown["preprocessing"]["rate_hz"] == 256.0
    if "smoke" not in name:
        assert shown["model"]["encoder"]["channels"][-1] == 512
        assert shown["model"]["mamba"]["layers"] == 6
        assert shown["training"]["optimizer"]["learning_rate"] == 3e-4
        assert shown["training"]["loss"]["name"] == "focal"
