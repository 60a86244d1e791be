"""Checkpoints: what is written and read, by whom, and what stood in memory at that moment.

Limits: formats of other libraries (HDF5, zarr, distributed checkpoints) show as files only. Writes into buffers have
no path. What a key means is left to the checks.
"""

import io
import os
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from pytest_brainbrr.mirror import WRITE_EVENT
from pytest_brainbrr.observers.core import Here, Watch, caller
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.snapshots import Snapshots
from pytest_brainbrr.observers.tensors import digest, shape_of, short

MAX_LEAVES = 20_000
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl", ".joblib")


class Contents:
    """The flattened content of something saved."""

    def __init__(self, tree: Any, taken: Mapping[int, tuple[Any, int]] | None = None) -> None:
        self._known = taken or {}
        self.taken: dict[str, int] = {}
        self.tensors: dict[str, Any] = {}
        self.scalars: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.truncated = False
        self._count = 0
        self._walk(tree, "", 0)

    def _walk(self, value: Any, at: str, depth: int) -> None:  # noqa: C901, PLR0912 (one branch per kind of leaf)
        self._count += 1
        if self._count > MAX_LEAVES:
            self.truncated = True
            return
        if isinstance(value, Tensor):
            self.tensors[at] = {"shape": shape_of(value), "dtype": short(value.dtype), "digest": digest(value)}
            reference, step = self._known.get(id(value), (None, 0))
            if reference is not None and reference() is value:
                self.taken[at] = step
        elif isinstance(value, bool | int | float) or value is None:
            self.scalars[at] = value
        elif isinstance(value, str):
            self.scalars[at] = value[:200]
        elif isinstance(value, Mapping) and depth < 12:
            for key, item in value.items():
                self._walk(item, f"{at}/{key}" if at else str(key), depth + 1)
        elif isinstance(value, list | tuple) and depth < 12:
            for key, item in enumerate(value):
                self._walk(item, f"{at}/{key}" if at else str(key), depth + 1)
        elif isinstance(value, nn.Module) and depth < 12:
            self.types[at] = f"module {type(value).__name__}"
            self._walk(value.state_dict(), at, depth + 1)
        elif type(value).__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tobytes"):
            array = torch.from_numpy(value.copy()) if getattr(value, "ndim", 0) and value.dtype.kind in "fiu" else None
            if array is not None:
                self.tensors[at] = {"shape": list(value.shape), "dtype": str(value.dtype), "digest": digest(array)}
            else:
                self.scalars[at] = value.item() if getattr(value, "ndim", 1) == 0 else str(value)[:200]
        else:
            self.types[at] = type(value).__name__

    def fields(self) -> dict[str, Any]:
        """Return the fields of an event."""
        return {"tensors": self.tensors, "scalars": self.scalars, "types": self.types, "truncated": self.truncated}


class Checkpoints:
    """Writes `checkpoint_write`, `checkpoint_read`, `state_dict` and `load_state_dict` events."""

    def __init__(self, watch: Watch, models: Models, snapshots: Snapshots) -> None:
        self.watch, self.models, self.snapshots = watch, models, snapshots
        self._here = Here()
        self._wrapped: set[type] = set()
        self._taken: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def install(self) -> None:
        """Wrap the writers, the readers and the state-dict methods."""
        watch = self.watch
        for owner in (torch, torch.serialization):
            watch.replace(owner, "save", self._wrap_write("torch.save"))
            watch.replace(owner, "load", self._wrap_read("torch.load"))
        watch.when_imported("safetensors.torch", self._safetensors)
        watch.when_imported("joblib", self._joblib)
        import pickle

        watch.replace(pickle, "dump", self._wrap_write("pickle"))
        watch.replace(os, "fsync", self._wrap_fsync)
        for kind in (nn.Module, Optimizer, lr_scheduler.LRScheduler, torch.amp.GradScaler):
            self.wrap_class(kind)
        for scheduler in (
            lr_scheduler.ReduceLROnPlateau,
            lr_scheduler.LambdaLR,
            lr_scheduler.SequentialLR,
            lr_scheduler.ChainedScheduler,
        ):
            self.wrap_class(scheduler)

    def wrap_class(self, kind: type) -> None:
        """Wrap the state-dict methods that a class itself defines."""
        if kind in self._wrapped:
            return
        self._wrapped.add(kind)
        if "state_dict" in vars(kind):
            self.watch.replace(kind, "state_dict", self._wrap_state_dict)
        if "load_state_dict" in vars(kind):
            self.watch.replace(kind, "load_state_dict", self._wrap_load_state_dict)

    def _safetensors(self, module: Any) -> None:
        self.watch.replace(module, "save_file", self._wrap_write("safetensors", place=1))
        self.watch.replace(module, "load_file", self._wrap_read("safetensors"))

    def _joblib(self, module: Any) -> None:
        self.watch.replace(module, "dump", self._wrap_write("joblib", place=1))
        self.watch.replace(module, "load", self._wrap_read("joblib"))

    # ------------------------------------------------------------------ files

    def _wrap_write(self, writer: str, place: int = 1) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.busy or not watch.active or observer._here.depth:
                    return original(*args, **kwargs)
                # torch.save opens a path in C++, where the interpreter's own event for it is not raised.
                sys.audit(WRITE_EVENT, _destination(place, args, kwargs))
                event: dict[str, Any] = {}
                with watch.observing("checkpoints"):
                    event.update(observer._before_write(writer, place, args, kwargs))
                began = time.perf_counter()
                observer._here.depth += 1
                try:
                    result = original(*args, **kwargs)
                finally:
                    observer._here.depth -= 1
                if event:
                    with watch.observing("checkpoints"):
                        size = None if event["path"] is None else _size(watch.workdir / event["path"])
                        # The next file opened for writing is where a buffer goes.
                        watch.shared["buffer_written"] = event["path"] is None
                        watch.emit("checkpoint_write", **event, bytes=size, seconds=time.perf_counter() - began)
                return result

            return wrapper

        return make

    def _before_write(self, writer: str, place: int, args: Any, kwargs: Any) -> dict[str, Any]:
        first = args[0] if args else next((kwargs[key] for key in ("obj", "tensors", "value") if key in kwargs), None)
        to = _destination(place, args, kwargs)
        path = self._written_to(to)
        contents = Contents(first, self._taken)
        if not contents.tensors and writer in {"pickle", "joblib"}:
            return {}
        if contents.tensors:
            self.snapshots.record("save")
        return {
            "path": path,
            "writer": writer,
            "overwrote": path is not None and (self.watch.workdir / path).exists(),
            "by": caller(),
            "taken": contents.taken,
            **contents.fields(),
        }

    def _written_to(self, to: Any) -> str | None:
        """Return the path behind a path, an open file or a wrapper of one; None for a buffer."""
        if isinstance(to, str | os.PathLike):
            return self.watch.path(to)
        name = getattr(to, "name", None)
        if isinstance(name, int):
            name = _path_of(name)
        if isinstance(name, str | os.PathLike):
            return self.watch.path(name)
        # A wrapper of the trainer's own around the file it opened last.
        return None if isinstance(to, io.BytesIO) else self.watch.shared.get("opened_last")

    def _wrap_read(self, reader: str) -> Callable[[Any], Any]:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if watch.busy or not watch.active or observer._here.depth:
                    return original(*args, **kwargs)
                observer._here.depth += 1
                try:
                    result = original(*args, **kwargs)
                finally:
                    observer._here.depth -= 1
                with watch.observing("checkpoints"):
                    source = args[0] if args else next(iter(kwargs.values()), None)
                    if not isinstance(source, str | os.PathLike):
                        source = getattr(source, "name", None)
                    location = kwargs.get("map_location", args[1] if len(args) > 1 else None)
                    watch.emit(
                        "checkpoint_read",
                        path=watch.path(source),
                        reader=reader,
                        weights_only=kwargs.get("weights_only")
                        if isinstance(kwargs.get("weights_only"), bool)
                        else None,
                        map_location=None if location is None or callable(location) else str(location),
                        by=caller(),
                        **Contents(result).fields(),
                    )
                return result

            return wrapper

        return make

    def _wrap_fsync(self, original: Any) -> Any:
        watch = self.watch

        def fsync(descriptor: Any) -> Any:
            result = original(descriptor)
            if watch.active and not watch.busy:
                with watch.observing("checkpoints"):
                    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
                    watch.emit("fsync", path=watch.path(_path_of(number)))
            return result

        return fsync

    # ------------------------------------------------------------------ state dicts

    def _wrap_state_dict(self, original: Any) -> Any:
        observer = self

        def state_dict(owner: Any, *args: Any, **kwargs: Any) -> Any:
            watch = observer.watch
            if watch.busy or not watch.active or observer._here.depth or torch.compiler.is_compiling():
                return original(owner, *args, **kwargs)
            observer._here.depth += 1
            try:
                result = original(owner, *args, **kwargs)
            finally:
                observer._here.depth -= 1
            with watch.observing("checkpoints"):
                keys = len(result) if isinstance(result, Mapping) else 0
                if isinstance(owner, nn.Module):
                    observer._remember(result)
                watch.emit(
                    "state_dict", what=type(owner).__name__, id=watch.registry.get(owner), keys=keys, by=caller()
                )
            return result

        return state_dict

    def _remember(self, state: Any) -> None:
        """Remember when a state dict was taken, by its first tensor: its values go on changing with the model."""
        self._taken = {key: entry for key, entry in self._taken.items() if entry[0]() is not None}
        values = state.values() if isinstance(state, Mapping) else ()
        first = next((value for value in values if isinstance(value, Tensor)), None)
        if first is not None and not isinstance(first, nn.Parameter):
            self._taken[id(first)] = (weakref.ref(first), self.watch.borders)

    def _wrap_load_state_dict(self, original: Any) -> Any:
        observer = self

        def load_state_dict(owner: Any, *args: Any, **kwargs: Any) -> Any:
            watch = observer.watch
            if watch.busy or not watch.active or observer._here.depth:
                return original(owner, *args, **kwargs)
            given = args[0] if args else kwargs.get("state_dict")
            event: dict[str, Any] = {"missing": [], "unexpected": [], "loaded": None, "own": None, "raised": None}
            with watch.observing("checkpoints"):
                if isinstance(owner, nn.Module) and isinstance(given, Mapping):
                    own = owner.state_dict()
                    event["own"] = observer._own_memory(own, given)
                    event["missing"] = [key for key in own if key not in given][:64]
                    event["unexpected"] = [str(key) for key in given if key not in own][:64]
            observer._here.depth += 1
            try:
                return original(owner, *args, **kwargs)
            except BaseException as error:
                event["raised"] = type(error).__name__
                raise
            finally:
                observer._here.depth -= 1
                with watch.observing("checkpoints"):
                    observer._loaded(owner, given, args, kwargs, event)

        return load_state_dict

    def _own_memory(self, own: Mapping[str, Any], given: Mapping[Any, Any]) -> int | None:
        """Return the step at which the given state was taken, if its tensors are still the module's own memory."""
        first = next((value for value in given.values() if isinstance(value, Tensor)), None)
        reference, step = self._taken.get(id(first), (None, 0))
        if reference is None or reference() is not first:
            return None
        pairs = [(value, own.get(key)) for key, value in given.items() if isinstance(value, Tensor) and value.numel()]
        shared = all(isinstance(mine, Tensor) and mine.data_ptr() == value.data_ptr() for value, mine in pairs)
        return step if shared and pairs else None

    def _loaded(self, owner: Any, given: Any, args: Any, kwargs: Any, event: dict[str, Any]) -> None:
        strict = None
        if isinstance(owner, nn.Module):
            strict = bool(kwargs.get("strict", args[1] if len(args) > 1 else True))
            own = owner.state_dict()
            if isinstance(given, Mapping):
                event["loaded"] = sum(
                    isinstance(value, Tensor)
                    and key in own
                    and isinstance(own[key], Tensor)
                    and digest(own[key]) == digest(value)
                    for key, value in given.items()
                )
        self.watch.emit(
            "load_state_dict",
            what=type(owner).__name__,
            id=self.watch.registry.get(owner),
            strict=strict,
            keys=len(given) if isinstance(given, Mapping) else 0,
            by=caller(),
            **event,
        )


def _destination(place: int, args: Any, kwargs: Any) -> Any:
    if len(args) > place:
        return args[place]
    return next((kwargs[key] for key in ("f", "filename", "file") if key in kwargs), None)


def _path_of(descriptor: int) -> Path | None:
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None  # no /proc here, or no file behind it


def _size(path: Any) -> int | None:
    try:
        return int(path.stat().st_size)
    except OSError:
        return None
