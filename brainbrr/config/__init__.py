"""The configuration of a run: typed sections, unknown keys refused."""

from brainbrr.config.base import Section
from brainbrr.config.loading import config_from_mapping, load_config
from brainbrr.config.schema import Config

__all__ = ["Config", "Section", "config_from_mapping", "load_config"]
