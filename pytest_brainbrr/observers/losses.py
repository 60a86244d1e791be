"""Loss functions of torch.nn.functional: what they were given, and the gradient that came back to their input.

Limits: losses written from elementary operations are not seen, nor those inside torch.compile or torch.jit; the
gradient is that of the input tensor as a whole, from every use of it.
"""

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pytest_brainbrr.observers.core import Here, Watch, caller
from pytest_brainbrr.observers.modules import Modules
from pytest_brainbrr.observers.tensors import digest, facts, plain

FUNCTIONS = (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
)
MOST_CLASSES = 64
"""Classes whose weights are compared with their counts."""
INPUTS = ("input", "log_probs", "anchor", "input1")
TARGETS = ("target", "targets")
MAX_TABLE = 1 << 20
"""Larger tables of losses are not copied."""
SAME_NUMBERS = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "ToCopy", "Permute", "Transpose", "T", "Slice",
    "Select", "Alias", "Clone", "Expand",
)  # fmt: skip
"""Operations that only move, cut or convert numbers."""


class Losses:
    """Writes `loss` and `loss_grad` events."""

    def __init__(self, watch: Watch, modules: Modules) -> None:
        self.watch, self.modules = watch, modules
        self.calls = 0
        self._here = Here()

    def install(self) -> None:
        """Wrap the functions where loss modules and trainers look them up."""
        for name in FUNCTIONS:
            self.watch.replace(nn.functional, name, self._wrap(name))

    def _wrap(self, name: str) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            try:
                signature = inspect.signature(original)
            except (TypeError, ValueError):
                signature = None

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
                    return original(*args, **kwargs)
                watch = observer.watch
                if watch.busy or not watch.active or observer._here.depth:
                    return original(*args, **kwargs)
                observer._here.depth += 1
                try:
                    result = original(*args, **kwargs)
                finally:
                    observer._here.depth -= 1
                with watch.observing("losses"):
                    observer._record(name, signature, args, kwargs, result)
                return result

            return wrapper

        return make

    def _record(self, name: str, signature: Any, args: Any, kwargs: Any, result: Any) -> None:
        watch = self.watch
        given = dict(signature.bind_partial(*args, **kwargs).arguments) if signature is not None else dict(kwargs)
        tensors = {key: value for key, value in given.items() if isinstance(value, Tensor)}
        value = next((tensors[key] for key in INPUTS if key in tensors), None)
        target = next((tensors[key] for key in TARGETS if key in tensors), None)
        number, grad = self.calls, torch.is_grad_enabled()
        self.calls += 1
        if grad and isinstance(result, Tensor) and result.requires_grad:
            watch.shared["losses"] = watch.shared.get("losses", 0) + 1
        mask, reduction = _mask(value, target), _reduction(given, signature)
        weights: dict[str, Any] = {}
        if value is not None and value.grad_fn is not None:
            self._follow(number, value, mask, weights)
            if isinstance(result, Tensor) and result.grad_fn is not None:
                self._weigh(result, mask, weights, table=reduction == "none")
        if isinstance(result, Tensor) and result.grad_fn is not None:
            watch.shared.setdefault("graphs", []).append(weakref.ref(result))
        split: tuple[float | None, float | None, float | None] = (None, None, None)
        if mask is not None and value is not None:
            split = _split(value.detach(), mask)
        watch.emit(
            "loss",
            call=number,
            function=name,
            by=caller(),
            inside=self._inside_of(),
            args=[{**facts(tensor, key), "made_by": _made_by(tensor)} for key, tensor in tensors.items()],
            reduction=reduction,
            options={
                key: item
                for key, item in given.items()
                if isinstance(item, bool | int | float | str) and key != "reduction"
            },
            output=facts(result, rows=False) if isinstance(result, Tensor) else None,
            input_from=self._source(value),
            scrambled=self._scrambled(value),
            target_from=self._batch(target),
            probability_like=_probability_like(name, value),
            target_grad=bool(target is not None and target.requires_grad),
            grad_enabled=grad,
            classes=_classes(name, tensors.get("weight"), target, given.get("ignore_index", -100)),
            positives=split[0],
            positive_input_mean=split[1],
            negative_input_mean=split[2],
        )

    def _inside_of(self) -> str | None:
        call = self.modules.frames.call
        return call.event.get("path") if call is not None and self.modules.frames.stack else None

    def _source(self, value: Tensor | None) -> int | None:
        if value is None or not plain(value):
            return None
        address = value.untyped_storage().data_ptr()
        for number, storage, _ in reversed(self.modules.outputs):
            if storage == address and address:
                return int(number)
        return None

    def _scrambled(self, value: Tensor | None) -> bool | None:
        """Return whether an output's last two axes were cut anew where they should have been exchanged; None: unknown.

        Only what lies in the output's own storage is judged, in the order in which the model wrote it.
        """
        if value is None or not plain(value):
            return None
        address = value.untyped_storage().data_ptr()
        for _, storage, (shape, strides) in reversed(self.modules.outputs):
            if storage != address or not address:
                continue
            if len(shape) != 3 or shape[1] == shape[2] or min(shape) < 2 or strides != _in_order(shape):
                return None
            given, exchanged = tuple(value.shape), (shape[0], shape[2], shape[1])
            if tuple(value.stride()) != _in_order(given):
                return False
            return given in (exchanged, (shape[0] * shape[2], shape[1]))
        return None

    def _batch(self, target: Tensor | None) -> list[Any] | None:
        recent = self.watch.shared.get("recent_batches", [])
        found = digest(target) if target is not None else None
        if found is None:
            return None
        for epoch, position, parts in reversed(recent):
            for at, part in parts:
                if part == found:
                    return [epoch, position, at]
        return None

    def _weigh(self, result: Tensor, mask: Tensor | None, weights: dict[str, Any], *, table: bool) -> None:
        """Learn the gradient at the loss itself: its coefficient in the root of the backward, of each of a table's."""
        watch, place, node = self.watch, result.output_nr, result.grad_fn
        assert node is not None
        # A copy, as long as the graph lives: what is summed up later may be changed in place.
        values = result.detach().clone() if table and plain(result) and result.numel() <= MAX_TABLE else None

        def arrived(grads: Any) -> None:
            gradient = grads[place] if place < len(grads) else None
            if watch.busy or not watch.active or not isinstance(gradient, Tensor) or not plain(gradient):
                return
            gradient = gradient.detach().float()
            weights["sum"] = gradient.sum().item()
            weights["largest"] = gradient.abs().max().item() if gradient.numel() else 0.0
            if values is not None and gradient.shape == values.shape and gradient.numel():
                weights["elements"] = _elements(gradient, values, mask)

        node.register_prehook(arrived)

    def _follow(self, number: int, value: Tensor, mask: Tensor | None, weights: dict[str, Any]) -> None:
        """Look at the gradient when it passes the node that made the input."""
        watch, place, shape = self.watch, value.output_nr, value.shape
        node = value.grad_fn
        assert node is not None

        def arrived(grads: Any) -> None:
            if watch.busy or not watch.active:
                return
            watch.shared.setdefault("reached_losses", set()).add(number)
            gradient = grads[place] if place < len(grads) else None
            if gradient is None or not isinstance(gradient, Tensor) or gradient.shape != shape or not plain(gradient):
                return
            with watch.observing("losses"):
                gradient = gradient.detach().float()
                norm = torch.linalg.vector_norm(gradient).item()
                split = _split(gradient, mask) if mask is not None else (None, None, None)
                rows = gradient.reshape(gradient.shape[0], -1) if gradient.dim() else gradient.reshape(1, 1)
                watch.emit(
                    "loss_grad",
                    call=number,
                    finite=bool(torch.isfinite(gradient).all()),
                    zero=norm == 0.0,
                    norm=norm,
                    positive_mean=split[1],
                    negative_mean=split[2],
                    rows_zero=(rows == 0).all(dim=1).float().mean().item(),
                    output_grad=weights.get("sum"),
                    output_grad_largest=weights.get("largest"),
                    elements=weights.get("elements"),
                )

        node.register_prehook(arrived)


def _in_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor that lies in memory row by row.

    >>> _in_order((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _made_by(tensor: Tensor) -> str | None:
    """Return the operation that made a tensor, looking through those that only move or convert numbers."""
    node = tensor.grad_fn
    for _ in range(16):
        if node is None or node.name().rstrip("0123456789").removesuffix("Backward") not in SAME_NUMBERS:
            break
        node = node.next_functions[0][0] if node.next_functions else None
    return node.name() if node is not None else None


def _mask(value: Tensor | None, target: Tensor | None) -> Tensor | None:
    """Return where the target is positive, as bytes of our own, or None where that means nothing."""
    if (
        value is None
        or target is None
        or value.shape != target.shape
        or not (plain(value) and plain(target))
        or not target.numel()
    ):
        return None
    positive = target.detach() if target.dtype == torch.bool else target.detach().float()
    if target.dtype != torch.bool:
        low, high = torch.aminmax(positive)
        if not (low >= 0 and high <= 1):
            return None
        positive = positive > 0.5
    return positive.clone()


def _classes(name: str, weight: Tensor | None, target: Tensor | None, ignored: Any) -> dict[str, list[Any]] | None:
    """Return weights and counts of the classes, where a loss weighs few classes that the target numbers."""
    if name not in {"cross_entropy", "nll_loss"} or weight is None or target is None or target.is_floating_point():
        return None
    if not (plain(weight) and plain(target)) or weight.dim() != 1 or not 1 < weight.numel() <= MOST_CLASSES:
        return None
    labels = target.detach().reshape(-1)
    labels = labels[(labels != ignored) & (labels >= 0) & (labels < weight.numel())]
    counts = torch.bincount(labels, minlength=weight.numel())
    return {"weights": weight.detach().float().tolist(), "counts": counts.tolist()}


def _split(value: Tensor, mask: Tensor) -> tuple[float | None, float | None, float | None]:
    """Return the share of the mask, and the mean of a tensor inside and outside of it."""
    value = value.float()
    count, total = int(mask.sum()), mask.numel()
    inside = (value * mask).sum()
    outside = value.sum() - inside
    return (
        count / total,
        float(inside) / count if count else None,
        float(outside) / (total - count) if count < total else None,
    )


def _elements(gradient: Tensor, values: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """Return what each loss of a table weighs in the root: the range, that by label, and what all make together."""
    low, high = (float(edge) for edge in torch.aminmax(gradient))
    found: dict[str, Any] = {"low": low, "high": high, "explained": float((gradient * values).sum())}
    for name, wanted in (("positive", True), ("negative", False)):
        # Places of weight zero are left out, as padding is.
        kept = (
            gradient[(mask == wanted) & (gradient != 0)] if mask is not None and mask.shape == gradient.shape else None
        )
        found[name] = [float(edge) for edge in torch.aminmax(kept)] if kept is not None and kept.numel() else None
    return found


def _reduction(given: dict[str, Any], signature: Any) -> str | None:
    if "reduction" in given:
        return str(given["reduction"])
    parameter = signature.parameters.get("reduction") if signature is not None else None
    return str(parameter.default) if parameter is not None else None


def _probability_like(name: str, value: Tensor | None) -> bool | None:
    if value is None or not plain(value) or not value.is_floating_point() or not value.numel():
        return None
    value = value.detach().float()
    low, high = torch.aminmax(value)
    if not (low >= 0 and high <= 1):
        return False
    if name == "cross_entropy" and value.dim() > 1:
        return bool(torch.allclose(value.sum(dim=1), torch.ones_like(value.sum(dim=1)), atol=1e-3))
    return True
