"""Trainers to hold the plugin to account: healthy bases, faults planted in them, and healthy but odd ones.

``FAULTS`` and ``HEALTHY`` are plain tables; importing them imports no torch. Each row makes a
``pytest_brainbrr.Target`` by :meth:`target`. The trainers know nothing of the plugin.
"""

from zoo.cases import Fault, Healthy
from zoo.faults import FAULTS
from zoo.oddities import HEALTHY

__all__ = ["FAULTS", "HEALTHY", "Fault", "Healthy"]
