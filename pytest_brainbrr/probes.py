"""Calls of the model from outside, once a run is over: what watching alone cannot show.

Only in plans that say so; the run is spoilt by then. Every probe runs in evaluation mode without gradients, with the
generators seeded, on the first training input of the run (kept in a file, so that another process probes the same).

Results, by name:

- ``fixed_batch``: ``outputs``, tensor facts of the output.
- ``repeat_eval``, the same input twice: ``equal``, ``difference``, ``dropout`` (functions that dropped something).
- ``input_sensitivity``, another input of the same kind: ``changed``, ``difference``.
- ``batch_independence``, the other samples of the batch replaced: ``difference`` of the last sample's output,
  ``noise`` (nothing replaced), ``scale`` of the output, ``size`` of the batch.
- ``look_ahead``, the last half of the last dimension replaced: ``before`` (largest change in the output's first half,
  less a margin of one place), ``after``, ``scale``, ``time`` (whether the output has a dimension to tell by), ``late``
  (largest change anywhere), ``varied`` (whether what was replaced was no constant, as padding is).
"""

import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.tensors import facts, tensor_leaves
from pytest_brainbrr.spec import Spec


class Drops(TorchFunctionMode):
    """Notes calls that drop something, whatever mode their module is in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at the arguments and go on."""
        given = kwargs or {}
        name = getattr(function, "__name__", "")
        if "dropout" in name and "attention" not in name:
            share = given.get("p", args[1] if len(args) > 1 else 0.5)
            training = given.get("training", given.get("train", args[2] if len(args) > 2 else True))
            if training and share:
                self.seen.add(name)
        elif name == "scaled_dot_product_attention" and given.get("dropout_p", args[4] if len(args) > 4 else 0.0):
            self.seen.add(name)
        return function(*args, **given)


class Probes:
    """Keeps what the probes need, and runs them at the end."""

    def __init__(self, watch: Watch, spec: Spec) -> None:
        self.watch, self.spec = watch, spec
        self._module: nn.Module | None = None
        self._kept = False
        self._early = False
        """Whether what is kept was called before any optimizer and any backward: while the model was built, perhaps."""

    def install(self) -> None:
        """Keep the module and the input of the first training call, in plans that probe."""
        if self.spec.probes and self.spec.probe_input is not None and self.spec.plan != "reload":
            self.watch.shared["keep_input"] = self._keep

    def _keep(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        begun = bool(self.watch.shared.get("backwards"))
        kept = self._kept and (begun or not self._early)
        if kept or self.spec.probe_input is None or next(module.parameters(), None) is None:
            return
        self._kept, self._early = True, next(self.watch.registry.alive("o"), None) is None
        # Held on purpose: in an invasive plan the model must outlive the trainer's own reference.
        self._module = module
        value = {"args": _detached(args), "kwargs": _detached(kwargs), "class": type(module).__name__}
        torch.save(value, self.spec.probe_input)

    def at_limit(self) -> None:
        """Record what stands when the step limit is reached, then probe."""
        watch = self.watch
        with watch.observing("probes"):
            snapshots = watch.shared["snapshots"]
            snapshots.record("resume" if self.spec.limit == 0 else "limit")
            watch.shared["models"].states("resume" if self.spec.limit == 0 else "end")
            if self.spec.probes:
                if self._module is None:
                    reference: weakref.ref[nn.Module] | None = watch.shared.get("about_to_call")
                    self._module = reference() if reference is not None else None
                self._run("resume" if self.spec.limit == 0 else "limit")

    def at_end(self) -> None:
        """Probe after a run that ended by itself."""
        if self.spec.probes:
            with self.watch.observing("probes"):
                self._run("end")

    def _run(self, at: str) -> None:
        module, path = self._module, self.spec.probe_input
        if module is None or path is None or not Path(path).exists():
            self.watch.not_observed("probe", "no training call of a module was seen to repeat")
            return
        kept = torch.load(path, weights_only=False)
        if kept["class"] != type(module).__name__:
            self.watch.not_observed(
                "probe", f"the kept input belongs to {kept['class']}, not to {type(module).__name__}"
            )
            return
        args, kwargs = kept["args"], kept["kwargs"]
        flags = [(inner, inner.training) for inner in module.modules()]
        module.eval()
        try:
            for name in ("fixed_batch", "repeat_eval", "input_sensitivity", "batch_independence", "look_ahead"):
                if at == "resume" and name != "fixed_batch":
                    continue
                result, raised = None, None
                try:
                    with torch.no_grad():
                        result = getattr(self, f"_{name}")(module, args, kwargs)
                except Exception as error:  # noqa: BLE001 (a model that cannot be called this way is a fact)
                    raised = f"{type(error).__name__}: {error}"[:400]
                label = next(
                    (label for _, label, root in self.watch.shared["models"].roots() if root is module),
                    type(module).__name__,
                )
                self.watch.emit("probe", name=name, model=label, at=at, result=result, raised=raised)
        finally:
            for inner, flag in flags:
                inner.training = flag

    # ------------------------------------------------------------------ the probes

    def _fixed_batch(self, module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
        return {"outputs": [facts(tensor, at) for at, tensor in _call(module, args, kwargs)]}

    def _repeat_eval(self, module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
        first = _call(module, args, kwargs)
        with Drops() as drops:
            second = _call(module, args, kwargs, seed=1)
        difference = max((_difference(a, b) for (_, a), (_, b) in zip(first, second, strict=True)), default=0.0)
        return {"equal": difference == 0.0, "difference": difference, "dropout": sorted(drops.seen)}

    def _input_sensitivity(self, module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any] | None:
        signals = _signals(args, kwargs)
        if not signals:
            return None
        changed = {at: tensor.flip(-1) * 0.5 + tensor.std() for at, tensor in signals}
        if all(torch.equal(changed[at], tensor) for at, tensor in signals):
            return None  # A state that is still all zeros cannot be changed this way.
        first = _call(module, args, kwargs)
        other = _replaced(args, kwargs, changed)
        second = _call(module, *other)
        difference = max((_difference(a, b) for (_, a), (_, b) in zip(first, second, strict=True)), default=0.0)
        return {"changed": difference > 0.0, "difference": difference}

    def _batch_independence(self, module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any] | None:
        signals = _signals(args, kwargs)
        size = next((tensor.shape[0] for _, tensor in signals if tensor.dim() > 1), 0)
        if size < 2:
            return None
        rows = [(at, tensor) for at, tensor in signals if tensor.dim() > 1 and tensor.shape[0] == size]
        first = _by_row(_call(module, args, kwargs), size)
        again = _by_row(_call(module, args, kwargs), size)
        changed = {
            at: torch.cat([(tensor[:-1] * -0.7 + tensor.std()).roll(3, dims=-1), tensor[-1:]]) for at, tensor in rows
        }
        others = _by_row(_call(module, *_replaced(args, kwargs, changed)), size)
        if not first:
            return None
        # The last sample: a recurrent layer that runs along the batch has seen all others by then.
        return {
            "size": size,
            "difference": max(_difference(a[-1], b[-1]) for a, b in zip(first, others, strict=True)),
            "noise": max(_difference(a[-1], b[-1]) for a, b in zip(first, again, strict=True)),
            "scale": max(float(tensor.abs().max()) for tensor in first),
        }

    def _look_ahead(self, module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any] | None:
        signals = [(at, tensor) for at, tensor in _signals(args, kwargs) if tensor.dim() > 1 and tensor.shape[-1] >= 8]
        if not signals:
            return None
        half = signals[0][1].shape[-1] // 2
        changed = {
            at: torch.cat([tensor[..., :half], tensor[..., half:].flip(-1) * -0.7 + tensor.std()], dim=-1)
            for at, tensor in signals
        }
        first, second = _call(module, args, kwargs), _call(module, *_replaced(args, kwargs, changed))
        late = {
            "varied": any(bool((tensor[..., half:] != tensor[..., half : half + 1]).any()) for _, tensor in signals),
            "late": max((_difference(a, b) for (_, a), (_, b) in zip(first, second, strict=True)), default=0.0),
        }
        pairs = [
            (a, b)
            for (_, a), (_, b) in zip(first, second, strict=True)
            if a.is_floating_point() and a.dim() > 1 and a.shape[-1] >= 4
        ]
        if not pairs:
            return {"time": False, "before": None, "after": None, "scale": None, **late}
        places = [(a.shape[-1] * half) // signals[0][1].shape[-1] for a, _ in pairs]
        return {
            "time": True,
            "before": max(
                _difference(a[..., : max(1, p - 1)], b[..., : max(1, p - 1)])
                for (a, b), p in zip(pairs, places, strict=True)
            ),
            "after": max(_difference(a[..., p:], b[..., p:]) for (a, b), p in zip(pairs, places, strict=True)),
            "scale": max(float(a.abs().max()) for a, _ in pairs),
            **late,
        }


def _call(module: nn.Module, args: Any, kwargs: Any, *, seed: int = 0) -> list[tuple[str, Tensor]]:
    torch.manual_seed(seed)
    output = module(*_detached(args), **_detached(kwargs))
    return [(at, tensor.detach().clone()) for at, tensor in tensor_leaves(output)]


def _difference(first: Tensor, second: Tensor) -> float:
    if first.shape != second.shape:
        return float("inf")
    if not first.numel():
        return 0.0
    if bool((first == second).all()):
        return 0.0
    return (
        float((first.double() - second.double()).abs().max())
        if not first.is_complex()
        else float((first - second).abs().max())
    )


def _signals(args: Any, kwargs: Any) -> list[tuple[str, Tensor]]:
    return [
        (at, tensor)
        for at, tensor in tensor_leaves({"args": args, "kwargs": kwargs})
        if tensor.is_floating_point() and tensor.numel() > 1
    ]


def _by_row(outputs: list[tuple[str, Tensor]], size: int) -> list[Tensor]:
    return [
        tensor for _, tensor in outputs if tensor.dim() > 0 and tensor.shape[0] == size and tensor.is_floating_point()
    ]


def _replaced(args: Any, kwargs: Any, changed: dict[str, Tensor]) -> tuple[Any, Any]:
    both = _rebuilt({"args": args, "kwargs": kwargs}, changed, "")
    return both["args"], both["kwargs"]


def _rebuilt(tree: Any, changed: dict[str, Tensor], at: str) -> Any:
    if isinstance(tree, Tensor):
        return changed.get(at, tree)
    if isinstance(tree, dict):
        return type(tree)(
            {key: _rebuilt(value, changed, f"{at}.{key}" if at else str(key)) for key, value in tree.items()}
        )
    if isinstance(tree, list | tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        values = [
            _rebuilt(value, changed, f"{at}.{name}" if at else str(name))
            for name, value in zip(names, tree, strict=True)
        ]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return tree


def _detached(tree: Any) -> Any:
    return _rebuilt(tree, {at: tensor.detach().clone() for at, tensor in tensor_leaves(tree)}, "")
