import math

import pytest
import torch

from brainbrr.config.training import Loss
from brainbrr.training.losses import best_constant, build_loss, positive_weight


def reference(logits, label, valid, gamma, weight):
    """Lin et al. 2017, eq. 4, term by term in float64."""
    total = 0.0
    for z, y, ok in zip(logits.double().flatten(), label.flatten(), valid.flatten(), strict=True):
        if ok:
            p = 1 / (1 + torch.exp(-z))
            p_t, w = (p, weight) if y > 0 else (1 - p, 1.0)
            total += -w * (1 - p_t) ** gamma * torch.log(p_t)
    return float(total)


@pytest.mark.parametrize(("name", "gamma", "used"), [("bce", 2.0, 0.0), ("focal", 2.0, 2.0), ("focal", 0.5, 0.5)])
def test_loss_follows_the_formula(name, gamma, used):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 40, generator=random) * 3
    label = (torch.rand(3, 40, generator=random) < 0.3).float()
    valid = torch.rand(3, 40, generator=random) < 0.8
    loss = build_loss(Loss(name=name, gamma=gamma), 4.0)(logits, label, valid)
    assert float(loss) == pytest.approx(reference(logits, label, valid, used, 4.0), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_is_finite_at_extreme_logits(gamma):
    logits = torch.tensor([[-200.0, -30.0, 0.0, 30.0, 200.0]] * 2, requires_grad=True)
    label = torch.tensor([[0.0] * 5, [1.0] * 5])
    build_loss(Loss(gamma=gamma), 3.0)(logits, label, torch.ones(2, 5, dtype=torch.bool)).backward()
    assert torch.isfinite(logits.grad).all()


def test_masked_samples_have_no_gradient_whatever_they_hold():
    logits = torch.tensor([[1.0, float("inf")]], requires_grad=True)
    build_loss(Loss(name="bce"), 1.0)(logits, torch.tensor([[0.0, 0.0]]), torch.tensor([[True, False]])).backward()
    assert logits.grad[0, 0] > 0
    assert logits.grad[0, 1] == 0


def test_sums_of_parts_add_up():
    logits, label, valid = torch.randn(5, 8), torch.ones(5, 8), torch.ones(5, 8, dtype=torch.bool)
    loss = build_loss(Loss(), 2.0)
    parts = loss(logits[:2], label[:2], valid[:2]) + loss(logits[2:], label[2:], valid[2:])
    torch.testing.assert_close(parts, loss(logits, label, valid))


@pytest.mark.parametrize(
    ("setting", "share", "weight"),
    [
        ("index", 0.1, 9.0),
        ("index", 0.001, 20.0),
        ("index", 0.8, 1.0),
        ("index", 0.0, 1.0),
        ("none", 0.1, 1.0),
        (2.5, 0.1, 2.5),
    ],
)
def test_positive_weight(setting, share, weight):
    assert positive_weight(Loss(positive_weight=setting), share) == pytest.approx(weight)


@pytest.mark.parametrize("name", ["bce", "focal"])
@pytest.mark.parametrize(("share", "weight"), [(0.2, 1.0), (0.2, 4.0), (0.05, 1.0), (0.5, 1.0)])
def test_at_the_best_constant_no_logit_wants_to_move(name, share, weight):
    config = Loss(name=name)
    p = best_constant(config, weight, share)
    logits = torch.full((1, 1000), math.log(p / (1 - p)), dtype=torch.float64, requires_grad=True)
    label = (torch.arange(1000)[None] < 1000 * share).double()
    build_loss(config, weight)(logits, label, torch.ones(1, 1000, dtype=torch.bool)).backward()
    assert abs(float(logits.grad.sum())) < 1e-3 * float(logits.grad.abs().sum())
    if (name, weight) == ("bce", 1.0):
        assert p == pytest.approx(share, abs=1e-4)
