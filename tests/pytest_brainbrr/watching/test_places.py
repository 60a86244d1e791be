"""Where gradients pull an output, beside what the batch holds."""

import numpy as np
import pytest
import torch

from pytest_brainbrr.observers.places import pulled

LABELS = {"y": np.array([0.0, 1.0, 1.0, 0.0])}


@pytest.mark.parametrize(("sign", "towards", "away"), [(1, 4, 0), (-1, 0, 4)])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_gradients_of_one_logit(sign, towards, away, shape):
    logits = torch.zeros(shape, requires_grad=True)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(LABELS["y"]).float().view(shape))
    (gradient,) = torch.autograd.grad(sign * loss, logits)
    assert pulled(gradient, LABELS) == [{"at": "y", "towards": towards, "away": away}]


@pytest.mark.parametrize(("sign", "towards", "away"), [(1, 12, 0), (-1, 0, 12)])
def test_gradients_of_classes(sign, towards, away):
    logits = torch.randn(4, 3, requires_grad=True)
    classes = {"y": np.array([0.0, 2.0, 1.0, 2.0])}
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(classes["y"]).long())
    (gradient,) = torch.autograd.grad(sign * loss, logits)
    assert pulled(gradient, classes) == [{"at": "y", "towards": towards, "away": away}]


@pytest.mark.parametrize("label", [np.zeros(4), np.array([0.0, 0.5, 1.0, 0.0]), np.array([0.0, 1.0]), np.ones((2, 4))])
def test_no_label_of_this_output(label):
    assert pulled(torch.ones(4), {"y": label}) == []


def test_elements_without_gradient_do_not_count():
    assert pulled(torch.tensor([0.0, -1.0, 0.0, 1.0]), LABELS) == [{"at": "y", "towards": 2, "away": 0}]
