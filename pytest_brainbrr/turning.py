"""How two readings of one sample lie to each other: turned around, or cut at another place. Signal and label alike?

Readings are compared by correlation, whatever their scale, offset and a little noise. Limits: labels with a value per
place of the signal's axis, 16 places or more; cuts only of up to 512 places, by half of them at most.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pytest_brainbrr.observers.tensors import leaves

SHORTEST, LONGEST_CUT, LARGEST = 16, 512, 1 << 20
ALIKE, UNLIKE = 0.98, 0.95
Array = np.ndarray[Any, Any]
Way = tuple[bool, int]
"""Turned around or not, and by how many places cut elsewhere."""
SAME: Way = (False, 0)


def pairs(sample: Any) -> Iterator[tuple[str, str, Array, Array]]:
    """Yield places and values of signals and labels over one axis, which comes last: (channels, places), (places,)."""
    arrays = [(at, _array(value)) for at, value in leaves(sample)]
    known = [(at, value) for at, value in arrays if value is not None and 0 < value.size <= LARGEST]
    if not known:
        return
    at, signal = max(known, key=lambda pair: pair[1].size)
    if signal.dtype.kind != "f":
        return
    for label_at, label in known:
        flat = label.reshape([size for size in label.shape if size != 1])
        if label_at == at or flat.ndim != 1 or flat.size < SHORTEST:
            continue
        axes = [axis for axis, size in enumerate(signal.shape) if size == flat.size]
        if len(axes) == 1:
            yield at, label_at, np.moveaxis(signal, axes[0], -1).reshape(-1, flat.size).astype(np.float64), flat


def _array(value: Any) -> Array | None:
    if isinstance(value, Tensor):
        return value.detach().cpu().float().numpy() if value.dtype.is_floating_point else value.detach().cpu().numpy()
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" else None


def informative(label: Array) -> bool:
    """Return whether a label would look different if it were turned around, and does not just count the places."""
    return not np.array_equal(label, label[::-1]) and not bool((np.diff(label.astype(np.float64)) > 0).all())


def way(one: Array, other: Array) -> Way | None:
    """Return how a signal was turned or cut between two readings, None if that cannot be told for sure."""
    found = sorted(((_alike(one, other, place), place) for place in _ways(one.shape[-1])), reverse=True)
    if found[0][0] < ALIKE or (len(found) > 1 and found[1][0] > UNLIKE):
        return None
    return found[0][1]


def _ways(size: int) -> list[Way]:
    cuts = range(-(size // 2), size // 2 + 1) if size <= LONGEST_CUT else [0]
    return [*((False, cut) for cut in cuts), (True, 0)]


def _overlap(one: Array, other: Array, place: Way) -> tuple[Array, Array]:
    turned, cut = place
    size = one.shape[-1]
    other = other[..., ::-1] if turned else other
    return (one[..., cut:], other[..., : size - cut]) if cut >= 0 else (one[..., :cut], other[..., -cut:])


def _alike(one: Array, other: Array, place: Way) -> float:
    left, right = (part - part.mean(axis=-1, keepdims=True) for part in _overlap(one, other, place))
    size = float(np.sqrt((left * left).sum() * (right * right).sum()))
    return float((left * right).sum() / size) if size > 0 and np.isfinite(size) else 0.0


def apart(one: tuple[Array, Array], other: tuple[Array, Array]) -> bool | None:
    """Return whether a label went another way than its signal between two readings; None: neither moved, or unknown."""
    moved = way(one[0], other[0])
    if moved is None or not (informative(one[1]) and informative(other[1])):
        return None
    if _equal(one[1], other[1], moved):
        return None if moved == SAME else False
    return True if any(_equal(one[1], other[1], place) for place in _ways(one[1].size) if place != moved) else None


def _equal(one: Array, other: Array, place: Way) -> bool:
    """Return whether labels are equal where they overlap, up to a factor, and change there more than once."""
    left, right = (np.asarray(part, dtype=np.float64) for part in _overlap(one, other, place))
    if not np.any(left) or not np.any(right) or not (left != left[0]).any():
        return False
    if place[1] and np.count_nonzero(np.diff(left)) < 3:
        return False
    return bool(np.allclose(left / np.abs(left).max(), right / np.abs(right).max(), atol=1e-6))


def compare(readings: Sequence[Any]) -> dict[tuple[str, str], list[bool]]:
    """Return (signal, label) -> for each reading that moved against the first, whether they went apart."""
    first = {(at, label_at): (signal, label) for at, label_at, signal, label in pairs(readings[0])}
    found: dict[tuple[str, str], list[bool]] = {}
    for reading in readings[1:]:
        for at, label_at, signal, label in pairs(reading):
            before = first.get((at, label_at))
            if before is None or before[0].shape != signal.shape:
                continue
            verdict = apart(before, (signal, label))
            if verdict is not None:
                found.setdefault((at, label_at), []).append(verdict)
    return found
