"""Which modules are the trainer's models, what they are made of, and how their state moves.

A model ("root") is the outermost owner of a module that was called, or of a parameter that an optimizer holds, without
known wrappers (DDP, compiled, Fabric).
Limits: owners are known from torch's registration hooks, so a module that was deep-copied or unpickled before it got a
parent again is its own root. Weights changed between two borders show at the next one only.
"""

import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.nn.parameter import is_lazy

from pytest_brainbrr.observers.core import Watch, WeakMap
from pytest_brainbrr.observers.tensors import digest, plain, real, shape_of, short, text_digest

WRAPPERS = frozenset(
    {
        "DistributedDataParallel", "DataParallel", "OptimizedModule", "_FabricModule", "FullyShardedDataParallel",
        "_LightningModuleWrapperBase", "_ForwardRedirection", "DeepSpeedEngine",
    }
)  # fmt: skip
WRAPPED_AS = ("module", "_orig_mod", "_forward_module", "_original_module", "_fsdp_wrapped_module")
MAX_ATTRIBUTES = 40


def unwrapped(module: nn.Module) -> nn.Module:
    """Return what a known wrapper wraps, down to the trainer's own module."""
    for _ in range(8):
        if type(module).__name__ not in WRAPPERS:
            return module
        for name in WRAPPED_AS:
            inner = module._modules.get(name)
            if isinstance(inner, nn.Module):
                module = inner
                break
        else:
            return module
    return module


class Models:
    """The known roots, their parameters and the last digests of their state."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._parents: WeakMap[list[weakref.ref[nn.Module]]] = WeakMap()
        self._built: WeakMap[tuple[int, int]] = WeakMap()
        self._holders: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
        self._labels: dict[str, int] = {}
        self._roots: dict[str, weakref.ref[nn.Module]] = {}
        self._label_of: dict[str, str] = {}
        self._signatures: dict[str, int] = {}
        self.digests: dict[str, str | None] = {}
        self._why: dict[str, str] = {}
        self._callers: dict[str, set[int]] = {}
        """Root -> threads that called it with gradients on."""
        self._trainers: set[int] = set()
        """Threads that ran a backward."""
        self._buffer_ids: dict[tuple[str, str], str] = {}
        self._nonfinite: set[str] = set()
        self._seen_backwards = 0
        self.fresh: dict[str, tuple[str | None, bool | None]] = {}
        """Digest and finiteness of what a step has just been recorded for; valid until the border after it."""
        self.owned: dict[str, tuple[str, str]] = {}
        """Parameter or buffer id -> root id and name."""

    def install(self) -> None:
        """Watch modules and parameters being registered."""
        watch = self.watch
        for handle in (
            registration.register_module_module_registration_hook(self._module_registered),
            registration.register_module_parameter_registration_hook(self._parameter_registered),
        ):
            watch.stack.callback(handle.remove)
        watch.on_border.append(lambda: self.states("step"))
        watch.on_boundary.append(self._without_optimizer)
        watch.on_end.append(lambda: self.states("end"))

    def _module_registered(self, module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        if isinstance(submodule, nn.Module) and not self.watch.busy and not torch.compiler.is_compiling():
            parents = self._parents.get(submodule)
            if parents is None:
                self._parents.set(submodule, parents := [])
            parents.append(weakref.ref(module))

    def _parameter_registered(self, module: nn.Module, name: str, parameter: Any) -> None:
        if parameter is None or torch.compiler.is_compiling():
            return
        if self._built.get(module) is None:
            self._built.set(module, (self.watch.n, self.watch.shared.get("torch_seeds", 0)))
        self._holders[id(parameter)] = (weakref.ref(module), name)

    def holder_of(self, parameter: Tensor) -> nn.Module | None:
        """Return the module in which a parameter was registered, if it still sits there."""
        reference, name = self._holders.get(id(parameter), (None, ""))
        module = reference() if reference is not None else None
        return module if module is not None and module._parameters.get(name) is parameter else None

    def parents_of(self, module: nn.Module) -> list[nn.Module]:
        """Return the living modules that a module was registered in."""
        found = (reference() for reference in self._parents.get(module) or [])
        return [parent for parent in found if parent is not None]

    # ------------------------------------------------------------------ who is the root

    def root_of(self, module: nn.Module) -> nn.Module:
        """Return the outermost owner of a module that still holds it."""
        module, seen = unwrapped(module), set()
        while id(module) not in seen:
            seen.add(id(module))
            for reference in self._parents.get(module) or []:
                parent = reference()
                if (
                    parent is not None
                    and type(parent).__name__ not in WRAPPERS
                    and type(parent).__name__ != "AveragedModel"
                    and any(child is module for child in parent._modules.values())
                ):
                    module = parent
                    break
        return module

    def know(self, module: nn.Module, why: str) -> str | None:
        """Return the id of the root of a module, recorded now if it is new; None for one without state."""
        root = self.root_of(module)
        identity = self.watch.registry.get(root)
        if identity in self._roots:
            self._note_caller(identity, why)
            return identity
        if next(root.parameters(), None) is None and next(root.buffers(), None) is None:
            return None
        identity = self.watch.registry.name(root, "m")
        name = type(root).__name__
        self._labels[name] = self._labels.get(name, 0) + 1
        self._label_of[identity] = name if self._labels[name] == 1 else f"{name}-{self._labels[name]}"
        self._roots[identity], self._why[identity] = weakref.ref(root), why
        self._note_caller(identity, why)
        self.refresh(identity, root)
        return identity

    def roots(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield id, label and module of every root that lives."""
        for identity, reference in list(self._roots.items()):
            root = reference()
            if root is not None:
                yield identity, self._label_of[identity], root

    def label(self, identity: str) -> str:
        """Return the label of a root."""
        return self._label_of[identity]

    def owner_of(self, parameter: Tensor) -> str | None:
        """Return the id of a known root that owns this parameter."""
        identity = self.watch.registry.get(parameter)
        return self.owned[identity][0] if identity in self.owned else None

    def name_of(self, tensor: Tensor) -> str | None:
        """Return the name of a parameter in its root."""
        identity = self.watch.registry.get(tensor)
        return self.owned[identity][1] if identity in self.owned else None

    def _note_caller(self, identity: str, why: str) -> None:
        if why == "called" and torch.is_grad_enabled():
            self._callers.setdefault(identity, set()).add(threading.get_ident())

    def trains_here(self) -> None:
        """Note that this thread runs backwards of its own."""
        self._trainers.add(threading.get_ident())

    def elsewhere(self) -> set[int]:
        """Return the ``id`` of every parameter that only other threads train.

        Their backwards may write a gradient at the very moment in which it is looked at here: that ends the process.
        """
        others = self._trainers - {threading.get_ident()}
        if not others:
            return set()
        theirs: set[int] = set()
        mine: set[int] = set()
        for identity, _, root in self.roots():
            callers = self._callers.get(identity, set())
            only = bool(callers & others) and threading.get_ident() not in callers
            (theirs if only else mine).update(id(parameter) for parameter in root.parameters())
        return theirs - mine

    def trainable(self) -> Iterator[tuple[str, Tensor]]:
        """Yield id and tensor of every known parameter that requires a gradient: of roots, then of optimizers."""
        seen = self.elsewhere()
        for _, _, root in self.roots():
            for parameter in root.parameters():
                if parameter.requires_grad and id(parameter) not in seen and not is_lazy(parameter):
                    seen.add(id(parameter))
                    yield self.watch.registry.name(parameter, "p"), parameter
        for identity, tensor in self.watch.registry.alive("p"):
            if id(tensor) not in seen and tensor.requires_grad and not is_lazy(tensor):
                yield identity, tensor

    def _without_optimizer(self) -> None:
        """Look at the weights between iterations of a trainer that updates them by hand."""
        backwards = self.watch.shared.get("backwards", 0)
        if backwards > self._seen_backwards and next(self.watch.registry.alive("o"), None) is None:
            self._seen_backwards = backwards
            why = "no torch optimizer exists; weights are compared between iterations instead"
            self.watch.not_observed("manual_update", why)
            self.states("step")

    # ------------------------------------------------------------------ describing

    def refresh(self, identity: str, root: nn.Module) -> None:
        """Record a root if it is new or its parameters changed."""
        # Lazy layers have no shape before their first call: their parameters become known when they have one.
        pairs = [pair for pair in root.named_parameters(remove_duplicate=False) if not is_lazy(pair[1])]
        signature = hash(tuple((name, id(parameter), parameter.requires_grad) for name, parameter in pairs))
        if self._signatures.get(identity) == signature:
            return
        self._signatures[identity] = signature
        self.watch.emit("model", **self._describe(identity, root, pairs))
        callback = self.watch.shared.get("parameters_known")
        if callback is not None:
            callback()

    def _describe(self, identity: str, root: nn.Module, pairs: list[tuple[str, nn.Parameter]]) -> dict[str, Any]:
        name_of: dict[str, str] = {}
        registry = self.watch.registry
        tied: dict[str, list[str]] = {}
        parameters = []
        modules_by_path = dict(root.named_modules(remove_duplicate=False))
        for name, parameter in pairs:
            key = registry.name(parameter, "p")
            if key in name_of:
                tied.setdefault(key, [name_of[key]]).append(name)
                continue
            name_of[key] = name
            self.owned[key] = (identity, name)
            parameters.append(self._parameter(key, name, parameter, modules_by_path.get(name.rpartition(".")[0])))
        buffers = []
        for name, buffer in root.named_buffers():
            if is_lazy(buffer):
                continue
            key = self._buffer_ids.setdefault((identity, name), registry.name(buffer, "b"))
            self.owned[key] = (identity, name)
            owner = modules_by_path.get(name.rpartition(".")[0])
            volatile: set[str] = getattr(owner, "_non_persistent_buffers_set", set())
            buffers.append(
                {
                    "id": key,
                    "name": name,
                    "shape": shape_of(buffer),
                    "dtype": short(buffer.dtype),
                    "device": str(buffer.device),
                    "digest": digest(buffer),
                    "persistent": name.rpartition(".")[2] not in volatile,
                }
            )
        built = [found for module in root.modules() if (found := self._built.get(module)) is not None]
        return {
            "id": identity,
            "label": self._label_of[identity],
            "class": _qualified(type(root)),
            "wrapper": type(root).__name__ in WRAPPERS,
            "why": self._why[identity],
            "parameters": parameters,
            "tied": list(tied.values()),
            "buffers": buffers,
            "modules": [_module_facts(path, module) for path, module in root.named_modules()],
            "unregistered": list(_unregistered(root)),
            "built_n": min(built)[0] if built else None,
            "seeds_before_build": min(built)[1] if built else None,
        }

    def _parameter(self, key: str, name: str, parameter: Tensor, owner: nn.Module | None) -> dict[str, Any]:
        fact: dict[str, Any] = {
            "id": key,
            "name": name,
            "shape": shape_of(parameter),
            "dtype": short(parameter.dtype),
            "device": str(parameter.device),
            "requires_grad": parameter.requires_grad,
            "digest": digest(parameter),
            "elements": parameter.numel(),
            "norm": None,
            "constant": None,
            "zero": None,
            "rows_equal": None,
            "finite": None,
            "owner": type(owner).__name__ if owner is not None else None,
            "parametrized": ".parametrizations." in f".{name}",
            # The mark that state-space layers put on what must not decay.
            "no_decay": bool(getattr(parameter, "_no_weight_decay", False)),
            "hooks": [
                getattr(hook, "__name__", type(hook).__name__) for hook in (parameter._backward_hooks or {}).values()
            ],
        }
        value = parameter.detach()
        if plain(value) and value.numel() and (value.is_floating_point() or value.is_complex()):
            value = real(value).float()
            low, high = torch.aminmax(value)
            low_, high_, norm = torch.stack([low, high, torch.linalg.vector_norm(value)]).tolist()
            fact["finite"] = all(-float("inf") < number < float("inf") for number in (low_, high_))
            fact["norm"], fact["constant"], fact["zero"] = norm, low_ == high_, low_ == high_ == 0.0
            if value.dim() > 1 and value.shape[0] > 1:
                # The first two rows tell nearly always; all of them are compared only where those are equal.
                fact["rows_equal"] = bool((value[0] == value[1]).all()) and bool((value == value[:1]).all())
        return fact

    # ------------------------------------------------------------------ state at borders

    def states(self, when: str) -> None:
        """Record the digests of every root's state."""
        with self.watch.observing("models"):
            for identity, _, root in list(self.roots()):
                self.refresh(identity, root)
                self.state(identity, root, when)

    def state(self, identity: str, root: nn.Module, when: str) -> None:
        """Record the digests of one root's state."""
        registry = self.watch.registry
        found: dict[str, dict[str, str | None]] = {"parameters": {}, "buffers": {}}
        moved: dict[str, list[str]] = {"parameters": [], "buffers": []}
        devices: dict[str, int] = {}
        dtypes: dict[str, int] = {}
        nonfinite = []
        for field, prefix, tensors in (
            ("parameters", "p", root.parameters()),
            ("buffers", "b", root.named_buffers()),
        ):
            for item in tensors:
                tensor = item[1] if isinstance(item, tuple) else item
                if is_lazy(tensor):
                    continue
                if isinstance(item, tuple):
                    # Buffers are replaced as often as they are changed in place: their name is what stays.
                    key = self._buffer_ids.setdefault((identity, item[0]), registry.name(tensor, prefix))
                    self.owned.setdefault(key, (identity, item[0]))
                else:
                    key = registry.name(tensor, prefix)
                fresh = self.fresh.get(key)
                value = fresh[0] if fresh is not None else digest(tensor)
                found[field][key] = value
                if key in self.digests and self.digests[key] != value:
                    moved[field].append(key)
                # Bytes that did not change need not be looked at again.
                if self.digests.get(key, "") == value:
                    bad = key in self._nonfinite
                else:
                    bad = not (fresh[1] if fresh is not None and fresh[1] is not None else _finite(tensor))
                if bad:
                    nonfinite.append(key)
                self.digests[key] = value
                if field == "parameters":
                    devices[str(tensor.device)] = devices.get(str(tensor.device), 0) + 1
                    dtypes[short(tensor.dtype)] = dtypes.get(short(tensor.dtype), 0) + 1
        self._nonfinite = (self._nonfinite - found["parameters"].keys() - found["buffers"].keys()) | set(nonfinite)
        self.watch.emit(
            "weights",
            model=identity,
            when=when,
            parameters=found["parameters"],
            buffers=found["buffers"],
            moved=moved["parameters"],
            moved_buffers=moved["buffers"],
            devices=devices,
            dtypes=dtypes,
            nonfinite=nonfinite,
        )

    def snapshot(self) -> dict[str, dict[str, str | None]]:
        """Return label -> {name: digest} of parameters and persistent buffers of every root."""
        return {
            label: {name: digest(tensor) for name, tensor in _persistent(root) if isinstance(tensor, Tensor)}
            for _, label, root in self.roots()
        }


def _persistent(root: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from root.named_parameters(remove_duplicate=False)
    for path, module in root.named_modules(remove_duplicate=False):
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                yield (f"{path}.{name}" if path else name), buffer


def _finite(tensor: Tensor) -> bool:
    if not plain(tensor) or not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return True
    total = tensor.detach().sum(dtype=None if tensor.is_complex() else torch.float32)
    # The sum of large finite numbers may overflow: only then every element is asked.
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor.detach()).all())


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _module_facts(path: str, module: nn.Module) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, value in module.__dict__.items():
        if name.startswith("_") or name == "training" or len(attributes) >= MAX_ATTRIBUTES:
            continue
        if isinstance(value, bool | int | float | str) or value is None:
            attributes[name] = value[:120] if isinstance(value, str) else value
        elif (
            isinstance(value, tuple)
            and len(value) <= 8
            and all(isinstance(item, bool | int | float | str) for item in value)
        ):
            attributes[name] = list(value)
    return {
        "path": path,
        "class": type(module).__name__,
        "training": module.training,
        "attributes": attributes,
        "state": [*module._parameters.keys(), *module._buffers.keys()],  # scripted ones cannot be iterated over
    }


def _unregistered(root: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield attributes where modules or parameters sit in plain containers, invisible to `parameters()`."""
    registered = {id(thing) for thing in (*root.modules(), *root.parameters())}
    for path, module in root.named_modules():
        for name, value in module.__dict__.items():
            if name.startswith("_"):
                continue
            items = list(value.values()) if isinstance(value, Mapping) else value
            if not isinstance(items, list | tuple) or not items or len(items) > 4096:
                continue
            hidden = [
                item
                for item in items
                if id(item) not in registered
                and (
                    isinstance(item, nn.Parameter)
                    or (isinstance(item, nn.Module) and next(item.parameters(), None) is not None)
                )
            ]
            if hidden:
                yield {"path": f"{path}.{name}" if path else name, "count": len(hidden)}


def state_signature(digests: Mapping[str, str | None]) -> str:
    """Return one digest for many."""
    return text_digest(*(f"{key}={value}" for key, value in digests.items()))
