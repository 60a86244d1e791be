"""A fresh detector is calm: logits at the prior, loss at its entropy, gradients of one order from end to end."""

import math

import pytest
import torch
from torch.nn import functional

from brainbrr.models import build_detector

SHARE = 0.05
SMOKE = ([8, 16, 32, 64], {"layers": 2, "headdim": 16})
PRODUCTION = ([64, 128, 256, 512], {"layers": 6, "headdim": 64})


def one_step(config_of, name, channels, mamba, *, share=SHARE, length=1024):
    torch.manual_seed(0)
    detector = build_detector(config_of({"name": name, "channels": channels}, mamba), seizure_share=share)
    logits = detector(torch.randn(2, 19, length))
    labels = (torch.arange(length) < share * length).float().expand(2, -1)
    loss = functional.binary_cross_entropy_with_logits(logits, labels)
    loss.backward()
    return detector, logits, loss


@pytest.mark.parametrize(
    "width", [pytest.param(SMOKE, id="smoke"), pytest.param(PRODUCTION, id="production", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["tcn", "unet"])
def test_a_fresh_detector_is_calm(config_of, name, width):
    detector, logits, loss = one_step(config_of, name, *width)
    entropy = -(SHARE * math.log(SHARE) + (1 - SHARE) * math.log(1 - SHARE))
    assert abs(logits.mean().item() - math.log(SHARE / (1 - SHARE))) < 0.25
    assert logits.std() < 1
    assert abs(loss.item() / entropy - 1) < 0.2
    matrices = [p.grad.norm().item() for p in detector.parameters() if p.ndim > 1 and p.numel() > p.shape[0]]
    assert 1 / 100 < matrices[0] / matrices[-1] < 100


@pytest.mark.parametrize("share", [None, 0.0, 1.0, 0.5])
def test_the_prior_stays_finite(config_of, share):
    detector = build_detector(config_of({"name": "tcn", "channels": [64], "blocks": 1}), seizure_share=share)
    bias = detector.head.projection.bias
    bounds = {None: 0.0, 0.5: 0.0, 0.0: math.log(0.001 / 0.999), 1.0: math.log(0.999 / 0.001)}
    assert torch.allclose(bias, torch.full_like(bias, bounds[share]))
