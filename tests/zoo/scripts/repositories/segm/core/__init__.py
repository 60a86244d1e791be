"""Registry, models, data, runner."""

from . import data, models  # noqa: F401 (they register themselves)
