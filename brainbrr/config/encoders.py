"""Find encoders by name: the entry-point group ``brainbrr.encoders`` maps a name to a class with its own ``Config``.

Nothing is imported before a name is asked for, so reading the names costs no ``import torch``.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from brainbrr.errors import ConfigError

GROUP = "brainbrr.encoders"


def encoder_names() -> list[str]:
    """Return the names of the registered encoders, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def encoder_class(name: str) -> type[Any]:
    """Import and return the encoder registered as ``name``.

    Raises:
        ConfigError: no such name, two packages claim it, its import fails, or it is no encoder.
    """
    found = _unique(entry_points(group=GROUP).select(name=name))
    if not found:
        raise ConfigError("unknown encoder", got=repr(name), expected=f"one of {', '.join(encoder_names())}")
    if len(found) > 1:
        claims = " and ".join(sorted(entry.value for entry in found))
        raise ConfigError("two packages register this encoder", got=f"{name!r} as {claims}", expected="one of them")
    try:
        encoder = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the encoder {name!r} cannot be imported: {error}", where=found[0].value) from error
    if not isinstance(encoder, type) or not hasattr(encoder, "Config"):
        raise ConfigError(
            f"what is registered as {name!r} is no encoder", where=found[0].value, expected="a class with a Config"
        )
    return encoder


def _unique(entries: Any) -> list[EntryPoint]:
    # An editable install beside a built one lists the same entry point twice.
    return list({entry.value: entry for entry in entries}.values())
