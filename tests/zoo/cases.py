"""What a planted fault and a healthy trainer are, and how each becomes a target."""

import functools
import importlib
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.corpus import prepare

SCRIPTS = Path(__file__).parent / "scripts"

VARIANTS = ("normal", "no_positives", "non_finite")

BASES: dict[str, Mapping[str, Any]] = {
    "bare": {
        "trainer": "zoo.trainers.bare:train",
        "facts": {"resumable": True, "variants": VARIANTS, "input_shape": (None, 4, 64)},
    },
    "engine": {
        "trainer": "zoo.trainers.engine:train",
        "facts": {"resumable": True, "variants": VARIANTS, "accumulation": 2},
    },
    "lit": {"trainer": "zoo.trainers.lit:train", "facts": {"resumable": True, "variants": VARIANTS}},
    "accel": {
        "trainer": "zoo.trainers.accel:train",
        "facts": {"resumable": True, "variants": VARIANTS, "accumulation": 2},
    },
    "ddp": {"trainer": "zoo.trainers.ddp:train", "facts": {"resumable": False}},
    "script": {"trainer": "train.py", "facts": {"variants": VARIANTS, "seeded": False, "resumable": False}},
}
"""The base trainers: where each one is, and the facts its owner would declare."""


def call(address, run, **options):
    """Import ``module:function`` in the process that runs it, and call it."""
    module, _, function = address.partition(":")
    return getattr(importlib.import_module(module), function)(run, **options)


def make_target(name, trainer, facts, options):
    """Make a target of a trainer's address, or of a script's file name and its arguments."""
    from pytest_brainbrr.targets import Target

    if trainer.partition(" ")[0].endswith(".py"):
        script, _, arguments = trainer.partition(" ")
        command = shlex.join([str(SCRIPTS / script), *shlex.split(arguments), *options.get("arguments", ())])
        return Target(name, script=command, **{"prepare": prepare, **facts})
    folder = str(Path(__file__).parent.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return Target(name, train=functools.partial(call, trainer, **options), **{"prepare": prepare, **facts})


@dataclass(frozen=True)
class Fault:
    """One fault planted in a base trainer."""

    name: str
    base: str
    kinds: frozenset[str]
    """Classes of fault (words of the catalogue's groups); a right diagnosis names one of them."""
    description: str
    cause: str
    """What a right diagnosis says, in words."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    """Further arguments of a script."""

    def target(self):
        base = BASES[self.base]
        if base["trainer"].partition(" ")[0].endswith(".py"):
            options = {"arguments": ("--fault", self.name, *self.arguments)}
        else:
            options = {"faults": frozenset({self.name})}
        return make_target(self.name, base["trainer"], {**base["facts"], **self.facts}, options)


@dataclass(frozen=True)
class Healthy:
    """One healthy trainer, odd in the way ``oddity`` says."""

    name: str
    trainer: str
    oddity: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def target(self):
        return make_target(self.name, self.trainer, self.facts, {})
