"""Losses without a reduction: what each element weighs in the root, and sums over all of them."""

import pytest
import torch
from torch.nn import functional
from watching_help import watched

MASK = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])
LABEL = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])


def recorded(reduce, folder):
    """Return the gradient event and the backward of one step on a table of losses that ``reduce`` makes a number."""

    def train():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 4)
        table = functional.binary_cross_entropy_with_logits(model(torch.randn(2, 3)), LABEL, reduction="none")
        root = reduce(table)
        root.backward()
        return float(root.detach())

    value, trace = watched(train, folder)
    return value, trace.events("loss_grad")[0], trace.events("backward")[0]


def test_weights_by_label_are_read_off_and_explain_the_root(tmp_path):
    value, loss, backward = recorded(lambda x: (x * torch.where(LABEL > 0, 5.0, 1.0) * MASK).sum() / 5, tmp_path)
    elements = loss["elements"]
    assert elements["explained"] == pytest.approx(value)
    assert elements["positive"] == pytest.approx([1.0, 1.0])
    assert elements["negative"] == pytest.approx([0.2, 0.2])
    assert (elements["low"], elements["high"]) == pytest.approx((0.0, 1.0))
    assert backward["summed"] == {"shape": [2, 4], "factor": pytest.approx(0.2)}


def test_a_negated_sum_that_is_divided_by_one(tmp_path):
    value, loss, backward = recorded(lambda x: -x.sum() / 1.0, tmp_path)
    assert loss["elements"]["high"] == -1.0
    assert loss["elements"]["explained"] == pytest.approx(value)
    assert backward["summed"] == {"shape": [2, 4], "factor": -1.0}


@pytest.mark.parametrize("reduce", [torch.mean, lambda x: x.sum(1).mean(), lambda x: x.sum() + x.mean()])
def test_what_is_more_than_a_sum_is_none(reduce, tmp_path):
    assert recorded(reduce, tmp_path)[2]["summed"] is None
