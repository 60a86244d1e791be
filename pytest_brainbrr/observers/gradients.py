"""Backward calls: what went in, which parameters got a gradient, and what arrived before anybody touched it.

Gradients are counted by post-accumulate hooks, which return nothing. Limits: engines that bypass torch.autograd are
not seen; a hook of the trainer on the parameter itself runs before ours.
"""

import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pytest_brainbrr.observers.core import Watch, caller
from pytest_brainbrr.observers.memory import mark
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.modules import OUTPUT, Modules
from pytest_brainbrr.observers.tensors import facts, plain, short, tensor_leaves

WALKS = 4
FACTORS = ("Div", "Mul", "Neg", "ToCopy", "View", "Reshape", "Squeeze", "Unsqueeze", "Clone", "Alias")
"""Operations that leave a number what it is, but for a factor."""
MAX_NODES = 200_000
NEAR = 300
"""Nodes between a loss and the outputs of the model, at most."""
SCALE = "pytest_brainbrr.scale"
"""Key in the metadata of the graph node of a loss that a gradient scaler has scaled."""


def norms(gradients: list[Tensor]) -> list[float | None]:
    """Return the L2 norm of every tensor, in as few transfers as there are devices; None where there are no bytes."""
    found: list[float | None] = [None] * len(gradients)
    groups: dict[Any, list[int]] = {}
    held: dict[int, Tensor] = {}
    for place, gradient in enumerate(gradients):
        value = _stored(gradient)
        if plain(value):
            held[place] = value.detach()
            groups.setdefault((value.device, value.dtype), []).append(place)
    for (_, dtype), places in groups.items():
        values = [held[place] for place in places]
        if dtype in {torch.float16, torch.bfloat16}:
            each = [torch.linalg.vector_norm(value, dtype=torch.float32) for value in values]
        else:
            each = list(torch._foreach_norm(values))
        for place, value in zip(places, torch.stack(each).tolist(), strict=True):
            found[place] = value
    return found


def _scale_of(roots: list[Tensor]) -> float | None:
    """Return the scale of the scaled loss that the roots are or were made of, within a few operations; else None."""
    nodes = [root.grad_fn for root in roots if root.grad_fn is not None]
    for place in range(64):
        if place >= len(nodes):
            return None
        node: Any = nodes[place]
        if SCALE in node.metadata:
            return float(node.metadata[SCALE])
        nodes += [following for following, _ in node.next_functions if following is not None]
    return None


def _tables(roots: list[Tensor]) -> list[list[int]]:
    """Return the shapes of (B, 1) or (B,) tensors that something without gradient made (B, B), outside of the model.

    The nodes between a loss and the model's output are few. Of a product the other factor has to be a (B,) or (B, 1)
    one: a (B, B) mask is meant to make a table.
    """
    nodes: list[Any] = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen, found = set(nodes), list[list[int]]()
    while nodes and len(seen) < NEAR:
        node = nodes.pop()
        table = _table(node)
        if table is not None and table not in found:
            found.append(table)
        if OUTPUT not in node.metadata:
            following = [one for one, _ in node.next_functions if one is not None and one not in seen]
            seen.update(following)
            nodes += following
    return found


def _sum_of(node: Any) -> Any:
    """Return the node that sums a whole table up, if nothing but factors lies between it and the root; else None."""
    for _ in range(16):
        if node is None or node.name().startswith("SumBackward0"):
            break
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        factor = node.name().rstrip("0123456789").removesuffix("Backward") in FACTORS
        node = parents[0] if factor and len(parents) == 1 else None
    return node


def _table(node: Any) -> list[int] | None:
    kind = node.name().rstrip("0123456789").removesuffix("Backward")
    if kind not in {"Sub", "Rsub", "Mul", "Div"}:
        return None
    parents = [(parent, place) for parent, place in node.next_functions if parent is not None]
    if len(parents) != 1 or not hasattr(node, "_input_metadata") or not hasattr(parents[0][0], "_input_metadata"):
        return None
    parent, place = parents[0]
    given, result = list(parent._input_metadata[place].shape), list(node._input_metadata[0].shape)
    rows = given[0] if given else 0
    if rows < 2 or given not in ([rows], [rows, 1]) or result != [rows, rows]:
        return None
    if kind in {"Mul", "Div"}:
        other = "other" if node.next_functions[0][0] is parent else "self"
        try:
            factor = getattr(node, f"_saved_{other}", None)
        except RuntimeError:  # it was written to in place, or the graph is used up
            return None
        if not isinstance(factor, Tensor) or list(factor.shape) != ([rows, 1] if given == [rows] else [rows]):
            return None
    return given


def finite(norm: float | None, gradient: Tensor) -> bool:
    """Return whether a tensor is finite, or nobody can tell; a norm that overflowed is looked into."""
    if norm is None or -float("inf") < norm < float("inf"):
        return True
    return bool(torch.isfinite(_stored(gradient)).all())


def _stored(tensor: Tensor) -> Tensor:
    """Return the values that a sparse tensor holds, and anything else as it is."""
    if tensor.layout is torch.sparse_coo:
        return tensor.coalesce().values()
    sparse = {torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
    return tensor.values() if tensor.layout in sparse else tensor


def counts(tensors: Iterable[Tensor]) -> tuple[dict[str, int], list[int]]:
    """Return how many gradients are none, zero and nonzero, and the places of the nonzero ones."""
    every = list(tensors)
    having = [(place, gradient) for place, tensor in enumerate(every) if (gradient := tensor.grad) is not None]
    sizes = norms([gradient for _, gradient in having])
    nonzero = [place for (place, _), size in zip(having, sizes, strict=True) if size != 0.0]
    return {"none": len(every) - len(having), "zero": len(having) - len(nonzero), "nonzero": len(nonzero)}, nonzero


class Gradients:
    """Writes a `backward` event per call."""

    def __init__(self, watch: Watch, models: Models, modules: Modules) -> None:
        self.watch, self.models, self.modules = watch, models, modules
        self.calls = 0
        self._walks = 0
        self._hooked: dict[str, Any] = {}
        self._touched: dict[str, int] = {}
        self.in_backward = 0

    def install(self) -> None:
        """Wrap torch.autograd and hook parameters as they become known."""
        self.watch.shared["parameters_known"] = self.hook_parameters
        self.watch.replace(torch.autograd, "backward", self._wrap("backward"))
        self.watch.replace(torch.autograd, "grad", self._wrap("grad"))
        self.watch.stack.callback(self._unhook)

    def hook_parameters(self) -> None:
        """Hook every known trainable parameter that has no hook yet."""
        self._hook(self.models.trainable())

    def _hook(self, pairs: Iterable[tuple[str, Tensor]]) -> None:
        for identity, parameter in pairs:
            if identity not in self._hooked and parameter.is_leaf:
                self._hooked[identity] = parameter.register_post_accumulate_grad_hook(self._arrival(identity))

    def _arrival(self, identity: str) -> Callable[[Tensor], None]:
        touched = self._touched

        def arrived(_: Tensor) -> None:
            touched[identity] = touched.get(identity, 0) + 1

        return arrived

    def _unhook(self) -> None:
        for handle in self._hooked.values():
            handle.remove()

    def _wrap(self, name: str) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if torch.compiler.is_compiling():
                    return original(*args, **kwargs)
                observer.models.trains_here()
                if watch.busy or not watch.active or observer.in_backward:
                    return original(*args, **kwargs)
                if name == "backward" and not watch.shared.get("in_step"):
                    watch.boundary()
                event: dict[str, Any] = {}
                with watch.observing("gradients"):
                    event.update(observer._begin(name, args, kwargs))
                began, raised = time.perf_counter(), None
                observer.in_backward += 1
                try:
                    return original(*args, **kwargs)
                except BaseException as error:
                    raised = type(error).__name__
                    raise
                finally:
                    observer.in_backward -= 1
                    seconds = time.perf_counter() - began
                    if event:
                        with watch.observing("gradients"):
                            observer._end(event, seconds, raised)
                    if watch.shared.pop("pending_border", False) and not watch.shared.get("in_step"):
                        watch.border()

            return wrapper

        return make

    def _begin(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        first = args[0] if args else kwargs.get("tensors", kwargs.get("outputs"))
        roots = [tensor for _, tensor in tensor_leaves(first)]
        root = roots[0] if roots else None
        for tensor in roots:
            self.watch.shared.setdefault("graphs", []).append(weakref.ref(tensor))
        mark(self.watch, roots)
        pairs = list(self.models.trainable())
        self._hook(pairs)
        before, nonzero = counts(parameter for _, parameter in pairs)
        self._touched.clear()
        self.modules.reached.clear()
        self.watch.shared.setdefault("reached_losses", set()).clear()
        event = {
            "call": self.calls,
            "function": name,
            "root": facts(root, rows=False) if root is not None else None,
            "roots": len(roots),
            "by": caller(),
            "retain_graph": bool(kwargs.get("retain_graph", args[2] if len(args) > 2 else False)),
            "create_graph": bool(kwargs.get("create_graph", args[3] if len(args) > 3 else False)),
            "scale": _scale_of(roots),
            "grads_before": before,
            "nonzero_before": [pairs[place][0] for place in nonzero][:64],
            "in_step": bool(self.watch.shared.get("in_step")),
            "unregistered_leaves": None,
            "unreached": None,
            "tables": None,
            "summed": None,
        }
        self.calls += 1
        if root is not None and root.grad_fn is not None and self._walks < WALKS:
            self._walks += 1
            event.update(self._walk(roots))
            self._follow_sum(root, event)
        return event

    def _follow_sum(self, root: Tensor, event: dict[str, Any]) -> None:
        """Learn with which factor the sum of a table that makes up the root is taken."""
        node = _sum_of(root.grad_fn)
        if node is None:
            return
        parent, place = node.next_functions[0]
        if not hasattr(parent, "_input_metadata"):
            return
        shape = [int(size) for size in parent._input_metadata[place].shape]

        found: dict[str, Any] = {"shape": shape, "factor": None}
        event["summed"] = found

        def arrived(grads: Any) -> None:
            if isinstance(grads[0], Tensor) and plain(grads[0]) and grads[0].numel() == 1:
                found["factor"] = float(grads[0].detach())

        node.register_prehook(arrived)

    def _walk(self, roots: list[Tensor]) -> dict[str, Any]:
        nodes = [root.grad_fn for root in roots if root.grad_fn is not None]
        seen, leaves = set(nodes), {}
        while nodes and len(seen) < MAX_NODES:
            node = nodes.pop()
            if hasattr(node, "variable"):
                leaves[id(node.variable)] = node.variable
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    nodes.append(following)
        known = {id(tensor) for _, tensor in self.watch.registry.alive("p")} | self.watch.shared.get("inputs", set())
        hidden: dict[tuple[Any, ...], int] = {}
        for identity, leaf in leaves.items():
            if identity not in known:
                key = (tuple(leaf.shape), short(leaf.dtype))
                hidden[key] = hidden.get(key, 0) + 1
        missing = [identity for identity, parameter in self.models.trainable() if id(parameter) not in leaves]
        return {
            "unregistered_leaves": [
                {"shape": list(shape), "dtype": dtype, "n": n} for (shape, dtype), n in hidden.items()
            ],
            "unreached": missing,
            "tables": _tables(roots),
        }

    def _end(self, event: dict[str, Any], seconds: float, raised: str | None) -> None:
        touched = list(self._touched)
        elsewhere = self.models.elsewhere()
        tensors = {
            identity: tensor
            for identity, tensor in self.watch.registry.alive("p")
            if identity in self._touched and id(tensor) not in elsewhere
        }
        kept = {identity: tensors[identity].grad for identity in touched if identity in tensors}
        having = [identity for identity, gradient in kept.items() if gradient is not None]
        gradients = [kept[identity] for identity in having]
        sizes = norms([gradient for gradient in gradients if gradient is not None])
        bad = [
            identity
            for identity, gradient, size in zip(having, gradients, sizes, strict=True)
            if gradient is not None and not finite(size, gradient)
        ]
        for identity in touched:
            root = self.models.owned.get(identity, (None, ""))[0]
            if root is not None and root not in self.modules.called:
                self.modules.called.add(root)
                why = "its parameters got gradients, but no call of it or of its modules passed a hook"
                self.watch.not_observed("forward_called_directly", why, self.models.label(root))
        raw: dict[str, float | None] = dict.fromkeys(touched)
        raw.update(zip(having, sizes, strict=True))
        self.watch.emit(
            "backward",
            **event,
            forwards=sorted(self.modules.reached),
            losses=sorted(self.watch.shared.get("reached_losses", ())),
            touched=touched,
            raw_nonfinite=bad,
            raw_zero=[identity for identity, size in zip(having, sizes, strict=True) if size == 0.0],
            raw_norms=raw,
            seconds=seconds,
            raised=raised,
        )
        self.watch.shared["backwards"] = self.watch.shared.get("backwards", 0) + 1
        self.watch.shared.setdefault("recent_forwards", set()).update(self.modules.reached)
