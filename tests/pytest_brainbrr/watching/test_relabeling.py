"""How labels are changed where loaders hand them out, and how a column that tells the label is recognized."""

import dataclasses
from typing import NamedTuple

import torch

from pytest_brainbrr.observers.telling import telling
from pytest_brainbrr.relabeling import agreement, other_labels, padding, replaced


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclasses.dataclass
class Sample:
    x: torch.Tensor
    y: torch.Tensor


def test_labels_are_moved_within_the_batch():
    label = torch.tensor([0, 0, 1, 2])
    changed, how = other_labels(label, [0, 1, 2])
    assert how == "moved"
    assert changed.dtype == label.dtype
    assert sorted(changed.tolist()) == [0, 0, 1, 2]
    assert changed.tolist() != label.tolist()


def test_labels_all_alike_take_the_next_value_of_the_run():
    assert other_labels(torch.ones(3), [0.0, 1.0])[0].tolist() == [0.0, 0.0, 0.0]
    assert other_labels(torch.ones(3), None) == (None, "alike")
    assert other_labels(torch.full((3,), -100), [0.0, 1.0]) == (None, "alike")


def test_every_other_batch_has_its_values_replaced():
    assert other_labels(torch.tensor([True, False]), [0.0, 1.0], turn=1)[1] == "replaced"
    assert other_labels(torch.eye(3), [0.0, 1.0], turn=1)[1] == "moved"


def test_containers_keep_their_kind_and_the_original_is_left_alone():
    x, y, z = torch.zeros(2), torch.ones(2), torch.full((2,), 7.0)
    for batch, at in (([x, y], "1"), ((x, y), "1"), (Pair(x, y), "y"), (Sample(x, y), "y"), ({"a": {"y": y}}, "a.y")):
        other = replaced(batch, at, z)
        assert type(other) is type(batch)
        assert any(part is z for part in _flat(other))
        assert any(part is y for part in _flat(batch))


def _flat(batch):
    if isinstance(batch, dict):
        return [part for value in batch.values() for part in _flat(value)]
    if isinstance(batch, Sample):
        return [batch.x, batch.y]
    return list(batch) if isinstance(batch, list | tuple) else [batch]


def test_a_channel_that_is_the_mask_is_told_from_signals():
    signal = torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(16) >= torch.tensor([[4], [8], [12], [2]])).long()
    assert telling(signal, mask) == ({}, 3)
    signal[:, 1] = 5 * mask - 1
    columns, of = telling(signal, mask)
    assert (list(columns), of) == (["1:1"], 3)
    assert columns["1:1"] > 40
    assert list(telling(signal.transpose(1, 2), mask)[0]) == ["-1:1"]


def test_a_constant_channel_or_column_that_is_the_label():
    label = torch.tensor([0, 1, 1, 0, 2, 2])
    signal = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(0))
    signal[:, 2] = label[:, None].float() ** 2
    assert list(telling(signal, label)[0]) == ["1:2"]
    table = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    table[:, 3] = 1.0
    assert telling(table, label) == ({}, 4)
    table[:, 0] = label.float()
    assert list(telling(table, label)[0]) == ["1:0"]


def test_shapes_and_labels_that_cannot_be_compared():
    label = torch.tensor([0, 1, 1, 0])
    assert telling(torch.randn(3, 4), label) is None
    assert telling(torch.randn(4, 4), torch.ones(4)) is None
    assert telling(torch.randn(4, 4), torch.arange(4 * 8).reshape(4, 8) % 3) is None


def ragged(lengths=(6, 8, 4), *, left=False):
    signal = torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(0))
    for row, length in enumerate(lengths):
        signal[row, slice(0, 8 - length) if left else slice(length, 8)] = 0
    return signal


def test_padding_is_where_all_channels_are_zero_to_the_end():
    lengths = torch.tensor([6, 8, 4])
    valid = torch.arange(8) < lengths[:, None]
    assert torch.equal(padding(ragged(), 8), ~valid)
    assert torch.equal(padding(ragged().transpose(1, 2), 8), ~valid)
    assert padding(ragged(left=True), 8).sum(1).tolist() == [2, 0, 4]


def test_masks_and_lengths_that_tell_the_padding():
    lengths = torch.tensor([6, 8, 4])
    valid = torch.arange(8) < lengths[:, None]
    under = padding(ragged(), 8)
    assert agreement(valid, under) is True
    assert agreement(~valid, under) is True
    assert agreement(lengths, under) is True
    assert agreement(valid, padding(ragged(left=True), 8)) is False
    assert agreement(torch.tensor([8, 8, 4]), under) is None
    assert agreement(torch.ones(3, 8, dtype=torch.bool), under) is None
    assert agreement(valid, torch.zeros_like(under)) is None
