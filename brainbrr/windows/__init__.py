"""Windows: preprocessing, cache, dataset and sampler.

Names are imported when they are first used: preprocessing in worker processes and commands needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

# A module and a function of one name: bound here, before the import system binds the module.
from brainbrr.windows.preprocess import preprocess

if TYPE_CHECKING:
    from brainbrr.windows.dataset import Windows
    from brainbrr.windows.loading import load_files, load_split
    from brainbrr.windows.sampler import WindowSampler, make_sampler

__all__ = ["WindowSampler", "Windows", "load_files", "load_split", "make_sampler", "preprocess"]

_HOMES = {
    "WindowSampler": "sampler",
    "Windows": "dataset",
    "load_files": "loading",
    "load_split": "loading",
    "make_sampler": "sampler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
