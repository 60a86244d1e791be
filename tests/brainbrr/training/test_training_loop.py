"""One optimizer step at a time: what reaches the weights, and what must not."""

import math
import os
import signal

import pytest
import torch

from brainbrr.training import session
from tests.brainbrr.small_runs import differences, metrics_of, state_of

NO_DROPOUT = "model.encoder={name: tcn, channels: [32], blocks: 2, kernel_size: 3, dropout: 0.0}"


def trajectory(folder):
    return [(line["loss"], line["grad_norm"]) for line in metrics_of(folder) if line["event"] == "step"]


@pytest.mark.parametrize("epoch", [12, 18, 17])
def test_accumulated_batches_are_one_large_batch(train, tmp_path, epoch):
    """18 leaves one batch of two for the last step of an epoch, 17 a batch of one and one of none."""
    common = (NO_DROPOUT, f"sampling.windows_per_epoch={epoch}", "training.max_steps=4", "training.clip_norm=0.05")
    assert train("one", *common, "training.batch_size=8").status == 0
    assert train("four", *common, "training.batch_size=2", "training.accumulate=4").status == 0
    one, four = (torch.tensor(trajectory(tmp_path / name), dtype=torch.float64) for name in ("one", "four"))
    torch.testing.assert_close(one, four, rtol=2e-5, atol=1e-7)
    weights = [state_of(tmp_path / name, 4)["model"] for name in ("one", "four")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=2e-4, msg=name)


def test_clipping_bounds_the_step(train, tmp_path):
    rate, clip = 1e-2, 1e-3
    sgd = ("training.optimizer={name: sgd, learning_rate: 0.01, momentum: 0.0, weight_decay: 0.0}",
           "training.schedule={name: constant, warmup_share: 0.0}")  # fmt: skip
    assert train("clipped", *sgd, f"training.clip_norm={clip}", "--max-steps=2").status == 0
    one, two = (state_of(tmp_path / "clipped", step)["model"] for step in (1, 2))
    moved = math.sqrt(sum(float((one[name] - two[name]).double().square().sum()) for name in one))
    assert moved == pytest.approx(rate * clip, rel=1e-3)
    assert all(norm > clip for _, norm in trajectory(tmp_path / "clipped"))


@pytest.fixture
def poison(monkeypatch):
    """Make the loss of the given calls NaN, or infinite, or let it be finite with an infinite gradient."""

    def at(calls, value=math.nan):
        build = session.build_loss
        made = []

        def build_poisoned(config, weight):
            loss = build(config, weight)

            def poisoned(logits, label, valid):
                if not logits.requires_grad:
                    return loss(logits, label, valid)
                made.append(None)
                if len(made) not in calls:
                    return loss(logits, label, valid)
                if value == "gradient":
                    return loss(logits, label, valid) + (logits.sum() * 0).sqrt()
                return loss(logits, label, valid) * value

            return poisoned

        monkeypatch.setattr(session, "build_loss", build_poisoned)

    return at


@pytest.mark.parametrize("value", [math.nan, math.inf, "gradient"])
def test_what_is_not_finite_stops_before_the_step(train, tmp_path, poison, value):
    poison({3}, value)
    ended = train("run")
    assert ended.status == 1
    assert "not finite, stopped before the optimizer step" in ended.err
    assert "step 3, windows edf/train/aaaaaaa" in ended.err
    assert " @ " in ended.err
    assert len(metrics_of(tmp_path / "run")) == 3  # two steps and a validation
    assert all(torch.isfinite(value).all() for value in state_of(tmp_path / "run", 2)["model"].values())


def test_skipping_leaves_weights_and_schedule_alone_and_is_counted(train, tmp_path, poison):
    poison({3})
    ended = train("run", "training.nonfinite=skip")
    assert ended.status == 0
    assert "skipped step 3, windows edf/train/" in ended.err
    before, after = (state_of(tmp_path / "run", step) for step in (2, 3))
    for part in ("model", "optimizer", "schedule"):
        assert not differences(before[part], after[part])
    assert after["progress"]["skipped_steps"] == 1
    assert [line["event"] for line in metrics_of(tmp_path / "run") if "grad_norm" in line].index("skipped") == 2
    assert metrics_of(tmp_path / "run")[3]["loss"] is None


def test_skipping_is_bounded(train, poison):
    poison({1, 2, 3, 4, 5, 6})
    ended = train("run", "training.nonfinite=skip", "training.max_nonfinite=3")
    assert ended.status == 1
    assert "too many steps were not finite" in ended.err
    assert "got 4 skipped" in ended.err


def test_the_average_is_an_exponential_average_and_is_what_is_scored(train, tmp_path):
    assert train("run", "training.ema_decay=0.5").status == 0
    states = [state_of(tmp_path / "run", step) for step in range(1, 7)]
    name = "head.projection.weight"
    average = states[0]["model"][name]
    for state in states[1:]:
        average = average + (state["model"][name] - average) * 0.5
        torch.testing.assert_close(state["ema"][f"module.{name}"], average, rtol=1e-5, atol=1e-7)
    assert train("plain").status == 0
    scored = [
        [line["loss"] for line in metrics_of(tmp_path / run) if line["event"] == "validation"]
        for run in ("run", "plain")
    ]
    assert scored[0] != scored[1]
    assert not differences(states[-1]["model"], state_of(tmp_path / "plain", 6)["model"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_leaves_a_usable_checkpoint(train, tmp_path, monkeypatch, number, status):
    rare = ("checkpoints.every_n_steps=null", "checkpoints.keep_best=0")
    assert train("straight", *rare).status == 0
    build = session.build_loss
    calls = []

    def build_interrupting(config, weight):
        loss = build(config, weight)

        def interrupting(logits, label, valid):
            calls.append(None)
            if len(calls) == 4:
                os.kill(os.getpid(), number)
            return loss(logits, label, valid)

        return interrupting

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(session, "build_loss", build_interrupting)
        ended = train("run", *rare)
    assert ended.status == status
    assert "interrupted after step" in ended.err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert train("run", *rare).status == 0
    assert not differences(state_of(tmp_path / "straight", 6), state_of(tmp_path / "run", 6))
    assert (tmp_path / "straight/metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()


def test_a_second_ctrl_c_interrupts_at_once(train, tmp_path, monkeypatch):
    build = session.build_loss

    def build_interrupting(config, weight):
        loss = build(config, weight)

        def interrupting(logits, label, valid):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return loss(logits, label, valid)

        return interrupting

    monkeypatch.setattr(session, "build_loss", build_interrupting)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
    try:
        assert train("run").status == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("weight", ["index", "none"])
def test_the_class_weight_is_that_of_the_exact_index(train, tmp_path, monkeypatch, weight):
    import json

    seen = []
    build = session.build_loss
    monkeypatch.setattr(session, "build_loss", lambda config, weight: seen.append(weight) or build(config, weight))
    assert train("run", f"training.loss.positive_weight={weight}", "--max-steps=1").status == 0
    share = json.loads((tmp_path / "run/run.json").read_text())["train"]["seizure_share"]
    assert seen == [pytest.approx((1 - share) / share if weight == "index" else 1.0)]
    assert 0.1 < share < 0.5


def test_global_settings_are_put_back(train):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    assert train("run", "run.deterministic=true", "run.threads=2", "--max-steps=1").status == 0
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_the_record_says_what_ran(train, tmp_path, monkeypatch):
    import json

    monkeypatch.setenv("BGB_LIMIT_FILES", "2")
    assert train("run", "--max-steps=2").status == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["status"] == "paused"
    assert (record["steps"], record["planned_steps"], record["first_step"]) == (2, 6, 1)
    assert (record["device"], record["kernel"], record["threads"], record["processes"]) == ("cpu", "torch", 1, 1)
    assert (record["train"]["recordings_used"], record["train"]["recordings_found"]) == (2, 3)
    assert record["train"]["seizures"] == 1
    assert record["train"]["windows"] > record["train"]["seizure_windows"] > 0
    assert record["environment"]["BGB_LIMIT_FILES"] == "2"
    assert record["smoke"] is False
    assert record["seconds"] > 0
    assert record["config"]["training"]["batch_size"] == 4


@pytest.mark.parametrize("strategy", ["balanced", "uniform"])
def test_the_share_of_seizures_drawn(brainbrr, small_config, strategy):
    from brainbrr.config import load_config
    from brainbrr.windows import load_split, make_sampler

    config = load_config(small_config, [f"sampling.strategy={strategy}", "sampling.full_share=0.3"])
    windows = load_split(config, "train")
    sampler = make_sampler(config, windows, seed=0)
    counts = torch.zeros(2)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        for i in sampler:
            item = windows[i]
            counts += torch.stack([item["label"][item["valid"]].sum(), item["valid"].sum()])
    assert session.drawn_share(windows, sampler) == pytest.approx(float(counts[0] / counts[1]), rel=0.05)


def test_a_scale_that_is_too_large_is_lowered_until_steps_are_taken(train, tmp_path, monkeypatch):
    """The scaler of fp16, on the CPU: CUDA is not needed to see what the loop does with it."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    build = session.build_loss
    monkeypatch.setattr(session, "build_scaler", lambda training, device: scaler)
    monkeypatch.setattr(session, "build_loss", lambda *args: lambda *batch: 1e4 * build(*args)(*batch))
    assert train("run", "training.max_steps=16", "training.validation.split=none").status == 0
    events = [line["event"] for line in metrics_of(tmp_path / "run")]
    assert set(events) == {"scale lowered", "step"}
    n_lowered = events.index("step")
    assert n_lowered > 1
    assert state_of(tmp_path / "run", 16)["progress"]["scaler_skips"] == events.count("scale lowered")
    states = [state_of(tmp_path / "run", step) for step in (n_lowered, n_lowered + 1)]
    assert states[0]["progress"]["scaler_skips"] == n_lowered
    assert states[0]["progress"]["skipped_steps"] == 0
    assert states[0]["schedule"]["last_epoch"] == 0
    assert states[1]["schedule"]["last_epoch"] == 1
    assert states[0]["scaler"]["scale"] == 2.0 ** (127 - n_lowered)
