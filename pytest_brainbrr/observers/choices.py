"""argmax outside of models: which axis it runs over. A wrong one gives numbers that look like predictions.

Limits: the first call per shape's rank, axis and caller; not inside torch.compile or torch.jit; of NumPy's the function
only, since methods of arrays cannot be replaced.
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
        """Wrap argmax, as method and as function; scripted code keeps the operator."""
        self.watch.replace(Tensor, "argmax", self._wrap)
        self.watch.replace(torch, "argmax", self._wrap)
        self.watch.replace(np, "argmax", self._wrap_array)
        register = getattr(getattr(torch.jit, "_builtins", None), "_register_builtin", None)
        if register is not None:
            register(torch.argmax, "aten::argmax")

    def _wrap(self, original: Any) -> Any:
        observer = self

        def argmax(*args: Any, **kwargs: Any) -> Any:
            watch = observer.watch
            if watch.active and not watch.busy and not torch.compiler.is_compiling():
                with watch.observing("choices"):
                    observer._record(*args, **kwargs)
            return original(*args, **kwargs)

        return argmax

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
            self._record(torch.from_numpy(np.ascontiguousarray(a)), axis)

    def _record(self, tensor: Any, dim: Any = None, keepdim: bool = False, **others: Any) -> None:
        if not isinstance(tensor, Tensor) or not isinstance(dim, int) or tensor.dim() == 0:
            return
        axis, by = dim % tensor.dim(), caller()
        key = (tensor.dim(), axis, by, torch.is_grad_enabled())
        self._known[key] = self._known.get(key, 0) + 1
        if self._known[key] > 2:
            return
        self.watch.emit(
            "choice",
            function="argmax",
            shape=list(tensor.shape),
            axis=axis,
            digest=digest(tensor.detach()),
            ends=[digest(tensor.detach()[place]) for place in (0, -1)] if tensor.dim() > 1 and len(tensor) else None,
            grad_enabled=torch.is_grad_enabled(),
            by=by,
        )
