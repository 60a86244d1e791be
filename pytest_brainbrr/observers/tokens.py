"""Token sequences in a batch: how labels lie to the tokens, and what stands where there is padding.

Limits: integer tensors (sample, place) of at most 65536 numbers, under the names that tokenizers use for mask and
labels; small alphabets say nothing.
"""

import re
from typing import Any

import torch
from torch import Tensor

from pytest_brainbrr.observers.tensors import digest

MASK = re.compile(r"(^|[._])attention_mask$")
LABELS = re.compile(r"(^|[._])labels?$")
MOST, MOST_ROWS, SHORTEST, TELLING, ALPHABET, IGNORED = 1 << 16, 256, 4, 16, 8, -100
SHIFTS = (0, 1, 2)


def token_facts(parts: list[tuple[str, Tensor]]) -> dict[str, Any] | None:
    """Return what the vocabulary says of `tokens`, or None where no part is a table of tokens."""
    tables = {
        at: value.detach()
        for at, value in parts
        if value.dim() == 2 and value.dtype in {torch.int64, torch.int32} and value.shape[1] >= SHORTEST
        and SHORTEST < value.numel() <= MOST and not value.is_meta
    }  # fmt: skip
    sequences = {at: value for at, value in tables.items() if value.unique().numel() > ALPHABET}
    if not sequences:
        return None
    return {
        "targets": {at: {str(shift): _shifted(value, shift) for shift in SHIFTS} for at, value in sequences.items()},
        "shifts": [
            {"of": one, "to": other, "shift": shift}
            for one, label in sequences.items()
            for other, given in sequences.items()
            if one != other and label.shape == given.shape and (shift := _shift(label, given)) is not None
        ],
        "padding": _padding(tables),
        "rows": _rows(tables, sequences),
    }


def _rows(tables: dict[str, Tensor], sequences: dict[str, Tensor]) -> list[str | None] | None:
    """Return the digest of each sequence without its padding; None for those that may be equal by chance."""
    mask = next((value for at, value in tables.items() if MASK.search(at)), None)
    tokens = next((value for at, value in sequences.items() if not LABELS.search(at)), None)
    if mask is None or tokens is None or mask.shape != tokens.shape or len(tokens) > MOST_ROWS:
        return None
    rows = [row[kept != 0] for row, kept in zip(tokens, mask, strict=True)]
    return [digest(row) if len(row) >= TELLING and row.unique().numel() > ALPHABET else None for row in rows]


def _shifted(value: Tensor, shift: int) -> list[str | None]:
    """Return digests of a table moved ahead, cut off at its end or filled up with the index that losses ignore."""
    filled = torch.nn.functional.pad(value, (0, shift), value=IGNORED)[:, shift:]
    return [digest(value[:, shift:].contiguous()), digest(filled.contiguous())]


def _shift(label: Tensor, given: Tensor) -> int | None:
    """Return by how many places a label is ahead of the tokens, where it equals them at every counted place."""
    found = []
    for shift in SHIFTS:
        ahead, tokens = label[:, : label.shape[1] - shift], given[:, shift:]
        counted = ahead != IGNORED
        if int(counted.sum()) > ALPHABET and bool((ahead == tokens)[counted].all()):
            found.append(shift)
    return found[0] if len(found) == 1 else None


def _padding(tables: dict[str, Tensor]) -> dict[str, Any] | None:
    mask = next((value for at, value in tables.items() if MASK.search(at)), None)
    label = next((value for at, value in tables.items() if LABELS.search(at)), None)
    if mask is None or label is None or mask.shape != label.shape:
        return None
    values = label[mask == 0].unique()
    return {"places": int((mask == 0).sum()), "values": values[:4].tolist(), "elements": label.numel()}
