"""Trackers beside the metrics log; neither is installed with the trainer itself."""

import math
import sys
import types

import pytest


class Writer:
    def __init__(self, folder):
        self.folder, self.numbers, self.texts, self.closed = folder, [], [], False

    def add_scalar(self, name, value, step):
        self.numbers.append((step, name, value))

    def add_text(self, name, text):
        self.texts.append(text)

    def close(self):
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch):
    made = []

    def make(folder):
        made.append(Writer(folder))
        return made[-1]

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = make
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return made


@pytest.fixture
def wandb(monkeypatch):
    class Run:
        def __init__(self, **settings):
            self.settings, self.logged, self.finished = settings, [], False

        def log(self, values, step):
            self.logged.append((step, values))

        def finish(self):
            self.finished = True

    made = []
    module = types.ModuleType("wandb")
    module.init = lambda **settings: made.append(Run(**settings)) or made[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return made


def test_tensorboard_gets_every_finite_number_once(train, tmp_path, tensorboard, monkeypatch):
    monkeypatch.setenv("BGB_SMOKE_TEST", "1")
    monkeypatch.setenv("BGB_LIMIT_FILES", "1")
    assert train("run", "tracking.tensorboard=true").status == 0
    (writer,) = tensorboard
    assert writer.folder == str(tmp_path / "run/tensorboard")
    assert writer.closed
    assert writer.texts == ["SMOKE TEST, not for training: small"]
    losses = [step for step, name, _ in writer.numbers if name == "train/loss"]
    assert losses == [1, 2, 3, 4, 5, 6]
    assert [step for step, name, _ in writer.numbers if name == "validation/loss"] == [2, 4, 6]
    assert all(math.isfinite(value) for _, _, value in writer.numbers)
    assert not [name for _, name, _ in writer.numbers if name == "validation/auroc"]  # undefined without seizures


def test_weights_and_biases_offline(train, tmp_path, wandb):
    assert train("run", "tracking.wandb=offline", "--max-steps=2").status == 0
    (run,) = wandb
    assert run.settings["mode"] == "offline"
    assert run.settings["dir"] == str(tmp_path / "run")
    assert run.settings["tags"] == []
    assert run.settings["config"]["run"]["seed"] == 3
    assert [step for step, _ in run.logged] == [1, 2, 2]
    assert run.finished


@pytest.mark.parametrize(
    ("setting", "module"), [("tensorboard=true", "torch.utils.tensorboard"), ("wandb=offline", "wandb")]
)
def test_a_tracker_that_is_not_installed(train, tmp_path, monkeypatch, setting, module):
    monkeypatch.setitem(sys.modules, module, None)
    ended = train("run", f"tracking.{setting}")
    assert ended.status == 2
    assert f"tracking.{setting.split('=')[0]}: this tracker is not installed" in ended.err
    assert "brainbrr[trackers]" in ended.err
    assert not (tmp_path / "run").exists()
