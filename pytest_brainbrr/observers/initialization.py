"""Initialization of weights that have already been trained.

Limits: only torch.nn.init, which reset_parameters() of torch's layers goes through.
"""

from typing import Any

from torch import Tensor
from torch.nn import init

from pytest_brainbrr.observers.core import Watch, caller

FUNCTIONS = (
    "uniform_",
    "normal_",
    "trunc_normal_",
    "constant_",
    "ones_",
    "zeros_",
    "eye_",
    "dirac_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "orthogonal_",
    "sparse_",
)


class Initialization:
    """Writes `initialized` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def install(self) -> None:
        """Wrap the functions of torch.nn.init."""
        for name in FUNCTIONS:
            self.watch.replace(init, name, self._wrap(name))

    def _wrap(self, name: str) -> Any:
        watch = self.watch

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                result = original(*args, **kwargs)
                if watch.borders and watch.active and not watch.busy:
                    with watch.observing("initialization"):
                        tensor = args[0] if args else kwargs.get("tensor")
                        identity = watch.registry.get(tensor) if isinstance(tensor, Tensor) else None
                        if identity is not None:
                            watch.emit("initialized", function=name, parameter=identity, by=caller())
                return result

            return wrapper

        return make
