"""Watch a function in this process and read what was recorded."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_brainbrr.observers import install
from pytest_brainbrr.trace import Trace


def watched(function: Callable[[], Any], folder: Path) -> tuple[Any, Trace]:
    """Return what the function returned, and the trace of its run."""
    # As in a child process: what pytest and its plugins hold need not be walked over at every step.
    gc.freeze()
    watch = install(folder / "trace", folder)
    try:
        result = function()
        for callback in watch.on_end:
            callback()
    finally:
        watch.close()
        gc.unfreeze()
    return result, Trace.read(folder / "trace")


def same(one: list[Any], other: list[Any]) -> bool:
    """Return whether two lists of tensors and numbers are bitwise equal."""
    import torch

    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True)
    )
