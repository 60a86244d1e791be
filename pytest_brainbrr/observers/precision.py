"""Gradient scalers and autocast regions, in order.

Limits: scalers that do not inherit from torch.amp.GradScaler are not seen.
"""

from typing import Any

import torch

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.gradients import SCALE
from pytest_brainbrr.observers.optimizers import Optimizers
from pytest_brainbrr.observers.tensors import short, tensor_leaves


class Precision:
    """Writes `scaler` and `autocast` events."""

    def __init__(self, watch: Watch, optimizers: Optimizers) -> None:
        self.watch, self.optimizers = watch, optimizers
        self._attempts: dict[str, int] = {}

    def install(self) -> None:
        """Wrap the methods of the scaler and the entrance of autocast."""
        scaler = torch.amp.GradScaler
        for name in ("__init__", "scale", "unscale_", "step", "update"):
            self.watch.replace(scaler, name, self._wrap(name))
        self.watch.replace(torch.amp.autocast_mode.autocast, "__enter__", self._wrap_autocast)

    def _wrap(self, name: str) -> Any:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(scaler: Any, *args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.busy or not watch.active:
                    return original(scaler, *args, **kwargs)
                before = None if name == "__init__" else _scale(scaler)
                optimizer = args[0] if args and isinstance(args[0], torch.optim.Optimizer) else None
                identity = watch.registry.get(optimizer) if optimizer is not None else None
                taken = observer.optimizers.counts.get(identity or "", 0)
                result = original(scaler, *args, **kwargs)
                with watch.observing("precision"):
                    observer._record(name, scaler, before, optimizer, taken)
                    if name == "scale" and scaler.is_enabled():
                        for _, tensor in tensor_leaves(result):
                            node: Any = tensor.grad_fn
                            if node is not None:
                                # A note on the node itself: whatever is made of the scaled loss leads back to it.
                                node.metadata[SCALE] = before
                if name == "step" and optimizer is not None:
                    key = watch.registry.name(optimizer, "o")
                    observer._attempts[key] = observer._attempts.get(key, 0) + 1
                    observer.optimizers.attempted(key, observer._attempts[key])
                return result

            return wrapper

        return make

    def _record(self, name: str, scaler: Any, before: float | None, optimizer: Any, taken: int) -> None:
        watch, enabled = self.watch, bool(scaler.is_enabled())
        identity = watch.registry.name(optimizer, "o") if optimizer is not None else None
        watch.emit(
            "scaler",
            id=watch.registry.name(scaler, "g"),
            action={"__init__": "init", "unscale_": "unscale"}.get(name, name),
            enabled=enabled,
            scale=before,
            scale_after=_scale(scaler),
            skipped=self.optimizers.counts.get(identity or "", 0) == taken if name == "step" else None,
            optimizer=identity,
        )

    def _wrap_autocast(self, original: Any) -> Any:
        watch = self.watch

        def __enter__(region: Any) -> Any:  # noqa: N807
            if not torch.compiler.is_compiling() and watch.active and not watch.busy:
                with watch.observing("precision"):
                    key = ("autocast", str(region.device), short(region.fast_dtype), bool(region._enabled))
                    if key not in watch.shared:
                        watch.shared[key] = True
                        watch.emit("autocast", device=key[1], dtype=key[2], enabled=key[3])
            return original(region)

        return __enter__


def _scale(scaler: Any) -> float | None:
    """Return the scale without making the scaler's lazy tensors."""
    if not scaler.is_enabled():
        return None
    return float(scaler._scale.item()) if getattr(scaler, "_scale", None) is not None else float(scaler._init_scale)
