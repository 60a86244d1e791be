"""Learning-rate schedulers: when they are made, when they step, and the rates before and after.

Limits: rates set by hand in the trainer's loop leave no event; they are in the groups of every `step`.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.optim import lr_scheduler

from pytest_brainbrr.observers.core import Here, Watch, caller
from pytest_brainbrr.observers.optimizers import scalars, unwrapped

SCHEDULE = re.compile(r"sch|warm|anneal|decay|lr", re.IGNORECASE)
"""What a schedule is called in code."""
COUNTED = re.compile(r"epoch|step|iter|warm|start", re.IGNORECASE)
"""What is compared before a schedule has its turn."""
MAX_FILES = 200


class Schedulers:
    """Writes `scheduler` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._wrapped: set[type] = set()
        self._counts: dict[str, int] = {}
        self._here = Here()
        self._inside: set[int] = set()

    def install(self) -> None:
        """Wrap the classes of torch now, classes of the trainer when the first object of them is made."""
        for kind in {lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau, *_subclasses(lr_scheduler.LRScheduler)}:
            self._wrap_class(kind)

    def _wrap_class(self, kind: type) -> None:
        if kind in self._wrapped:
            return
        self._wrapped.add(kind)
        if "__init__" in vars(kind):
            self.watch.replace(kind, "__init__", self._wrap_init)
        if "step" in vars(kind):
            self.watch.replace(kind, "step", self._wrap_step)

    def _wrap_init(self, original: Any) -> Any:
        observer = self

        def __init__(scheduler: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            for kind in type(scheduler).__mro__:
                if kind is not object and kind not in observer._wrapped and "step" in vars(kind):
                    observer._wrap_class(kind)
            if id(scheduler) in observer._inside or observer.watch.busy or not observer.watch.active:
                original(scheduler, *args, **kwargs)
                return
            observer._inside.add(id(scheduler))
            observer._here.making += 1
            try:
                original(scheduler, *args, **kwargs)
            finally:
                observer._here.making -= 1
                observer._inside.discard(id(scheduler))
            with observer.watch.observing("schedulers"):
                observer._record(scheduler, "init", None, None, inner=observer._here.making > 0)

        return __init__

    def _wrap_step(self, original: Any) -> Any:
        observer = self

        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            watch = observer.watch
            if watch.busy or not watch.active or observer._here.making or id(scheduler) in observer._inside:
                return original(scheduler, *args, **kwargs)
            before = _rates(scheduler)
            observer._inside.add(id(scheduler))
            observer._here.depth += 1
            try:
                result = original(scheduler, *args, **kwargs)
            finally:
                observer._here.depth -= 1
                observer._inside.discard(id(scheduler))
            with watch.observing("schedulers"):
                identity = watch.registry.name(scheduler, "s")
                observer._counts[identity] = observer._counts.get(identity, 0) + 1
                argument = args[0] if args else next(iter(kwargs.values()), None)
                observer._record(scheduler, "step", before, argument, inner=observer._here.depth > 0)
            return result

        return step

    def _record(self, scheduler: Any, action: str, before: Any, argument: Any, *, inner: bool) -> None:
        identity = self.watch.registry.name(scheduler, "s")
        optimizer = unwrapped(getattr(scheduler, "optimizer", None))
        number = (
            argument.item() if hasattr(argument, "item") and getattr(argument, "numel", lambda: 1)() == 1 else argument
        )
        self.watch.emit(
            "scheduler",
            id=identity,
            **{"class": type(scheduler).__name__},
            action=action,
            optimizer=self.watch.registry.name(optimizer, "o") if optimizer is not None else None,
            count=self._counts.get(identity, 0),
            rates_before=before,
            rates=_rates(scheduler),
            last_epoch=getattr(scheduler, "last_epoch", None),
            options={key: value for key, value in scalars(vars(scheduler)).items() if not key.startswith("_")},
            argument=number if isinstance(number, int | float) else None,
            inner=inner,
            by=caller(),
            waits=_waits() if action == "init" else None,
        )


def _waits() -> bool:
    """Return whether a schedule is stepped only where epochs or steps are compared, so that its turn may come.

    Looked at is the function that makes it, or else the code that lies beside it or beside the script.
    """
    module, frame = caller(), sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    own = _of_function(_tree(frame.f_code.co_filename), frame.f_lineno)
    if own is not None and (way := _way(own)) != "no":
        return way == "later"
    known = (sys.modules.get(name) for name in (module, "__main__"))
    files = [file for file in (getattr(each, "__file__", None) for each in known) if file]
    folders = {str(Path(file).parent) for file in files if "site-packages" not in file}
    beside = (getattr(each, "__file__", None) for each in list(sys.modules.values()))
    files += [file for file in beside if file and str(Path(file).parent) in folders][:MAX_FILES]
    ways = {_way_of_file(file) for file in dict.fromkeys(files) if file.endswith(".py")}
    return "later" in ways and "yes" not in ways


@functools.lru_cache(maxsize=2 * MAX_FILES)
def _way_of_file(file: str) -> str:
    return _way(_tree(file))


def _tree(file: str) -> ast.Module:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        return ast.parse(text) if ".step(" in text else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


def _of_function(tree: ast.Module, line: int) -> ast.AST | None:
    """Return the innermost function that a line stands in."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def _way(tree: ast.AST) -> str:
    ways = set(_ways(tree, later=False))
    return next((way for way in ("yes", "later") if way in ways), "no")


def _ways(node: ast.AST, *, later: bool) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step":
        owner = ast.unparse(node.func.value).rpartition(".")[2]
        if SCHEDULE.search(owner):
            yield "later" if later else "yes"
    waits = isinstance(node, ast.If) and any(
        isinstance(part, ast.Compare) and _counts(part) and COUNTED.search(ast.unparse(part))
        for part in ast.walk(node.test)
    )
    for child in ast.iter_child_nodes(node):
        yield from _ways(child, later=later or waits)


def _counts(part: ast.Compare) -> bool:
    """Return whether numbers are compared, not names: ``epoch >= 10``, but not ``mode == "step"``."""
    return not any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in ast.walk(part))


def _rates(scheduler: Any) -> list[float]:
    optimizer = getattr(scheduler, "optimizer", None)
    return [float(group["lr"]) for group in optimizer.param_groups] if optimizer is not None else []


def _subclasses(kind: type) -> set[type]:
    found: set[type] = set(kind.__subclasses__())
    return found.union(*(_subclasses(child) for child in found)) if found else found
