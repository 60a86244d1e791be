"""Change single keys of a configuration that a checkpoint holds."""

from collections.abc import Sequence
from pathlib import Path

from brainbrr.config import Config, config_from_mapping
from brainbrr.config.loading import apply_override


def with_overrides(config: Config, overrides: Sequence[str], where: Path) -> Config:
    """Return ``config`` with ``section.key=value`` applied.

    Raises:
        ConfigError: an override is malformed, or names an unknown key or a wrong value.
    """
    if not overrides:
        return config
    tree = config.model_dump(mode="json")
    for override in overrides:
        apply_override(tree, override)
    return config_from_mapping(tree, where)
