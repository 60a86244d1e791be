"""Three seizure trainers by three hands; their faults are edits of their source, as a slip of the author would make them."""

import sys
import types
from pathlib import Path

from zoo.trainers.eeg_rigs.edits import EDITS


def _edited(rig, faults):
    """Return a rig as a module, with the edits of these faults made in its source."""
    path = Path(__file__).parent / f"{rig}.py"
    source = path.read_text(encoding="utf-8")
    for fault in sorted(faults):
        for old, new in EDITS[fault]:
            if old not in source:
                raise ValueError(f"{fault}: {old!r} is not in {path.name}")
            source = source.replace(old, new)
    module = types.ModuleType(f"{__name__}.edited_{rig}")
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def lightning(run, faults=frozenset()):
    """Lightning module and data module, configured by a YAML file."""
    _edited("lightning_rig", faults).train(run)


def notebook(run, faults=frozenset()):
    """A notebook turned into a script."""
    _edited("notebook_rig", faults).train(run)


def accelerated(run, faults=frozenset()):
    """Accelerate, dense labels, windows read lazily."""
    _edited("accelerate_rig", faults).train(run)
