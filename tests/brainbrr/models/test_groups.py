"""Which parameters decay."""

import pytest
from torch import nn

from brainbrr.models import build_detector, parameter_groups


@pytest.mark.parametrize("name", ["tcn", "unet"])
def test_every_parameter_is_in_one_group(config_of, name):
    model = build_detector(config_of({"name": name, "channels": [8, 64]}))
    names = {id(p): n for n, p in model.named_parameters()}
    decaying, exempt = parameter_groups(model, 0.05)
    assert decaying["weight_decay"] == 0.05
    assert exempt["weight_decay"] == 0
    members = [names[id(p)] for group in (decaying, exempt) for p in group["params"]]
    assert sorted(members) == sorted(names.values())
    exempt_names = {names[id(p)] for p in exempt["params"]}
    mamba = "mamba.layers.0.forward_mamba."
    assert {mamba + p for p in ("A_log", "D", "dt_bias", "conv1d.bias", "norm.weight")} <= exempt_names
    assert {"norm.weight", "norm.bias", "head.projection.bias", "mamba.layers.0.norm.weight"} <= exempt_names
    assert not {mamba + p for p in ("in_proj.weight", "conv1d.weight", "out_proj.weight")} & exempt_names
    assert "head.projection.weight" not in exempt_names
    norms = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.BatchNorm1d | nn.LayerNorm)}
    assert norms <= exempt_names


def test_magnitudes_of_weight_norm_do_not_decay(config_of):
    model = build_detector(config_of({"name": "tcn", "channels": [64]}))
    names = {id(p): n for n, p in model.named_parameters()}
    exempt = {names[id(p)] for p in parameter_groups(model, 0.1)[1]["params"]}
    assert sum(name.endswith("weight.original0") for name in exempt) == 16
    assert not any(name.endswith("weight.original1") for name in exempt)


def test_frozen_parameters_are_left_out(config_of):
    model = build_detector(config_of({"name": "tcn", "channels": [64]}))
    model.encoder.requires_grad_(False)
    members = {id(p) for group in parameter_groups(model, 0.1) for p in group["params"]}
    assert not members & {id(p) for p in model.encoder.parameters()}
    assert members == {id(p) for p in model.parameters() if p.requires_grad}
