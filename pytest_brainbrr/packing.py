"""Carry a target's callables into a fresh process: by reference where that process can import them, else by value."""

import importlib.machinery
import importlib.util
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from pytest_brainbrr.targets import Target


def pack(target: Target, path: Path) -> Path | None:
    """Write (train, prepare) for the child; None if there is nothing to carry.

    Raises:
        TypeError: a callable that can be carried neither by reference nor by value.
    """
    if target.train is None and target.prepare is None:
        return None
    value = (target.train, target.prepare)
    # Once each: train and prepare often come from one module, which cannot be unregistered twice.
    modules = {module for function in value if function is not None for module in _unimportable(function)}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        data = cloudpickle.dumps(value)
    except (TypeError, pickle.PicklingError, AttributeError) as error:
        raise TypeError(
            f"target {target.name!r}: train or prepare cannot be carried into a fresh process ({error}); "
            "move it into an importable module, or build what it needs inside it"
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    path.write_bytes(data)
    return path


def _unimportable(function: Callable[..., Any]) -> Iterator[ModuleType]:
    """Yield the modules of a callable that a fresh process would not find, or would find another one for."""
    seen: set[str] = set()
    for thing in (
        function,
        type(function),
        getattr(function, "func", None),
        getattr(function, "__self__", None),
        getattr(function, "__wrapped__", None),
    ):
        name = getattr(thing, "__module__", None)
        if not isinstance(name, str) or name in seen or name in {"__main__", "builtins", "functools"}:
            continue
        seen.add(name)
        module = sys.modules.get(name)
        if module is not None and not _importable(module):
            yield module


def _importable(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return True
    name = module.__name__
    if name.split(".")[-1] == "conftest" or name.split(".")[-1].startswith("test_"):
        return False
    if "." in name:
        parent = sys.modules.get(name.rpartition(".")[0])
        return parent is None or _importable(parent)
    spec = importlib.machinery.PathFinder.find_spec(name, sys.path)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == Path(file).resolve()
