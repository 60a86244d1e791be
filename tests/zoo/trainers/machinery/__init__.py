"""Four trainers whose faults are edits of their source, as a slip of the author would make them."""

import sys
import types
from pathlib import Path

from zoo.trainers.machinery.edits import EDITS

FOLDER = Path(__file__).parent / "sources"


def _edited(base, faults):
    """Return the trainer as a module, with the edits of these faults made in its source."""
    path = FOLDER / f"{base}.py"
    source = path.read_text(encoding="utf-8")
    for fault in sorted(faults):
        for old, new in EDITS[fault]:
            if old not in source:
                raise ValueError(f"{fault}: {old!r} is not in {path.name}")
            source = source.replace(old, new)
    module = types.ModuleType(f"{__name__}.edited_{base}")
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def callbacks(run, faults=frozenset()):
    """An engine with callbacks: accumulation, autocast, a gradient scaler, EMA, rotating checkpoints."""
    _edited("callbacks", faults).train(run)


def indexed(run, faults=frozenset()):
    """A bare script that draws its batches by index, and writes the rates itself."""
    _edited("indexed", faults).train(run)


def recoder(run, faults=frozenset()):
    """An encoder-decoder with batch normalization, GRU and attention, OneCycle, and early stopping."""
    _edited("recoder", faults).train(run)


def teaching(run, faults=frozenset()):
    """A student, its moving-average teacher, two optimizers, and weight averaging at the end."""
    _edited("teaching", faults).train(run)
