"""Callbacks for modules that the trainer may import later: nothing is imported on its behalf."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


class Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module, and calls back once it is loaded."""

    def __init__(self) -> None:
        self.wanted: dict[str, list[Callable[[ModuleType], None]]] = {}
        self._searching: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec that the others find, with a loader that calls back."""
        if fullname not in self.wanted or fullname in self._searching:
            return None
        self._searching.add(fullname)
        try:
            spec = None
            for finder in sys.meta_path:
                if finder is not self and hasattr(finder, "find_spec"):
                    spec = finder.find_spec(fullname, path, target)
                    if spec is not None:
                        break
        finally:
            self._searching.discard(fullname)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        loader, original, wanted = spec.loader, spec.loader.exec_module, self.wanted

        def exec_module(module: ModuleType) -> None:
            # The loader may be shared or compared by others: it is as it was before the module runs.
            del loader.exec_module
            original(module)
            for callback in wanted.pop(fullname, []):
                callback(module)

        try:
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError:
            return None
        return spec

    def when_imported(self, name: str, callback: Callable[[Any], None]) -> None:
        """Call back with the module now if it is imported, else right after it has been."""
        if name in sys.modules:
            callback(sys.modules[name])
        else:
            self.wanted.setdefault(name, []).append(callback)
