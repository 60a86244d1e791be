"""Channels and columns of a signal that tell the label: their values are a function of it.

Limits: labels of at most 16 values; a channel tells the label of a sample only if it is constant in each sample.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_brainbrr.observers.tensors import plain

FEW = 16
LARGEST = 1 << 24


def told(tensors: Sequence[tuple[str, Tensor]], facts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each pair of a signal and a label of few values in a batch, the columns that tell the label."""
    found = []
    for label_at, label in tensors:
        fact = facts[label_at]
        if not fact["values"] or fact["constant"] or not 1 < len(fact["shape"]) + 1 <= 4:
            continue
        for at, signal in tensors:
            columns = telling(signal, label) if at != label_at else None
            if columns is not None:
                found.append({"label": label_at, "signal": at, "columns": columns[0], "of": columns[1]})
    return found


def telling(signal: Tensor, label: Tensor) -> tuple[dict[str, float], int] | None:
    """Return the columns of a signal that are a function of the label, and how many columns there are.

    The number that goes with a column is how many bits of chance it would take: the logarithm of the number of ways to
    arrange its values. None where shapes do not fit, or the label has one value only or none twice.
    """
    if not (plain(signal) and plain(label)) or signal.shape[:1] != label.shape[:1] or signal.numel() > LARGEST:
        return None
    if signal.is_complex() or not label.numel():
        return None
    values, classes = label.detach().unique(return_inverse=True)
    if not 1 < values.numel() <= FEW or values.numel() == label.numel():
        return None  # where no two samples share a value, every column is a function of it
    columns: dict[str, float] = {}
    count = 0
    fits = False
    for axis, table in _tables(signal.detach(), label):
        fits, count = True, max(count, table.shape[1])
        columns.update({f"{axis}:{column}": bits for column, bits in _functions(table, classes.reshape(-1))})
    return (columns, count) if fits else None


def _tables(signal: Tensor, label: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the axis of the columns, and a table with a row per label. NaN marks columns that change in a sample."""
    rows = label.shape[0]
    if label.numel() == rows:
        if signal.dim() == 2:
            yield "1", signal
        elif signal.dim() > 2:
            yield "1", _constant(signal.flatten(2))
            yield "-1", _constant(signal.flatten(1, -2).transpose(1, 2))
    elif signal.dim() == label.dim() + 1:
        if signal.shape[2:] == label.shape[1:]:
            yield "1", signal.movedim(1, -1).reshape(-1, signal.shape[1])
        if signal.shape[1:-1] == label.shape[1:]:
            yield "-1", signal.reshape(-1, signal.shape[-1])


def _constant(blocks: Tensor) -> Tensor:
    """Return, of (rows, columns, places), the value of each column that is constant in every row, else NaN."""
    first = blocks[:, :, 0]
    kept = (first == blocks[:, :, -1]).all(0)
    for column in kept.nonzero().flatten().tolist():
        kept[column] = bool((blocks[:, column] == first[:, column, None]).all())
    return torch.where(kept, first.double(), torch.nan)


def _functions(table: Tensor, classes: Tensor) -> Iterator[tuple[int, float]]:
    """Yield the columns whose values are a function of the class, and no constant."""
    candidates = torch.ones(table.shape[1], dtype=torch.bool, device=table.device)
    groups = [(classes == number).nonzero().flatten() for number in range(int(classes.max()) + 1)]
    for group in groups:
        # Two rows settle it for nearly every column.
        candidates &= table[group[0]] == table[group[-1]]
    for column in candidates.nonzero().flatten().tolist():
        values = table[:, column]
        if all(bool((values[group] == values[group[0]]).all()) for group in groups):
            counts = values.unique(return_counts=True)[1].tolist()
            if len(counts) > 1:
                yield column, _bits(counts) - 1


def _bits(counts: Sequence[int]) -> float:
    return (math.lgamma(sum(counts) + 1) - sum(math.lgamma(count + 1) for count in counts)) / math.log(2)
