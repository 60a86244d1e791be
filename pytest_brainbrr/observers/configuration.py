"""What the trainer has at hand as its configuration: parsed arguments, and variables named or made like one.

Looked at when arguments are parsed and when an optimizer is made: local variables and attributes of ``self`` in the
trainer's own functions on the stack, and the globals that these functions name. Limits: numbers, flags, words and short
lists of them. Objects of installed classes (a framework's own arguments) are left alone, and so are the local variables
of functions that ask for ``locals()`` themselves: looking would change what they hold.
"""

import argparse
import dataclasses
import dis
import os
import re
import sys
import types
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pytest_brainbrr.configurations import known_keys, plain_values
from pytest_brainbrr.observers.core import HERE, Watch
from pytest_brainbrr.observers.environment import INSTALLED, trainers_own

WORDS = frozenset(
    {
        "arg", "args", "arguments", "c", "cfg", "cfgs", "conf", "config", "configs", "configuration", "flags", "hp",
        "hparam", "hparams", "hps", "hyperparameters", "hyperparams", "opt", "options", "opts", "params", "setting",
        "settings",
    }
)  # fmt: skip
CLASS = re.compile(r"Config|Cfg|CFG|Setting|Arguments|Args|Hparams|HParams|Hyper|Options")
ASKING = frozenset({"locals", "_getframe", "currentframe", "f_locals"})
NEVER = (Tensor, nn.Module, Optimizer, types.ModuleType, str, bytes, int, float, list, set, os._Environ)
MAX_FRAMES, MAX_FOUND = 40, 32


class Configuration:
    """Writes `configuration` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._seen: set[str] = set()

    def install(self) -> None:
        """Wrap the parser of arguments and the constructor of optimizers."""
        self.watch.replace(argparse.ArgumentParser, "parse_known_args", self._wrap_parser)
        self.watch.replace(Optimizer, "__init__", self._wrap_optimizer)

    def _wrap_parser(self, original: Any) -> Any:
        observer = self

        def parse_known_args(parser: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(parser, *args, **kwargs)
            watch = observer.watch
            if watch.active and not watch.busy:
                with watch.observing("configuration"):
                    if trainers_own(sys._getframe(1)):
                        observer._emit("arguments", "arguments", found[0])
            return found

        return parse_known_args

    def _wrap_optimizer(self, original: Any) -> Any:
        observer = self

        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(optimizer, *args, **kwargs)
            watch = observer.watch
            if watch.active and not watch.busy:
                with watch.observing("configuration"):
                    observer._look(sys._getframe(1))

        return __init__

    def _look(self, frame: Any) -> None:
        for _ in range(MAX_FRAMES):
            if frame is None:
                return
            if not frame.f_code.co_filename.startswith((HERE, "<frozen", *INSTALLED)):
                self._search(_variables(frame))
                # What a module holds and no function at work asks for may be another trainer's.
                asked = frame.f_code.co_names
                self._search([(name, frame.f_globals[name]) for name in asked if name in frame.f_globals])
            frame = frame.f_back

    def _search(self, variables: list[tuple[str, Any]]) -> None:
        for name, value in variables:
            if _is_configuration(name, value):
                self._emit("variable", name, value)
        variables.clear()

    def _emit(self, source: str, name: str, thing: Any) -> None:
        values = plain_values(_members(thing))
        undeclared = _undeclared(thing)
        key = repr((source, name, values))
        if not values or key in self._seen or len(self._seen) >= MAX_FOUND:
            return
        self._seen.add(key)
        self.watch.emit("configuration", source=source, name=name, values=values, undeclared=undeclared)


def _variables(frame: Any) -> list[tuple[str, Any]]:
    """Return the local variables of a function, and the attributes of its ``self``."""
    code = frame.f_code
    if not code.co_flags & 1 or _asks_for_locals(code):  # 1: a function, whose variables are not a mapping of their own
        return []
    snapshot = frame.f_locals
    found = list(snapshot.items())
    if isinstance(snapshot, dict):
        snapshot.clear()  # up to Python 3.12 the frame keeps it, and with it all that it names
    owner = next((value for name, value in found if name == "self"), None)
    if owner is not None and _written_here(type(owner)):
        found += [
            (name, value) for name, value in list(getattr(owner, "__dict__", {}).items()) if isinstance(name, str)
        ]
    return found


def _asks_for_locals(code: types.CodeType) -> bool:
    """Return whether a function holds its own variables as a mapping: ``locals()``, or ``vars()`` of nothing."""
    if ASKING.intersection(code.co_names):
        return True
    if "vars" not in code.co_names:
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in {"CACHE", "PUSH_NULL"}]
    return any(
        step.argval == "vars" and "CALL" in following.opname and not following.arg
        for step, following in pairwise(steps)
    )


def _written_here(kind: type) -> bool:
    """Return whether a class is the trainer's own."""
    module = sys.modules.get(kind.__module__)
    name = str(getattr(module, "__file__", None) or "")
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return False
    return not name.startswith((HERE, *INSTALLED))


def _is_configuration(name: str, value: Any) -> bool:
    if value is None or isinstance(value, NEVER) or name.startswith("__"):
        return False
    named = bool(WORDS.intersection(name.lower().split("_")))
    if isinstance(value, Mapping):
        return "params" not in value and (named or known_keys(value) > 1)
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return True
    kind = value if isinstance(value, type) else type(value)
    if isinstance(value, types.FunctionType | types.MethodType) or not _written_here(kind):
        return False
    structured = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or hasattr(kind, "model_fields")
    called = bool(CLASS.search(kind.__name__))
    if isinstance(value, type):  # of a structured class the instances are the settings, its own values defaults
        return named and called and not structured and known_keys(vars(kind)) > 1
    return called or (structured and named)


def _members(thing: Any) -> dict[str, Any]:
    """Return name -> value of what a configuration holds, without calling anything of it."""
    if isinstance(thing, Mapping):
        return dict(thing)
    kind = thing if isinstance(thing, type) else type(thing)
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__ if _written_here(kind) else ()):
        found.update({name: value for name, value in vars(base).items() if not name.startswith("_")})
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        found.update(zip(thing._fields, thing, strict=True))
    elif not isinstance(thing, type):
        for field in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
            found[field.name] = getattr(thing, field.name, None)
        found.update(getattr(thing, "__dict__", {}))
    nested = {name: _members(value) for name, value in found.items() if _holds_more(value)}
    return {name: value for name, value in {**found, **nested}.items() if isinstance(name, str)}


def _holds_more(value: Any) -> bool:
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return True
    return not isinstance(value, type) and dataclasses.is_dataclass(value) and _written_here(type(value))


def _undeclared(thing: Any) -> list[str]:
    """Return the attributes that were set on a configuration though its class declares none of that name."""
    if isinstance(thing, type) or not dataclasses.is_dataclass(thing):
        return []
    fields = {field.name for field in dataclasses.fields(thing)}
    return sorted(name for name in getattr(thing, "__dict__", {}) if name not in fields and not name.startswith("_"))
