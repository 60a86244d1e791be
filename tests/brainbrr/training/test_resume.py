"""Interrupted and resumed equals uninterrupted, bit for bit."""

import pytest

from brainbrr.training.checkpoints import list_checkpoints
from tests.brainbrr.small_runs import differences, metrics_of, state_of

PLANS = {
    "plain": [],
    "across epochs": ["sampling.windows_per_epoch=7", "training.max_steps=7"],
    "average, accumulation": ["training.ema_decay=0.9", "training.accumulate=2", "sampling.windows_per_epoch=18"],
    "adam, linear, bce": ["training.optimizer.name=adam", "training.schedule.name=linear", "training.loss.name=bce"],
    "sgd, constant": ["training.optimizer.name=sgd", "training.schedule.name=constant"],
    "bf16": ["training.precision=bf16"],
    "workers": ["training.workers=1"],
    "no clipping, validation by epochs": [
        "training.clip_norm=null", "training.validation.every_steps=null", "sampling.windows_per_epoch=8",
    ],
}  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_resumed_equals_uninterrupted(train, tmp_path, plan):
    settings = PLANS[plan]
    last = int(next((s.split("=")[1] for s in settings if "max_steps" in s), 6))
    assert train("straight", *settings).status == 0
    assert train("resumed", *settings, "--max-steps=2").status == 0
    assert [step for step, _ in list_checkpoints(tmp_path / "resumed/checkpoints")] == [1, 2]
    assert train("resumed", *settings, "--max-steps=3").status == 0
    assert train("resumed", *settings).status == 0
    for step in (3, last):
        straight, resumed = (state_of(tmp_path / name, step) for name in ("straight", "resumed"))
        assert not differences(straight, resumed)
    assert (tmp_path / "straight/metrics.jsonl").read_bytes() == (tmp_path / "resumed/metrics.jsonl").read_bytes()


def test_differences_sees_a_bit():
    import torch

    one = {"a": [torch.zeros(2), 1.0]}
    two = {"a": [torch.tensor([0.0, -0.0]), 1]}
    assert differences(one, two) == [".a[0]", ".a[1]: 1.0 != 1"]


def test_resume_into_another_folder(train, tmp_path):
    assert train("straight").status == 0
    assert train("first", "--max-steps=3").status == 0
    checkpoint = tmp_path / "first/checkpoints/step-000003.pt"
    before = checkpoint.read_bytes()
    assert train("second", f"--resume={checkpoint}").status == 0
    assert not differences(state_of(tmp_path / "straight", 6), state_of(tmp_path / "second", 6))
    assert checkpoint.read_bytes() == before
    assert [line["step"] for line in metrics_of(tmp_path / "second") if line["event"] == "step"] == [4, 5, 6]


def test_a_pause_is_not_part_of_the_plan(train, tmp_path):
    assert train("paused", "--max-steps=1").status == 0
    state = state_of(tmp_path / "paused", 1)
    assert state["n_planned"] == 6
    assert train("whole").status == 0
    assert not differences(state, state_of(tmp_path / "whole", 1))


def test_a_checkpoint_goes_round_unchanged(train, tmp_path):
    assert train("first", "--max-steps=2", "training.ema_decay=0.9").status == 0
    resume = f"--resume={tmp_path / 'first/checkpoints/step-000002.pt'}"
    assert train("second", "--max-steps=2", "training.ema_decay=0.9", resume).status == 0
    assert not differences(state_of(tmp_path / "first", 2), state_of(tmp_path / "second", 2))


def test_a_finished_run_is_left_alone(train, tmp_path):
    assert train("run").status == 0
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    again = train("run")
    assert again.status == 0
    assert "finished after step 6 of 6" in again.err
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_fresh_starts_over_and_keeps_the_earlier_run_aside(train, tmp_path):
    assert train("run", "--max-steps=2").status == 0
    assert train("run", "--fresh", "--max-steps=1").status == 0
    assert [step for step, _ in list_checkpoints(tmp_path / "run/checkpoints")] == [1]
    assert [step for step, _ in list_checkpoints(tmp_path / "run/earlier-001/checkpoints")] == [1, 2]
    assert len(metrics_of(tmp_path / "run")) == 1
    assert len(metrics_of(tmp_path / "run/earlier-001")) == 3


def test_a_damaged_checkpoint_is_passed_over_and_written_again(train, tmp_path):
    assert train("straight").status == 0
    assert train("run", "--max-steps=4").status == 0
    newest = tmp_path / "run/checkpoints/step-000004.pt"
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-5000])
    again = train("run")
    assert again.status == 0
    assert "step-000004.pt: damaged" in again.err
    assert "continuing the run in" in again.err
    assert "after step 3" in again.err
    assert not differences(state_of(tmp_path / "straight", 6), state_of(tmp_path / "run", 6))
    assert newest.with_name("step-000004.pt.aside").exists()
    assert (tmp_path / "straight/metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()


def test_a_damaged_checkpoint_that_was_named_is_an_error(train, tmp_path):
    assert train("run", "--max-steps=2").status == 0
    named = tmp_path / "run/checkpoints/step-000002.pt"
    named.write_bytes(named.read_bytes()[:-5000])
    ended = train("other", f"--resume={named}")
    assert ended.status == 1
    assert "damaged" in ended.err
    assert not (tmp_path / "other").exists()


def test_a_changed_configuration_is_refused_with_the_difference(train, tmp_path):
    assert train("run", "--max-steps=2").status == 0
    changed = ("training.optimizer.learning_rate=1e-3", "training.clip_norm=null", "training.workers=0")
    refused = train("run", *changed)
    assert refused.status == 2
    assert "training.clip_norm: 1.0 -> None; training.optimizer.learning_rate: 0.003 -> 0.001" in refused.err
    assert "--override-config" in refused.err
    assert [step for step, _ in list_checkpoints(tmp_path / "run/checkpoints")] == [1, 2]
    accepted = train("run", *changed, "--override-config")
    assert accepted.status == 0
    assert "going on with another configuration" in accepted.err
    rates = [line["learning_rate"] for line in metrics_of(tmp_path / "run") if line["event"] == "step"]
    assert train("whole", *changed).status == 0
    wanted = [line["learning_rate"] for line in metrics_of(tmp_path / "whole") if line["event"] == "step"]
    assert rates[2:] == wanted[2:]
    assert rates[:2] == [3 * rate for rate in wanted[:2]]


@pytest.mark.parametrize(
    "change", ["training.optimizer.name=sgd", "training.ema_decay=0.9", "training.accumulate=2", "training.max_steps=9"]
)
def test_a_change_on_the_way_takes_effect(train, tmp_path, change):
    assert train("run", "--max-steps=2").status == 0
    assert train("run", change, "--override-config").status == 0
    last = max(step for step, _ in list_checkpoints(tmp_path / "run/checkpoints"))
    assert last == (9 if "max_steps" in change else 6)
    state = state_of(tmp_path / "run", last)
    assert (state["ema"] is not None) == ("ema" in change)
    assert ("momentum" in state["optimizer"]["param_groups"][0]) == ("sgd" in change)


def test_a_change_of_the_model_is_no_continuation(train, tmp_path):
    assert train("run", "--max-steps=2").status == 0
    refused = train("run", "model.mamba.layers=2", "--override-config")
    assert refused.status == 1
    assert "step-000002.pt: does not fit the configured model" in refused.err


def test_other_data_is_refused(train, tmp_path, monkeypatch):
    assert train("run", "--max-steps=2").status == 0
    monkeypatch.setenv("BGB_LIMIT_FILES", "2")
    refused = train("run")
    assert refused.status == 2
    assert "recordings: 3 -> 2" in refused.err
    accepted = train("run", "--override-config", "--max-steps=3")
    assert accepted.status == 0
    assert state_of(tmp_path / "run", 3)["sampler"]["position"] == 4


def test_checkpoints_are_kept_as_configured(train, tmp_path):
    keep = ("checkpoints.keep_last=2", "checkpoints.keep_best=1")
    assert train("run", *keep).status == 0
    kept = [step for step, _ in list_checkpoints(tmp_path / "run/checkpoints")]
    best = state_of(tmp_path / "run", 6)["progress"]["best"]
    assert kept == sorted({5, 6, best[0][1]})


def test_every_minutes_and_the_end_write_checkpoints(train, tmp_path):
    rare = ("checkpoints.every_n_steps=null", "checkpoints.keep_best=0")
    assert train("end", *rare).status == 0
    assert [step for step, _ in list_checkpoints(tmp_path / "end/checkpoints")] == [6]
    assert train("often", *rare, "checkpoints.every_minutes=1e-9").status == 0
    assert [step for step, _ in list_checkpoints(tmp_path / "often/checkpoints")] == [1, 2, 3, 4, 5, 6]


def test_early_stopping_ends_the_run_and_stays_ended(train, tmp_path):
    stop = ("training.validation.patience=1", "training.validation.every_steps=1", "training.validation.metric=loss",
            "training.validation.min_improvement=100")  # fmt: skip
    ended = train("run", *stop)
    assert ended.status == 0
    assert "stopped early after step 2 of 6" in ended.err
    again = train("run", *stop)
    assert "stopped early after step 2 of 6" in again.err
    assert state_of(tmp_path / "run", 2)["progress"]["stopped_early"] is True


def test_validation_does_not_change_training(train, tmp_path):
    assert train("often", "training.validation.every_steps=1").status == 0
    assert train("never", "training.validation.split=none").status == 0
    often, never = (state_of(tmp_path / name, 6) for name in ("often", "never"))
    del often["progress"], never["progress"]
    assert not differences(often, never)
