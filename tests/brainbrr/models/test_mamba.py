"""Mamba-2: parameters, initialization and values of mamba-ssm's layer, causality, precision."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from brainbrr.models import Mamba2

GOLDEN = Path(__file__).with_name("golden") / "mamba2.npz"
SHAPES = {
    "plain": {"d_state": 8, "d_conv": 4, "expand": 2, "headdim": 8, "ngroups": 1},
    "grouped": {"d_state": 16, "d_conv": 3, "expand": 2, "headdim": 8, "ngroups": 2},
}


def test_state_dict_is_that_of_mamba_ssm_at_production_width():
    layer = Mamba2(512, d_state=16, d_conv=4, expand=2, headdim=64)
    assert [(name, tuple(value.shape)) for name, value in layer.state_dict().items()] == [
        ("dt_bias", (16,)),
        ("A_log", (16,)),
        ("D", (16,)),
        ("in_proj.weight", (2096, 512)),
        ("conv1d.weight", (1056, 1, 4)),
        ("conv1d.bias", (1056,)),
        ("norm.weight", (1024,)),
        ("out_proj.weight", (512, 1024)),
    ]
    assert sum(p.numel() for p in layer.parameters()) == 1_603_792
    assert not list(layer.buffers())


@pytest.fixture(params=SHAPES)
def golden(request):
    with np.load(GOLDEN) as arrays:
        prefix = f"{request.param}/"
        stored = {key.removeprefix(prefix): torch.from_numpy(arrays[key]) for key in arrays if key.startswith(prefix)}
    return SHAPES[request.param], stored


def part(stored, prefix):
    return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}


def test_the_same_seed_gives_the_same_layer_as_mamba_ssm(golden):
    shape, stored = golden
    torch.manual_seed(0)
    layer = Mamba2(16, **shape)
    state = part(stored, "state/")
    assert list(layer.state_dict()) == list(state)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("chunk_size", [16, 32])
def test_values_and_gradients_are_those_of_mamba_ssm(golden, chunk_size):
    shape, stored = golden
    layer = Mamba2(16, **shape, chunk_size=chunk_size, kernel="torch")
    layer.load_state_dict(part(stored, "state/"), strict=True)
    layer = layer.double()
    # The generator draws the layer, the input and these weights of the outputs from one seed.
    torch.manual_seed(0)
    Mamba2(16, **shape)
    u, weights = torch.randn(2, 37, 16), torch.randn(2, 37, 16)
    u = u.double().requires_grad_()
    torch.testing.assert_close(u.detach(), stored["u"], rtol=0, atol=0)
    out = layer(u)
    (out * weights.double()).sum().backward()
    torch.testing.assert_close(out.detach(), stored["out"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(u.grad, stored["du"], rtol=1e-9, atol=1e-9)
    for name, parameter in layer.named_parameters():
        # The reference rounds some parameters to float32 on their way, and with them these gradients.
        tolerance = 1e-5 * stored[f"grad/{name}"].abs().max().item()
        torch.testing.assert_close(parameter.grad, stored[f"grad/{name}"], rtol=0, atol=tolerance, msg=name)


def test_initial_decay_rates_and_steps_are_in_their_ranges():
    torch.manual_seed(0)
    layer = Mamba2(512, headdim=8)
    rates = layer.A_log.exp()
    steps = torch.nn.functional.softplus(layer.dt_bias)
    assert 1 <= rates.min() < 2
    assert 15 < rates.max() <= 16
    assert 1e-3 * 0.999 <= steps.min() < 2e-3
    assert 5e-2 < steps.max() <= 1e-1 * 1.001
    assert (layer.D == 1).all()


def test_three_parameters_are_marked_against_weight_decay():
    marked = {name for name, p in Mamba2(16, headdim=8).named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_bias"}


@pytest.mark.parametrize("step", [0, 20, 47])
def test_a_step_moves_itself_and_what_follows_only(step):
    torch.manual_seed(0)
    layer = Mamba2(16, headdim=8).double()
    u = torch.randn(1, 48, 16, dtype=torch.float64)
    moved = u.clone()
    moved[:, step] += 1
    with torch.no_grad():
        change = (layer(moved) - layer(u)).abs().amax((0, 2))
    assert (change[:step] == 0).all()
    assert (change[step:] > 0).all()


def test_bf16_autocast_keeps_the_state_in_float32():
    torch.manual_seed(0)
    layer = Mamba2(32, headdim=8)
    u = torch.randn(2, 300, 32, requires_grad=True)
    exact = layer(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(u)
        rounded.float().square().sum().backward()
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.02 * exact.abs().max().item())
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_cast_as_a_whole_still_scans_in_float32(dtype):
    torch.manual_seed(0)
    layer = Mamba2(32, headdim=8)
    u = torch.randn(2, 100, 32)
    exact = layer(u)
    rounded = layer.to(dtype)(u.to(dtype))
    rounded.float().square().sum().backward()
    assert rounded.dtype == dtype
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.02 * exact.abs().max().item())
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in layer.parameters())


def test_shapes_alone_pass_on_the_meta_device():
    layer = Mamba2(32, headdim=8).to("meta")
    assert layer(torch.empty(2, 40, 32, device="meta")).shape == (2, 40, 32)


def test_backward_inside_autocast_gives_the_same_gradients():
    torch.manual_seed(0)
    layer = Mamba2(16, headdim=8)
    u = torch.randn(1, 40, 16)
    gradients = []
    for inside in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = layer(u).float().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


def test_a_copy_is_independent():
    layer = Mamba2(16, headdim=8)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        layer.D.add_(1)
    assert (twin.D == 1).all()
