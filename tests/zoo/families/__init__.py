"""Further trainers, one family a file, each with a style of its own.

A family is a module that defines any of ``BASES`` (see ``zoo.cases``; each becomes a healthy ``base-NAME``), ``FAULTS``,
``HEALTHY`` and ``DIAGNOSES`` (fault -> ids of the checks that may name its cause). It is found by being here.
"""

import importlib
import pkgutil


def load():
    """Import every family; return the modules in order of their names."""
    return [importlib.import_module(f"{__name__}.{found.name}") for found in sorted(pkgutil.iter_modules(__path__))]
