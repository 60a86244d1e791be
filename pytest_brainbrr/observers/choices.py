"""argmax and softmax: which axis they run over. A wrong one gives numbers that look like predictions.

Limits: the first calls per shape's rank, axis and caller; not inside torch.compile or torch.jit; of NumPy's argmax the
function only, since methods of arrays cannot be replaced.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_brainbrr.observers.core import Watch, caller
from pytest_brainbrr.observers.tensors import digest


class Choices:
    """Writes `choice` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._known: dict[Any, int] = {}

    def install(self) -> None:
        """Wrap them as method and as function; scripted code keeps the operators."""
        self.watch.replace(np, "argmax", self._wrap_array)
        register = getattr(getattr(torch.jit, "_builtins", None), "_register_builtin", None)
        for name in ("argmax", "softmax"):
            self.watch.replace(Tensor, name, self._wrap(name))
            self.watch.replace(torch, name, self._wrap(name))
            if register is not None:
                register(getattr(torch, name), f"aten::{name}")

    def _wrap(self, name: str) -> Any:
        observer = self

        def make(original: Any) -> Any:
            def choose(*args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.active and not watch.busy and not torch.compiler.is_compiling():
                    with watch.observing("choices"):
                        observer._record(name, *args, **kwargs)
                return original(*args, **kwargs)

            return choose

        return make

    def _wrap_array(self, original: Any) -> Any:
        observer = self

        def argmax(*args: Any, **kwargs: Any) -> Any:
            watch = observer.watch
            if watch.active and not watch.busy:
                with watch.observing("choices"):
                    observer._array(*args, **kwargs)
            return original(*args, **kwargs)

        return argmax

    def _array(self, a: Any, axis: Any = None, *others: Any, **options: Any) -> None:
        if isinstance(a, np.ndarray) and a.dtype in {np.dtype("float32"), np.dtype("float64")} and a.ndim > 1:
            self._record("argmax", torch.from_numpy(np.ascontiguousarray(a)), axis)

    def _record(self, name: str, tensor: Any = None, dim: Any = None, *rest: Any, **others: Any) -> None:
        tensor = others.get("input", tensor)
        if not isinstance(tensor, Tensor) or not isinstance(dim, int) or tensor.dim() == 0:
            return
        axis, by = dim % tensor.dim(), caller()
        key = (name, tensor.dim(), axis, by, torch.is_grad_enabled())
        self._known[key] = self._known.get(key, 0) + 1
        if self._known[key] > 2:
            return
        self.watch.emit(
            "choice",
            function=name,
            shape=list(tensor.shape),
            axis=axis,
            digest=digest(tensor.detach()),
            ends=[digest(tensor.detach()[place]) for place in (0, -1)] if tensor.dim() > 1 and len(tensor) else None,
            grad_enabled=torch.is_grad_enabled(),
            by=by,
        )
