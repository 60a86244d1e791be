"""The bidirectional layer: both halves meet at the same step."""

import pytest
import torch

from brainbrr.config.model import Mamba
from brainbrr.errors import ConfigError
from brainbrr.models.bimamba import BiMamba2, BiMamba2Layer

LENGTH = 70


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return BiMamba2Layer(Mamba(headdim=8), 16).double()


def moved_steps(layer, step):
    u = torch.randn(1, LENGTH, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    other = u.clone()
    other[:, step] += 1
    with torch.no_grad():
        change = (layer(other) - layer(u)).abs().amax((0, 2))
    return change.nonzero().flatten().tolist()


@pytest.mark.parametrize("step", [0, 1, 33, LENGTH - 1])
def test_each_half_moves_exactly_its_side_of_a_changed_step(layer, step):
    """With one half silenced at the projection, the other shows which steps it reaches."""
    with torch.no_grad():
        layer.projection.weight[:, 16:] = 0
    assert moved_steps(layer, step) == list(range(step, LENGTH))
    torch.manual_seed(2)
    layer.projection.reset_parameters()
    with torch.no_grad():
        layer.projection.weight[:, :16] = 0
    assert moved_steps(layer, step) == list(range(step + 1))


def test_reversing_time_swaps_the_halves(layer):
    u = torch.randn(2, LENGTH, 16, dtype=torch.float64)
    swapped = BiMamba2Layer(Mamba(headdim=8), 16).double()
    swapped.load_state_dict(layer.state_dict())
    swapped.forward_mamba, swapped.backward_mamba = swapped.backward_mamba, swapped.forward_mamba
    with torch.no_grad():
        weight = layer.projection.weight
        swapped.projection.weight.copy_(torch.cat([weight[:, 16:], weight[:, :16]], dim=1))
        torch.testing.assert_close(swapped(u.flip(1)).flip(1), layer(u), rtol=1e-12, atol=1e-12)


def test_the_stack_normalizes_its_output():
    torch.manual_seed(0)
    stack = BiMamba2(Mamba(layers=3, headdim=8), 32)
    out = stack(5 * torch.randn(2, 40, 32))
    assert len(stack.layers) == 3
    torch.testing.assert_close(out.std(-1, correction=0), torch.ones(2, 40), rtol=1e-3, atol=1e-3)


def test_dropout_acts_in_training_only():
    stack = BiMamba2(Mamba(layers=1, headdim=8, dropout=0.5), 32)
    u = torch.randn(1, 20, 32)
    assert not torch.equal(stack(u), stack(u))
    stack.eval()
    assert torch.equal(stack(u), stack(u))


def test_a_width_that_the_cuda_kernels_refuse_is_refused():
    with pytest.raises(ConfigError, match="no multiple of headdim"):
        BiMamba2(Mamba(headdim=64), 16)
