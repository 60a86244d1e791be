"""Random generators: digests of their states at borders, and who seeds them. Nothing is drawn.

Limits: generators of the trainer's own (torch.Generator, numpy.random.Generator) are not followed.
"""

import random
import sys
from collections.abc import Callable
from typing import Any

import torch

from pytest_brainbrr.observers.core import Here, Watch, caller
from pytest_brainbrr.observers.tensors import text_digest


def states() -> dict[str, str | None]:
    """Return digests of torch's, numpy's, Python's and the current CUDA device's generators."""
    numpy = sys.modules.get("numpy.random")
    legacy = None
    if numpy is not None:
        state = numpy.get_state(legacy=False)
        inner = state["state"]
        key = inner["key"].tobytes() if "key" in inner else repr(inner).encode()
        legacy = text_digest(key, inner.get("pos"), state.get("has_gauss"), state.get("gauss"))
    cuda = None
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = text_digest(torch.cuda.get_rng_state().numpy().tobytes())
    # Inside a transform of torch.func every new tensor is a wrapped one, without bytes.
    with torch._C._DisableFuncTorch():
        own = torch.random.get_rng_state().numpy().tobytes()
    return {
        "torch": text_digest(own),
        "numpy": legacy,
        "python": text_digest(repr(random.getstate())),
        "cuda": cuda,
    }


class Randomness:
    """Writes `rng` and `seed` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._here = Here()

    def install(self) -> None:
        """Wrap the seeding functions and record states at borders."""
        watch = self.watch
        watch.on_border.append(lambda: self.record("step"))
        watch.on_end.append(lambda: self.record("end"))
        for key, when in (("on_first_forward", "first_forward"), ("on_epoch", "epoch"), ("on_phase", "phase")):
            watch.shared.setdefault(key, []).append(self._at(when))
        for owner, name, shown in (
            (torch, "manual_seed", "torch.manual_seed"),
            (torch.random, "manual_seed", "torch.manual_seed"),
            (torch, "seed", "torch.seed"),
            (torch, "set_rng_state", "torch.set_rng_state"),
            (torch.random, "set_rng_state", "torch.set_rng_state"),
            (random, "setstate", "random.setstate"),
            (torch.cuda, "manual_seed_all", "torch.cuda.manual_seed_all"),
            (random, "seed", "random.seed"),
        ):
            watch.replace(owner, name, self._wrap(shown))
        watch.when_imported("numpy.random", self._numpy)
        self.record("begin")

    def _numpy(self, numpy: Any) -> None:
        self.watch.replace(numpy, "seed", self._wrap("numpy.random.seed"))
        self.watch.replace(numpy, "set_state", self._wrap("numpy.random.set_state"))
        self.watch.replace(numpy, "default_rng", self._wrap("numpy.random.default_rng"))

    def _at(self, when: str) -> Callable[[], None]:
        return lambda: self.record(when)

    def record(self, when: str) -> None:
        """Record the states now."""
        watch = self.watch
        if watch.active:
            try:
                watch.emit("rng", when=when, **states())
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                watch.fail("randomness", error)

    def _wrap(self, name: str) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.busy or not watch.active or observer._here.depth or torch.compiler.is_compiling():
                    return original(*args, **kwargs)
                observer._here.depth += 1
                try:
                    result = original(*args, **kwargs)
                finally:
                    observer._here.depth -= 1
                if name == "torch.manual_seed":
                    watch.shared["torch_seeds"] = watch.shared.get("torch_seeds", 0) + 1
                value = None if "state" in name else args[0] if args else next(iter(kwargs.values()), None)
                with watch.observing("randomness"):
                    watch.emit("seed", function=name, value=_number(value), by=caller())
                return result

            return wrapper

        return make


def _number(value: Any) -> Any:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None if value is None else str(value)[:80]
