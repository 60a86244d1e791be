"""Change the labels of batches where loaders hand them out: the `relabeled` and `padded` runs. Invasive, only there.

Labels are moved to other samples of their batch; where that changes nothing (and at every other batch, for labels of
one value per sample) each value is replaced by the next one of those seen in the run. Type, shape and the set of
values stay. A batch whose tensors are not those of the straight run is left alone.

The model's first input is looked at for the changed labels: `probe` events named ``label_sensitivity``, whose result is
``columns``, place of the argument -> columns that tell the label.
"""

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.telling import telling
from pytest_brainbrr.observers.tensors import digest, leaves, plain, tensor_leaves

KEPT, LOOKED_AT = 4, 4
ENOUGH_BITS = 3.0


class Relabeling:
    """Changes the labels that the plan names, and looks for them in the model's first inputs."""

    def __init__(self, watch: Watch, places: Sequence[Mapping[str, Any]]) -> None:
        self.watch = watch
        self._places: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for place in places:
            self._places.setdefault((place["epoch"], place["position"]), []).append(place)
        self._recent: deque[Tensor] = deque(maxlen=KEPT)
        self._looked = 0

    def install(self) -> None:
        """Ask loaders for their batches, and models for their inputs."""
        if self._places:
            self.watch.shared["change_batch"] = self.change
            self.watch.shared["keep_input"] = self._look

    def change(self, epoch: str, position: int, batch: Any) -> Any:
        """Return the batch with other labels, or as it is."""
        for place in self._places.get((epoch, position), ()):
            label = dict(leaves(batch)).get(place["at"])
            if not isinstance(label, Tensor) or digest(label) != place["digest"]:
                continue
            changed, how = other_labels(label, place["values"], turn=position)
            if changed is None:
                continue
            batch = replaced(batch, place["at"], changed)
            if place["sure"]:
                self._recent.append(changed)
            self.watch.emit(
                "relabel",
                epoch=epoch,
                position=position,
                at=place["at"],
                how=how,
                sure=place["sure"],
                rows=int((changed != label).reshape(label.shape[0], -1).any(1).sum()),
            )
        return batch

    def _look(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._looked >= LOOKED_AT or not self._recent:
            return
        self._looked += 1
        columns: dict[str, list[str]] = {}
        for at, given in tensor_leaves({"args": args, "kwargs": kwargs}):
            for label in self._recent:
                found = telling(given, label)
                told = [column for column, bits in found[0].items() if bits > ENOUGH_BITS] if found is not None else []
                if found is not None and 0 < len(told) < found[1]:
                    columns[at] = told[:8]
        self.watch.emit(
            "probe",
            name="label_sensitivity",
            model=type(module).__name__,
            at="first",
            result={"columns": columns},
            raised=None,
        )


class PaddedLabels:
    """Changes labels where the signal is padded, and nothing else: the `padded` run."""

    def __init__(self, watch: Watch, places: Sequence[Mapping[str, Any]]) -> None:
        self.watch = watch
        self._places: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for place in places:
            self._places.setdefault((place["epoch"], place["position"]), []).append(place)

    def install(self) -> None:
        """Ask loaders for their batches."""
        if self._places:
            self.watch.shared["change_batch"] = self.change

    def change(self, epoch: str, position: int, batch: Any) -> Any:
        """Return the batch with other labels under its padding, or as it is."""
        for place in self._places.get((epoch, position), ()):
            parts = dict(leaves(batch))
            label, signal = parts.get(place["at"]), parts.get(place["signal"])
            if not isinstance(label, Tensor) or not isinstance(signal, Tensor) or digest(label) != place["digest"]:
                continue
            under = padding(signal, label.shape[1])
            said = [told for at in place["masks"] if (told := agreement(parts.get(at), under)) is not None]
            # Negative numbers mark what a loss is to leave out: they stay.
            changed = torch.where(under & (label >= 0), (1 - label.float()).abs().to(label.dtype), label)
            if not said or torch.equal(changed, label):
                continue
            batch = replaced(batch, place["at"], changed)
            rows = int((changed != label).any(1).sum())
            how = "under padding" if all(said) else "under padding, which the mask has elsewhere"
            self.watch.emit("relabel", epoch=epoch, position=position, at=place["at"], how=how, sure=True, rows=rows)
        return batch


def padding(signal: Tensor, length: int) -> Tensor:
    """Return (rows, length): where all channels are zero from there to the end, or from the beginning to there."""
    channels = 2 if signal.shape[1] == length else 1
    empty = (signal == 0).all(channels)
    return empty.int().cumprod(1).bool() | empty.flip(1).int().cumprod(1).flip(1).bool()


def agreement(mask: Any, under: Tensor) -> bool | None:
    """Return whether a mask or lengths name just these places, or all others; None: not even as many in each row."""
    if not isinstance(mask, Tensor) or not bool(under.any()) or bool(under.any(1).all()):
        return None
    if mask.dim() == 1:
        return True if torch.equal(mask.long(), (~under).sum(1)) else None
    mask = mask.bool()
    for places in (mask, ~mask):
        if torch.equal(places.sum(1), under.sum(1)):
            return torch.equal(places, under)
    return None


def other_labels(label: Tensor, values: Sequence[float] | None, *, turn: int = 0) -> tuple[Tensor | None, str]:
    """Return labels that differ from these, and how they were made; None where there are none.

    Args:
        label: The labels of a batch.
        values: The values that labels took in the run, if they are few.
        turn: Odd: replace values where each sample has one; even: move labels to other samples.
    """
    if not label.dim() or not label.numel() or not plain(label):
        return None, "no rows"
    moved = max(
        (label.roll(shift, 0) for shift in range(1, min(label.shape[0], 8))),
        key=lambda other: int((other != label).sum()),
        default=label,
    )
    single = label.numel() == label.shape[0]
    if not torch.equal(moved, label) and not (turn % 2 and single and values):
        return moved.clone(), "moved"
    if not values:
        return None, "alike"
    other = label.clone()
    for value, following in zip(values, [*values[1:], values[0]], strict=True):
        other[label == value] = following
    return (None, "alike") if torch.equal(other, label) else (other, "replaced")


def replaced(tree: Any, at: str, value: Any) -> Any:
    """Return nested containers with the leaf at ``at`` replaced; what is on the way to it is copied."""
    if not at:
        return value
    for name, child in _children(tree):
        if at == name or at.startswith(f"{name}."):
            return _with(tree, name, replaced(child, at[len(name) + 1 :], value))
    return tree


def _children(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        return [(str(name), value) for name, value in tree.items()]
    if isinstance(tree, list | tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        return [(str(name), value) for name, value in zip(names, tree, strict=False)]
    return [(name, getattr(tree, name, None)) for name in getattr(tree, "__dataclass_fields__", ())]


def _with(tree: Any, name: str, value: Any) -> Any:
    if isinstance(tree, tuple):
        values = [value if key == name else child for key, child in _children(tree)]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    other = copy.copy(tree)
    if isinstance(tree, Mapping):
        other[next(key for key in tree if str(key) == name)] = value
    elif isinstance(tree, list):
        other[int(name)] = value
    else:
        object.__setattr__(other, name, value)
    return other
