"""What all observers share: the record being written, identities, what is restored, and what is known so far.

Limits: identities are by object; an object that is made, dropped and made again gets a new one.
"""

import functools
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from pytest_brainbrr.imports import Finder
from pytest_brainbrr.trace import encode

HERE = str(Path(__file__).resolve().parent.parent)
MISSING = object()
Value = TypeVar("Value")


class Registry:
    """Short identities for live objects, by weak reference: nothing is kept alive."""

    def __init__(self) -> None:
        self._by_object: dict[int, tuple[str, weakref.ref[Any]]] = {}
        self._counts: dict[str, int] = {}

    def get(self, thing: Any) -> str | None:
        """Return the identity of an object if it has one."""
        found = self._by_object.get(id(thing))
        return found[0] if found is not None and found[1]() is thing else None

    def name(self, thing: Any, prefix: str) -> str:
        """Return the identity of an object, made now if it has none."""
        found = self.get(thing)
        if found is not None:
            return found
        self._counts[prefix] = self._counts.get(prefix, -1) + 1
        identity, key = f"{prefix}{self._counts[prefix]}", id(thing)

        def forget(reference: Any, table: dict[int, Any] = self._by_object) -> None:
            if key in table and table[key][1] is reference:
                del table[key]

        self._by_object[key] = (identity, weakref.ref(thing, forget))
        return identity

    def alive(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Yield identity and object of everything with this prefix that still lives."""
        for identity, reference in list(self._by_object.values()):
            if identity.startswith(prefix):
                thing = reference()
                if thing is not None:
                    yield identity, thing


class Here(threading.local):
    """How deep this thread is inside calls that are recorded as one. Other threads' calls are their own."""

    depth = 0
    making = 0


class WeakMap(Generic[Value]):
    """Values for live objects, by identity: their own ``__eq__`` and ``__hash__`` are not asked."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[weakref.ref[Any], Value]] = {}

    def get(self, thing: Any) -> Value | None:
        """Return the value of an object, None if it has none."""
        found = self._held.get(id(thing))
        return found[1] if found is not None and found[0]() is thing else None

    def set(self, thing: Any, value: Value) -> None:
        """Keep a value as long as the object lives."""
        key = id(thing)

        def forget(reference: Any, held: dict[int, Any] = self._held) -> None:
            if key in held and held[key][0] is reference:
                del held[key]

        self._held[key] = (weakref.ref(thing, forget), value)


class Watch:
    """One watched process: where events go, who is who, and how everything is put back.

    Args:
        directory: Folder of the trace.
        workdir: Folder of the run; recorded paths below it are relative to it.
        role: ``main``, ``worker`` or ``rank``.
    """

    def __init__(self, directory: Path, workdir: Path, *, role: str = "main") -> None:
        self.directory, self.workdir, self.role = directory, workdir.resolve(), role
        self.registry = Registry()
        self.stack = ExitStack()
        self.active = True
        self.closed = False
        self.after = False
        self.borders = 0
        """Optimizer steps attempted so far; the ``step`` of every event."""
        self.seconds = 0.0
        """Time spent inside observers."""
        self.failed: set[str] = set()
        self.on_border: list[Callable[[], None]] = []
        """Called after every optimizer step, once its event is written."""
        self.on_boundary: list[Callable[[], None]] = []
        """Called before the first backward or training forward after a step: where a step limit may stop the run."""
        self.on_end: list[Callable[[], None]] = []
        """Called once when the target has ended, while observers are still in place."""
        self.shared: dict[Any, Any] = {}
        """What one observer knows and another asks for."""
        self._finder: Finder | None = None
        self._n = 0
        self._local = threading.local()
        self._lock = threading.RLock()
        self._file: int | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._open()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        # A lock that another thread held at the fork would never be released here.
        self._lock = threading.RLock()
        self._local = threading.local()

    # ------------------------------------------------------------------ writing

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._pid = os.getpid()
        # A file of one's own per process, written by line: a killed process leaves everything up to its last event.
        path = self.directory / f"trace-{self._pid}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
        self._identity = _identity(self._file)

    def _write(self, line: str) -> None:
        """Append a line. A full disk or a vanished folder ends the record early; it must not end the trainer."""
        assert self._file is not None
        with suppress(OSError):
            if _identity(self._file) != self._identity:
                self._open()  # the trainer closed all files, as daemons do: the number may be one of its own by now
            os.write(self._file, line.encode())

    def emit(self, kind: str, **fields: Any) -> int:
        """Write one event and return its order."""
        with self._lock:
            if self._file is None:
                return self._n
            if os.getpid() != self._pid:
                # After a fork the file is the parent's.
                self._close_file()
                self.role = "rank" if self.role == "main" else self.role
                self._open()
            n = self._n
            self._n += 1
            event = {
                "kind": kind,
                "n": n,
                "t": time.monotonic(),
                "pid": self._pid,
                "role": self.role,
                "step": self.borders,
                "after": self.after,
            }
            self._write(encode({**event, **fields}) + "\n")
            return n

    def _close_file(self) -> None:
        if self._file is not None and _identity(self._file) == self._identity:
            os.close(self._file)
        self._file = None

    @property
    def n(self) -> int:
        """Order that the next event will get."""
        return self._n

    def path(self, path: Any) -> str | None:
        """Return a path as events show it: relative to the workdir where it lies below it."""
        if not isinstance(path, str | os.PathLike | bytes):
            return None
        whole = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 (links stay as they were given)
        return str(whole.relative_to(self.workdir)) if whole.is_relative_to(self.workdir) else str(whole)

    # ------------------------------------------------------------------ being passive

    @property
    def busy(self) -> bool:
        """Whether this thread is inside an observer: what it calls itself is not the trainer's doing."""
        return getattr(self._local, "busy", False)

    @contextmanager
    def observing(self, observer: str) -> Iterator[None]:
        """Run a piece of an observer: timed, not watched itself, its failure recorded instead of raised."""
        if self.busy or not self.active:
            yield
            return
        self._local.busy = True
        began = time.perf_counter()
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever an observer does wrong must not reach the trainer)
            self.fail(observer, error)
        finally:
            self._local.busy = False
            self.seconds += time.perf_counter() - began

    def fail(self, observer: str, error: BaseException) -> None:
        """Record that an observer failed, once."""
        if observer in self.failed:
            return
        self.failed.add(observer)
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" at {Path(place[0].filename).name}:{place[0].lineno}" if place else ""
        self.emit("observer_error", observer=observer, error=f"{type(error).__name__}: {error}{where}"[:600])

    def not_observed(self, what: str, why: str, where: str | None = None) -> None:
        """Record, once per place, that something cannot be looked into."""
        key = ("not_observed", what, where)
        if key not in self.shared:
            self.shared[key] = True
            self.emit("not_observed", what=what, why=why, where=where)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace an attribute by a wrapper of it until the watch is closed. ``make`` gets the original."""
        original = getattr(owner, name, MISSING)
        if original is MISSING:
            return
        own = owner.__dict__.get(name, MISSING) if isinstance(owner, type) else original
        wrapper = make(original)
        if callable(original):
            wrapper = _dressed(wrapper, original)
        setattr(owner, name, wrapper)

        def restore() -> None:
            current = owner.__dict__.get(name, MISSING) if isinstance(owner, type) else getattr(owner, name, MISSING)
            if current is not wrapper:
                return  # somebody replaced it after us: leave theirs; our wrapper only passes through from now on
            if own is MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

        self.stack.callback(restore)

    def when_imported(self, name: str, callback: Callable[[Any], None]) -> None:
        """Call back with a module now if it is imported, else right after it has been. Failures are recorded."""

        def guarded(module: Any) -> None:
            if self.closed:
                return
            try:  # also while nothing is recorded: laying out the data may import what trains later
                callback(module)
            except Exception as error:  # noqa: BLE001 (whatever an observer does wrong must not reach the trainer)
                self.fail(f"import of {name}", error)

        if self._finder is None:
            finder = self._finder = Finder()
            sys.meta_path.insert(0, finder)
            self.stack.callback(lambda: sys.meta_path.remove(finder) if finder in sys.meta_path else None)
        self._finder.when_imported(name, guarded)

    def close(self) -> None:
        """Put everything back and end the record."""
        self.active, self.closed = False, True
        self.stack.close()
        with self._lock:
            self._close_file()

    # ------------------------------------------------------------------ what observers tell each other

    def border(self) -> None:
        """Announce that an optimizer step was taken."""
        for callback in list(self.on_border):
            callback()

    def boundary(self) -> None:
        """Announce that a new iteration begins. May raise the step limit's exception, on purpose."""
        if self.active and not self.busy:
            for callback in list(self.on_boundary):
                callback()


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Return which file a descriptor stands for, None if it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _dressed(wrapper: Any, original: Any) -> Any:
    """Make a wrapper look like what it replaces: name, documentation, module (which pickle looks up)."""
    try:
        return functools.update_wrapper(wrapper, original)
    except (AttributeError, TypeError):
        return wrapper


def caller() -> str:
    """Return the module whose code called into the nearest wrapper of ours, skipping torch's own frames."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        module = frame.f_globals.get("__name__", "?")
        if not filename.startswith(HERE) and module.split(".")[0] not in {"torch", "contextlib", "functools"}:
            return str(module)
        frame = frame.f_back
    return "?"
