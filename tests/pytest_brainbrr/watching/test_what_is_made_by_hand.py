"""Losses, sums and samplers that trainers put together themselves, as the observers see them."""

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from watching_help import watched


def stepping(loss_of, steps=4, keep=False):
    def train():
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        total = 0.0
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(4, 3)))
            loss.backward()
            optimizer.step()
            total = total + loss if keep else total + loss.item()
        return total

    return train


@pytest.mark.parametrize(("keep", "alive"), [(False, [1, 1, 1, 1]), (True, [1, 2, 3, 4])])
def test_graphs_that_a_sum_keeps_alive_are_counted(keep, alive, tmp_path):
    _, trace = watched(stepping(torch.mean, keep=keep), tmp_path)
    assert [event["histories"] for event in trace.events("memory", after=True)][:4] == alive


@pytest.mark.parametrize(
    ("loss_of", "tables"),
    [
        (lambda out: -(torch.ones(4) * nn.functional.logsigmoid(out)).mean(), [[4, 1]]),
        (lambda out: -(torch.ones(4, 1) * nn.functional.logsigmoid(out)).mean(), []),
        (lambda out: (torch.eye(4) * out).mean(), []),  # a mask of pairs makes a table on purpose
        (lambda out: (out - out.T).square().mean(), []),
    ],
)
def test_products_that_span_a_table_of_pairs(loss_of, tables, tmp_path):
    _, trace = watched(stepping(loss_of, steps=1), tmp_path)
    assert trace.events("backward")[0]["tables"] == tables


def test_a_sampler_inside_a_batch_sampler_gives_the_order(tmp_path):
    data = TensorDataset(torch.randn(6, 3))

    def train():
        for _ in DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 2, drop_last=False)):
            pass

    _, trace = watched(train, tmp_path)
    (loader,) = trace.events("loader")
    assert (loader["sampler"], loader["sampler_kind"]) == ("RandomSampler", "random")


def test_softmax_leaves_its_axis_once_and_is_put_back(tmp_path):
    originals = torch.softmax, torch.Tensor.softmax
    _, trace = watched(lambda: torch.softmax(torch.randn(4, 3), dim=0), tmp_path)
    assert [(event["function"], event["axis"]) for event in trace.events("choice")] == [("softmax", 0)]
    assert (torch.softmax, torch.Tensor.softmax) == originals
