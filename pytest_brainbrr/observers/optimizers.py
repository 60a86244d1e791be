"""Optimizers: what they hold, and what every step did to each parameter.

Update sizes come from a copy of at most 65536 elements per parameter, made before the step and dropped after it.
Limits: optimizers that do not inherit from torch.optim.Optimizer, and updates written by hand, leave no `step`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as hooks

from pytest_brainbrr.observers.core import Watch, caller
from pytest_brainbrr.observers.gradients import counts, finite, norms
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.tensors import SAMPLE, digest, plain, real, sampled, short, tensor_leaves, text_digest


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer that takes the steps: Accelerate, Lightning and Fabric wrap it, and share its groups."""
    inner = getattr(optimizer, "optimizer", None)
    while isinstance(inner, Optimizer) and inner is not optimizer and inner.param_groups is optimizer.param_groups:
        optimizer, inner = inner, getattr(inner, "optimizer", None)
    return optimizer


def scalars(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a parameter group that are plain numbers, flags or words."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name == "params":
            continue
        if isinstance(value, Tensor) and value.numel() == 1:
            found[name] = value.item()
        elif isinstance(value, bool | int | float | str) or value is None:
            found[name] = value
        elif isinstance(value, tuple | list) and all(isinstance(item, int | float) for item in value):
            found[name] = list(value)
    return found


class Optimizers:
    """Writes `optimizer`, `step`, `zero_grad` and `clip` events."""

    def __init__(self, watch: Watch, models: Models) -> None:
        self.watch, self.models = watch, models
        self.counts: dict[str, int] = {}
        self._before: dict[str, Any] = {}
        self._marks: dict[str, tuple[int, int]] = {}
        self._signatures: dict[str, int] = {}
        self._lost: dict[int, tuple[str, Tensor]] = {}

    def install(self) -> None:
        """Put the global hooks and the wrappers in place."""
        watch = self.watch
        for handle in (
            hooks.register_optimizer_step_pre_hook(self._step_begins),
            hooks.register_optimizer_step_post_hook(self._step_ended),
        ):
            watch.stack.callback(handle.remove)
        watch.replace(Optimizer, "__init__", self._wrap_init)
        watch.replace(Optimizer, "add_param_group", self._wrap_group)
        watch.replace(Optimizer, "zero_grad", self._wrap_zero_grad("optimizer"))
        watch.replace(torch.nn.Module, "zero_grad", self._wrap_zero_grad("module"))
        for name in ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_"):
            for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
                watch.replace(owner, name, self._wrap_clip(name))

    # ------------------------------------------------------------------ creation

    def _wrap_init(self, original: Any) -> Any:
        observer = self

        def __init__(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(optimizer, *args, **kwargs)
            observer.describe(optimizer)

        return __init__

    def _wrap_group(self, original: Any) -> Any:
        observer = self

        def add_param_group(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
            result = original(optimizer, *args, **kwargs)
            if observer.watch.registry.get(optimizer) is not None:
                observer.describe(optimizer)
            return result

        return add_param_group

    def describe(self, optimizer: Optimizer) -> None:
        """Record an optimizer if it is new or its groups changed."""
        watch = self.watch
        if watch.busy or not watch.active:
            return
        with watch.observing("optimizers"):
            groups = getattr(optimizer, "param_groups", None)
            if not isinstance(groups, list):
                return
            identity = watch.registry.name(optimizer, "o")
            tensors = [tensor for group in groups for tensor in group["params"] if isinstance(tensor, Tensor)]
            signature = hash(tuple(id(tensor) for tensor in tensors))
            if self._signatures.get(identity) == signature:
                return
            self._signatures[identity] = signature
            for tensor in tensors:
                holder = self.models.holder_of(tensor)
                if holder is not None and self.models.owner_of(tensor) is None:
                    self.models.know(holder, "optimizer")
            ids = [watch.registry.name(tensor, "p") for tensor in tensors]
            watch.emit(
                "optimizer",
                id=identity,
                **{"class": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"},
                defaults=scalars(getattr(optimizer, "defaults", {})),
                groups=[
                    {
                        "options": scalars(group),
                        "parameters": [watch.registry.name(tensor, "p") for tensor in group["params"]],
                    }
                    for group in groups
                ],
                duplicates=sorted({key for key in ids if ids.count(key) > 1}) if len(set(ids)) < len(ids) else [],
                overlapping=_overlapping(ids, tensors),
                foreign=[key for key, tensor in zip(ids, tensors, strict=True) if self.models.owner_of(tensor) is None],
                frozen=[key for key, tensor in zip(ids, tensors, strict=True) if not tensor.requires_grad],
                non_leaf=[key for key, tensor in zip(ids, tensors, strict=True) if not tensor.is_leaf],
                models_before=[found for found, _, _ in self.models.roots()],
            )
            callback = watch.shared.get("parameters_known")
            if callback is not None:
                callback()

    # ------------------------------------------------------------------ steps

    def _step_begins(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        watch = self.watch
        if watch.busy or not watch.active:
            return
        self.describe(optimizer)
        watch.shared["in_step"] = watch.shared.get("in_step", 0) + 1
        with watch.observing("optimizers"):
            pairs = _pairs(optimizer)
            self._before[watch.registry.name(optimizer, "o")] = {
                **_gradients(pairs),
                "weights": [sampled(tensor).clone() if plain(tensor) else None for _, tensor in pairs],
                "groups": [scalars(group) for group in optimizer.param_groups],
                # torch hands the optimizer itself over as the first argument.
                "closure": any(argument is not None for argument in (*args[1:], *kwargs.values())),
                "in_backward": torch._C._current_graph_task_id() != -1,
                "began": time.perf_counter(),
            }

    def _step_ended(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        watch = self.watch
        if watch.busy or not watch.active:
            return
        watch.shared["in_step"] = max(0, watch.shared.get("in_step", 1) - 1)
        identity = watch.registry.get(optimizer)
        before = self._before.pop(identity or "", None)
        if identity is None or before is None:
            return
        seconds = time.perf_counter() - before["began"]
        self.counts[identity] = self.counts.get(identity, 0) + 1
        with watch.observing("optimizers"):
            if before["closure"]:
                # The closure made the gradients of this step; what stood there before it is older.
                before.update(_gradients(_pairs(optimizer)))
            self._record(identity, optimizer, before, seconds)
        # The event above still belongs to the iteration that made it; what follows belongs to the next.
        self.attempted(identity, self.counts[identity])
        self.models.fresh.clear()

    def attempted(self, identity: str, count: int) -> None:
        """Note that an optimizer has now attempted this many steps, those that a scaler skipped included."""
        watch = self.watch
        attempts = watch.shared.setdefault("attempts", {})
        attempts[identity] = max(count, attempts.get(identity, 0))
        if count > watch.borders:
            watch.borders = count
            if torch._C._current_graph_task_id() != -1:
                # Optimizers fused into backward: the border is where that backward ends.
                watch.shared["pending_border"] = True
            elif not watch.shared.get("in_step"):
                watch.border()

    def _record(self, identity: str, optimizer: Optimizer, before: dict[str, Any], seconds: float) -> None:
        watch, pairs = self.watch, _pairs(optimizer)
        facts, digests = [], []
        numbers = _updates([tensor for _, tensor in pairs], before["weights"], before["gradients"])
        digests_before = self.models.digests
        for place, (group, tensor) in enumerate(pairs):
            key = watch.registry.name(tensor, "p")
            now = digest(tensor)
            digests.append(now)
            kind, size = before["grads"][place] if place < len(before["grads"]) else ("none", None)
            weight, update, changed, descent, good = numbers[place]
            self.models.fresh[key] = (now, good if tensor.numel() <= SAMPLE else None)
            facts.append(
                {
                    "id": key,
                    "name": self.models.name_of(tensor) or f"<foreign>/{identity}.{group}.{place}",
                    "group": group,
                    "grad": kind,
                    "grad_norm": size,
                    "weight_norm": weight,
                    "update_norm": update,
                    "changed": changed,
                    "moved": digests_before[key] != now if key in digests_before else (changed or 0.0) > 0.0,
                    "descent": descent,
                    "dtype": short(tensor.dtype),
                    "device": str(tensor.device),
                    "elements": tensor.numel(),
                    "sampled": tensor.numel() > 1 << 16,
                    "finite": good,
                }
            )
        forwards = watch.shared.get("recent_forwards", set())
        seen = watch.shared.setdefault("forwards_of", {}).setdefault(identity, set())
        fresh = sorted(forwards - seen)
        seen.update(forwards)
        backwards, losses = watch.shared.get("backwards", 0), watch.shared.get("losses", 0)
        old = self._marks.get(identity, (0, 0))
        self._marks[identity] = (backwards, losses)
        watch.emit(
            "step",
            optimizer=identity,
            count=self.counts[identity],
            groups=before["groups"],
            parameters=facts,
            closure=before["closure"],
            forwards=fresh,
            backwards=backwards - old[0],
            losses=losses - old[1],
            in_backward=before["in_backward"],
            seconds=seconds,
            digest=text_digest(*digests),
        )

    # ------------------------------------------------------------------ clearing and clipping

    def _wrap_zero_grad(self, what: str) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.busy or not watch.active or torch.compiler.is_compiling():
                    return original(owner, *args, **kwargs)
                with watch.observing("optimizers"):
                    tensors = (
                        [tensor for _, tensor in _pairs(owner)] if what == "optimizer" else list(owner.parameters())
                    )
                    had, _ = counts(tensors)
                    watch.emit(
                        "zero_grad",
                        what=watch.registry.name(owner, "o" if what == "optimizer" else "m")
                        if what == "optimizer"
                        else watch.registry.get(owner),
                        set_to_none=bool(args[0] if args else kwargs.get("set_to_none", True)),
                        had=had,
                        in_step=bool(watch.shared.get("in_step")),
                    )
                return original(owner, *args, **kwargs)

            return zero_grad

        return make

    def _wrap_clip(self, name: str) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(parameters: Any, *args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.busy or not watch.active or watch.shared.get("in_clip"):
                    return original(parameters, *args, **kwargs)
                parameters = parameters if isinstance(parameters, Tensor) else list(parameters)
                watch.shared["in_clip"] = True
                try:
                    result = original(parameters, *args, **kwargs)
                finally:
                    watch.shared["in_clip"] = False
                with watch.observing("optimizers"):
                    tensors = (
                        [tensor for _, tensor in tensor_leaves([parameters])]
                        if isinstance(parameters, Tensor)
                        else parameters
                    )
                    limit = args[0] if args else kwargs.get("max_norm", kwargs.get("clip_value"))
                    watch.emit(
                        "clip",
                        function=name,
                        limit=float(limit) if limit is not None else None,
                        norm_type=float(
                            args[1] if len(args) > 1 and name == "clip_grad_norm_" else kwargs.get("norm_type", 2.0)
                        ),
                        norm=float(result) if isinstance(result, Tensor) else None,
                        parameters=[watch.registry.name(tensor, "p") for tensor in tensors],
                        given=len(tensors),
                        with_grad=sum(tensor.grad is not None for tensor in tensors),
                        by=caller(),
                    )
                return result

            return wrapper

        return make


def _overlapping(ids: list[str], tensors: list[Tensor]) -> list[str]:
    """Return ids of different tensors of equal size that begin at one address."""
    found: dict[tuple[int, int], set[str]] = {}
    for key, tensor in zip(ids, tensors, strict=True):
        if plain(tensor) and tensor.numel() and tensor.is_contiguous():
            found.setdefault((tensor.data_ptr(), tensor.numel()), set()).add(key)
    return sorted(key for keys in found.values() if len(keys) > 1 for key in keys)


def _gradients(pairs: list[tuple[int, Tensor]]) -> dict[str, Any]:
    """Return the kind and norm of every gradient as it stands now, and a copy of a part of it."""
    having = [(place, tensor.grad) for place, (_, tensor) in enumerate(pairs) if tensor.grad is not None]
    sizes = norms([gradient for _, gradient in having])
    grads: list[tuple[str, float | None]] = [("none", None)] * len(pairs)
    for (place, gradient), size in zip(having, sizes, strict=True):
        grads[place] = ("zero" if size == 0.0 else ("finite" if finite(size, gradient) else "nonfinite"), size)
    copies = [
        sampled(tensor.grad).clone() if tensor.grad is not None and plain(tensor.grad) else None for _, tensor in pairs
    ]
    return {"grads": grads, "gradients": copies}


def _pairs(optimizer: Optimizer) -> list[tuple[int, Tensor]]:
    return [(place, tensor) for place, group in enumerate(optimizer.param_groups) for tensor in group["params"]]


def _updates(
    tensors: list[Tensor], before: list[Tensor | None], gradients: list[Tensor | None]
) -> list[tuple[float | None, float | None, float | None, float | None, bool | None]]:
    """Return weight norm, update norm, share changed, descent and finiteness per tensor, in one transfer per device."""
    results: list[Any] = [(None, None, None, None, None)] * len(tensors)
    groups: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for place, (tensor, kept) in enumerate(zip(tensors, before, strict=False)):
        old = kept
        if (
            old is None
            or not plain(tensor)
            or sampled(tensor).shape != old.shape
            or old.device != tensor.device
            or old.numel() == 0
        ):
            continue
        now = sampled(tensor)
        now, old = real(now), real(old)
        difference = now.float() - old.float()
        gradient = gradients[place] if place < len(gradients) else None
        gradient = real(gradient) if gradient is not None else None
        usable = (
            gradient is not None and gradient.numel() == difference.numel() and gradient.device == difference.device
        )
        descent = (
            (gradient.float().reshape(-1) * difference.reshape(-1)).sum()
            if usable and gradient is not None
            else difference.new_tensor(float("nan"))
        )
        row = torch.stack(
            [
                torch.linalg.vector_norm(old.float()),
                torch.linalg.vector_norm(difference),
                (now != old).float().mean(),
                descent,
                now.float().sum(),
            ]
        )
        groups.setdefault(tensor.device, []).append((place, row))
    for rows in groups.values():
        for (place, _), values in zip(rows, torch.stack([row for _, row in rows]).tolist(), strict=True):
            weight, update, changed, descent, total = values
            good = -float("inf") < total < float("inf") or bool(torch.isfinite(tensors[place].detach()).all())
            results[place] = (
                weight,
                update,
                changed,
                None if gradients[place] is None else descent,
                good,
            )
    return results
