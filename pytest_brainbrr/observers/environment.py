"""What the trainer asks of its surroundings: environment variables, files, warnings, torch's switches.

Limits: reads of the environment from C, and files opened by C++, are not seen. An audit hook cannot be taken away; it
does nothing once the watch is closed.
"""

import os
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import torch

from pytest_brainbrr.observers.core import HERE, Watch, caller
from pytest_brainbrr.observers.tensors import short

INSTALLED = tuple(
    {
        str(Path(path).resolve())
        for path in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)
        if path and len(Path(path).parts) > 1 and str(Path(path)) not in {"/usr", "/usr/local", "/"}
    }
)
OUR_DOING = "Using `torch.compile(module)` when there are global hooks on modules"
"""A warning about hooks that the trainer did not place."""
IGNORED = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/lib", "/usr/share")


class Environment:
    """Writes `environment_read`, `file_open`, `warning`, `rename` and `settings` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._settings: dict[str, Any] | None = None

    def install(self) -> None:
        """Wrap os.environ and warnings, and listen to the interpreter's audit events."""
        watch = self.watch
        watch.replace(os._Environ, "__getitem__", self._wrap_read)
        watch.replace(os._Environ, "__contains__", self._wrap_contains)
        watch.replace(warnings, "warn", self._wrap_warn)
        watch.shared.setdefault("on_first_forward", []).append(self.settings)
        watch.on_end.append(self.settings)
        sys.addaudithook(self._audit)

    # ------------------------------------------------------------------ variables

    def _wrap_read(self, original: Any) -> Any:
        observer = self

        def __getitem__(environ: Any, name: Any) -> Any:  # noqa: N807
            observer._read(environ, name)
            return original(environ, name)

        return __getitem__

    def _wrap_contains(self, original: Any) -> Any:
        observer = self

        def __contains__(environ: Any, name: Any) -> Any:  # noqa: N807
            observer._read(environ, name)
            return original(environ, name)

        return __contains__

    def _read(self, environ: Any, name: Any) -> None:
        watch = self.watch
        if not watch.active or watch.busy or environ is not os.environ or not isinstance(name, str):
            return
        by, at_import = _reader()
        key = ("environment", name, by, at_import)
        if by is None or key in watch.shared:
            return
        watch.shared[key] = True
        with watch.observing("environment"):
            watch.emit(
                "environment_read",
                name=name,
                set=environ.encodekey(name) in vars(environ)["_data"],
                by=by,
                at_import=at_import,
            )

    # ------------------------------------------------------------------ files

    def _audit(self, event: str, args: Any) -> None:
        if event not in {"open", "os.rename"}:
            return
        watch = self.watch
        if not watch.active or watch.busy:
            return
        try:
            if event == "open":
                self._opened(*args)
            else:
                watch.emit("rename", source=watch.path(args[0]), to=watch.path(args[1]))
        except Exception as error:  # noqa: BLE001 (an audit hook that raises would forbid the call)
            watch.fail("environment", error)

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links stay as they were given)
        if (
            name.startswith((HERE, *IGNORED))
            or name.startswith(INSTALLED)
            or "__pycache__" in name
            or name.endswith((".py", ".pyc", ".so"))
        ):
            return
        own = self.watch.directory.resolve()
        if name.startswith(str(own)) or (name.endswith(".pkl") and Path(name).parent == own.parent.parent):
            return
        writing = bool(set(mode or "") & set("wax+")) or bool(
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        )
        if writing:
            self.watch.shared["opened_last"] = self.watch.path(name)
        key = ("file", name, writing)
        if key not in self.watch.shared or (writing and self.watch.shared.pop("buffer_written", False)):
            self.watch.shared[key] = True
            mode = "write" if writing else "read"
            self.watch.emit("file_open", path=self.watch.path(name), mode=mode, own=trainers_own(sys._getframe(2)))

    # ------------------------------------------------------------------ warnings and switches

    def _wrap_warn(self, original: Any) -> Any:
        observer = self

        def warn(message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **kwargs: Any) -> None:
            watch = observer.watch
            if watch.active and isinstance(message, str) and message.startswith(OUR_DOING):
                return
            if watch.active and not watch.busy:
                with watch.observing("environment"):
                    kind = type(message) if isinstance(message, Warning) else (category or UserWarning)
                    key = ("warning", str(message)[:120], watch.borders)
                    if key not in watch.shared:
                        watch.shared[key] = True
                        watch.emit("warning", category=kind.__name__, text=str(message)[:400], by=caller())
            # One frame more stands between the one who warns and the one who is blamed.
            original(message, category, stacklevel + 1, *args, **kwargs)

        return warn

    def settings(self) -> None:
        """Record torch's switches, at first and whenever they changed."""
        watch = self.watch
        if not watch.active:
            return
        found = {
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "default_dtype": short(torch.get_default_dtype()),
            "matmul_precision": torch.get_float32_matmul_precision(),
            "anomaly": torch.is_anomaly_enabled(),
            "cuda_available": torch.cuda.is_available(),
            "cuda_initialized": torch.cuda.is_initialized(),
        }
        if found != self._settings:
            self._settings = found
            watch.emit("settings", **found)


def trainers_own(frame: Any) -> bool:
    """Return whether the nearest frame outside the standard library runs the trainer's code."""
    while frame is not None:
        filename, name = frame.f_code.co_filename, str(frame.f_globals.get("__name__", "?"))
        if not filename.startswith((HERE, "<frozen")) and name.partition(".")[0] not in sys.stdlib_module_names:
            return not filename.startswith(INSTALLED)
        frame = frame.f_back
    return False


def _reader() -> tuple[str | None, bool]:
    """Return the module that asks, None for the installation's own code, and whether a module is being imported."""
    frame: Any = sys._getframe(2)
    while frame is not None and (
        frame.f_code.co_filename.startswith(HERE) or frame.f_globals.get("__name__") in {"os", "_collections_abc"}
    ):
        frame = frame.f_back
    if frame is None:
        return None, False
    name = str(frame.f_globals.get("__name__", "?"))
    if name.split(".", maxsplit=1)[0] in sys.stdlib_module_names or name.split(".", maxsplit=1)[0] in {
        "torch",
        "numpy",
        "pytest_brainbrr",
    }:
        return None, False
    above = frame
    while above is not None:
        if above.f_code.co_name == "<module>" and above.f_globals.get("__name__") != "__main__":
            return name, True
        above = above.f_back
    return name, False
