# ruff: noqa: INP001 (a folder for PYTHONPATH, no package)
"""Watch Python processes that a watched run starts: ranks and spawned loader workers. Found by way of PYTHONPATH.

Does nothing unless the variable BRAINBRR_WATCHED or BRAINBRR_GUARDED is set, and watches nothing before torch is
imported. A sitecustomize of the user's own is run as it would have been.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_HERE = str(Path(__file__).resolve().parent)


def _run_the_users_own() -> None:
    others = [path for path in sys.path if path and str(Path(path).resolve()) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _watch() -> None:
    sys.path.append(str(Path(_HERE).parent.parent))
    from pytest_brainbrr.ranks import guard, wait_for_torch

    if os.environ.get("BRAINBRR_GUARDED"):
        guard(os.environ["BRAINBRR_GUARDED"])
    if os.environ.get("BRAINBRR_WATCHED"):
        wait_for_torch(os.environ["BRAINBRR_WATCHED"])


_run_the_users_own()
if os.environ.get("BRAINBRR_WATCHED") or os.environ.get("BRAINBRR_GUARDED"):
    _watch()
