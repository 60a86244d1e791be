"""Where in a batch something is: masks, padding, gradients that arrive.

Places are sets of (row, position), packed into hexadecimal digits. Limits: tables of at most 65536 places; a mask is a
tensor of two dimensions that holds only 0 and 1, or flags.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pytest_brainbrr.observers.tensors import plain

MOST = 1 << 16
MOST_ROWS = 256


def packed(table: Tensor) -> str:
    """Return a table of flags as hexadecimal digits, row by row."""
    return np.packbits(table.cpu().numpy().astype(bool).reshape(-1)).tobytes().hex()


def of_batch(tensor: Tensor) -> dict[str, Any]:
    """Return ``bits`` of a mask; of a signal ``empty`` and ``empty_last``, its all-zero places along axes 1 and 2."""
    if not plain(tensor) or tensor.dim() not in {2, 3} or not 0 < tensor.numel() <= MOST * 16:
        return {}
    value = tensor.detach()
    if value.dim() == 2:
        if value.numel() > MOST or value.is_complex() or not bool(((value == 0) | (value == 1)).all()):
            return {}
        return {"bits": packed(value != 0)}
    if not value.is_floating_point():
        return {}
    return {"empty": _empty(value, 2), "empty_last": _empty(value, 1)}


def _empty(value: Tensor, axis: int) -> str | None:
    table = (value == 0).all(dim=axis)
    return packed(table) if table.numel() <= MOST and bool(table.any()) else None


def of_gradient(gradient: Tensor) -> dict[str, Any]:
    """Return which rows, and which places along axes 1 and 2, hold a gradient other than zero."""
    value = gradient.detach()
    rows = value.reshape(value.shape[0], -1) if value.dim() else value.reshape(1, 1)
    found: dict[str, Any] = {"rows": None, "live": None, "live_last": None}
    if rows.shape[0] <= MOST_ROWS:
        found["rows"] = (rows != 0).any(dim=1).tolist()
    if value.dim() in {2, 3}:
        table = value != 0 if value.dim() == 2 else (value != 0).any(dim=2)
        found["live"] = packed(table) if table.numel() <= MOST else None
    if value.dim() == 3:
        table = (value != 0).any(dim=1)
        found["live_last"] = packed(table) if table.numel() <= MOST else None
    return found


def pulled(gradient: Tensor, labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return which way gradients move an output, for each tensor of the batch that could be its label.

    ``away`` counts those that lower it where the label is 1 or raise it where it is 0, ``towards`` the reverse.
    """
    if not gradient.is_floating_point() or not 0 < gradient.numel() <= MOST or not gradient.dim():
        return []
    value = gradient.detach().double().cpu().numpy()
    found = []
    for at, label in labels.items():
        up = _raised_by(value, label)
        if up is not None:
            flat = value.reshape(up.shape)
            towards, away = int(((flat < 0) == up)[flat != 0].sum()), int(((flat > 0) == up)[flat != 0].sum())
            found.append({"at": at, "towards": towards, "away": away})
    return found[:8]


def _raised_by(value: Any, label: Any) -> Any:
    """Return where a label of both kinds asks for a higher output, or None where it is no such label."""
    if label.size == value.size and label.shape[:1] == value.shape[:1]:
        flags = bool(np.isin(label, (0.0, 1.0)).all()) and 0 < label.sum() < label.size
        return label.reshape(value.shape) > 0 if flags and _squeezed(label.shape) == _squeezed(value.shape) else None
    classes = label.ndim == 1 and value.ndim == 2 and len(label) == len(value)
    if classes and (label == np.floor(label)).all() and 0 <= label.min() < label.max() < value.shape[1]:
        return np.arange(value.shape[1]) == label[:, None]
    return None


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length > 1)


def small_copies(parts: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
    """Return copies, as arrays, of the small real tensors of a batch, to score what the model makes of it."""
    found = {}
    for at, value in parts:
        if plain(value) and 0 < value.dim() <= 3 and 0 < value.numel() <= 4096 and not value.is_complex():
            found[at] = value.detach().double().cpu().numpy().copy()
    return found


def scored(output: Tensor, labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how an output does against each tensor of the batch that could be its label."""
    if not plain(output) or not output.is_floating_point() or not 0 < output.numel() <= MOST or not output.dim():
        return []
    value = output.detach().double().cpu().numpy()
    found = []
    for at, label in labels.items():
        for guess, kind in _guesses(value, label):
            fact: dict[str, Any] = {"at": at, "kind": kind, "n": int(label.size)}
            if kind == "classes":
                real = label >= 0
                fact["n"], fact["hits"] = int(real.sum()), int((guess == label)[real].sum())
                if np.isin(label, (0.0, 1.0)).all() and (guess <= 1).all():
                    fact["confusion"] = _confusion(guess == 1, label == 1)
            else:
                gap = guess - label
                fact["absolute"], fact["squared"] = float(np.abs(gap).sum()), float((gap**2).sum())
                if np.isin(label, (0.0, 1.0)).all():
                    fact["hits"] = int(((guess > 0) == (label > 0)).sum())
                    fact["hits_half"] = int(((guess > 0.5) == (label > 0)).sum())
                    fact["confusion"] = _confusion(guess > 0, label > 0)
                    fact["confusion_half"] = _confusion(guess > 0.5, label > 0)
                    fact["outside"] = bool((guess < 0).any() or (guess > 1).any())
            found.append(fact)
    return found[:8]


def _confusion(guess: Any, label: Any) -> list[int]:
    """Return hits, false alarms and misses of the positive class."""
    return [int((guess & label).sum()), int((guess & ~label).sum()), int((~guess & label).sum())]


def _guesses(value: Any, label: Any) -> Iterable[tuple[Any, str]]:
    flat = value[..., 0] if value.ndim > 1 and value.shape[-1] == 1 and value.ndim == label.ndim + 1 else value
    if flat.shape == label.shape:
        yield flat, "numbers"
    whole = (label == np.floor(label)).all()
    if whole and value.ndim == label.ndim + 1 and value.shape[:-1] == label.shape and value.shape[-1] > label.max():
        yield value.argmax(-1), "classes"
    elif (
        whole
        and value.ndim == 3
        and label.ndim == 2
        and (value.shape[0], value.shape[2]) == label.shape
        and value.shape[1] > label.max()
    ):
        yield value.argmax(1), "classes"
