"""The hand-written backward passes beside the scan, against automatic differentiation and finite differences."""

import pytest
import torch
from torch.nn import functional

from brainbrr.models.fused import conv_silu, gated_rms_norm


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape))).requires_grad_()


@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_convolution(taps, length):
    x, weight, bias = draw(2, length, 6), draw(6, taps), draw(6)
    plain = functional.conv1d(x.mT, weight[:, None], bias, padding=taps - 1, groups=6)[..., :length].mT
    torch.testing.assert_close(conv_silu(x, weight, bias), functional.silu(plain), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(conv_silu, (x, weight, bias))


def test_convolution_of_a_slice_is_that_of_its_copy():
    wide = draw(2, 12, 20)
    part, weight, bias = wide[..., 5:11], draw(6, 4), draw(6)
    ours = torch.autograd.grad(conv_silu(part, weight, bias).sum(), (wide, weight, bias))
    copied = torch.autograd.grad(conv_silu(part.contiguous(), weight, bias).sum(), (wide, weight, bias))
    for one, other in zip(ours, copied, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_gated_norm(groups):
    y, z, weight = draw(2, 5, 8), draw(2, 5, 8) + 1, draw(8)
    gated = (y * functional.silu(z)).view(2, 5, groups, -1)
    plain = functional.rms_norm(gated, gated.shape[-1:], eps=1e-5).view(2, 5, 8) * weight
    torch.testing.assert_close(gated_rms_norm(y, z, weight, groups, 1e-5), plain, rtol=1e-12, atol=1e-12)
    z = z.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: gated_rms_norm(*args, groups, 1e-5), (y, z, weight))
