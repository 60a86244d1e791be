"""Trainers to hold the plugin to account: healthy bases, faults planted in them, and healthy but odd ones.

``FAULTS`` and ``HEALTHY`` are plain tables; importing them imports no torch. Each row makes a
``pytest_brainbrr.Target`` by :meth:`target`. The trainers know nothing of the plugin.
"""

from zoo import families, faults, oddities
from zoo.cases import BASES, Fault, Healthy

__all__ = ["FAULTS", "HEALTHY", "Fault", "Healthy"]

FAULTS = faults.FAULTS
HEALTHY = oddities.HEALTHY
for family in families.load():
    own = getattr(family, "BASES", {})
    BASES.update(own)
    HEALTHY += tuple(Healthy(f"base-{name}", base["trainer"], "nothing", base["facts"]) for name, base in own.items())
    HEALTHY += tuple(getattr(family, "HEALTHY", ()))
    FAULTS += tuple(getattr(family, "FAULTS", ()))
