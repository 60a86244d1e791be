"""``show-model``: the numbers are right, nothing is computed, and the model is left as it was."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from brainbrr.commands.show_model import show_model
from brainbrr.models import build_detector
from brainbrr.models.summary import summarize

CONFIG = """
run: {name: t, output_dir: o}
windows: {length_s: 1}
model:
  encoder: {name: unet, channels: [8, 64]}
  mamba: {layers: 1, headdim: 16}
"""


def find(part, path):
    for name in path.split("."):
        part = next(child for child in part.parts if child.name == name)
    return part


def test_counts_are_those_of_the_formulas():
    model = nn.Sequential(nn.Linear(8, 4), nn.Conv1d(10, 6, 3))
    summary = summarize(model, (2, 10, 8))
    linear, conv = summary.parts
    assert (linear.kind, linear.shape, linear.parameters) == ("Linear", (2, 10, 4), 36)
    assert linear.flops == 2 * 2 * 10 * 8 * 4
    assert conv.flops == 2 * 2 * 6 * 10 * 3 * 2  # two steps remain of four
    assert summary.flops == linear.flops + conv.flops


def test_a_detector_is_summed_up_without_being_changed(config_of):
    detector = build_detector(config_of({"name": "unet", "channels": [8, 64]})).train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    random_state = torch.get_rng_state()
    summary = summarize(detector, (3, 19, 512))
    assert summary.shape == (3, 512)
    assert summary.parameters == sum(p.numel() for p in detector.parameters())
    assert find(summary, "encoder").shape == (3, 64, 32)
    assert find(summary, "mamba.layers.0.forward_mamba.in_proj").flops == 2 * 3 * 32 * 64 * 296
    assert find(summary, "mamba.layers.0.forward_mamba.conv1d").shape is None
    assert summary.flops == sum(part.flops for part in summary.parts)
    assert detector.training
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not detector._forward_hooks


@pytest.fixture
def show(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)

    def run(*arguments):
        return CliRunner().invoke(show_model, [str(tmp_path / "c.yaml"), *arguments], catch_exceptions=False)

    return run


def test_the_command_prints_a_tree(show):
    out = show("--depth", "1", "--batch", "2").output
    assert "input (2, 19, 256)" in out
    assert "encoder UNet  (2, 64, 16)" in out
    assert "head Head  (2, 256)" in out
    assert "in_proj" not in out
    assert "in_proj" in show("--depth", "9").output


def test_the_command_prints_json(show):
    summary = json.loads(show("--json").output)
    assert summary["kind"] == "Detector"
    assert [part["name"] for part in summary["parts"]] == ["encoder", "norm", "mamba", "head"]


def test_overrides_apply(show):
    assert json.loads(show("--json", "--set", "model.mamba.layers=2").output)["parts"][2]["parts"][0]["parts"][1]
