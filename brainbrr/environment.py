"""The environment variables ``BGB_*``: read here, when asked, and nowhere else."""

import os
from pathlib import Path

import platformdirs

from brainbrr.errors import ConfigError

SMOKE_TEST = "BGB_SMOKE_TEST"
LIMIT_FILES = "BGB_LIMIT_FILES"
DATA_DIR = "BGB_DATA_DIR"
CACHE_DIR = "BGB_CACHE_DIR"
NAMES = (SMOKE_TEST, LIMIT_FILES, DATA_DIR, CACHE_DIR)


def smoke_test() -> bool:
    """Say whether smoke mode is on: only ``1`` is on; unset, empty and ``0`` are off.

    Raises:
        ConfigError: for any other value, never a guess.
    """
    value = os.environ.get(SMOKE_TEST, "")
    if value not in ("", "0", "1"):
        raise ConfigError(
            "unknown value of an environment variable",
            where=SMOKE_TEST,
            got=repr(value),
            expected="1 (on) or 0 (off)",
        )
    return value == "1"


def limit_files() -> int | None:
    """Return how many recordings of each split to use, in name order, or None for all.

    Raises:
        ConfigError: unless the variable is unset, empty or a positive integer.
    """
    value = os.environ.get(LIMIT_FILES, "")
    if value == "":
        return None
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ConfigError(
            "not a number of recordings", where=LIMIT_FILES, got=repr(value), expected="a positive integer"
        )
    return int(value)


def data_dir() -> Path | None:
    """Return the corpus folder that overrides ``data.directory``, or None."""
    value = os.environ.get(DATA_DIR, "")
    return Path(value).expanduser() if value else None


def cache_dir() -> Path:
    """Return the folder for what can be made again (preprocessed arrays, the demo corpus)."""
    value = os.environ.get(CACHE_DIR, "")
    return Path(value).expanduser() if value else Path(platformdirs.user_cache_dir("brainbrr"))


def in_force() -> dict[str, str]:
    """Return the variables that are set, for the run's record and its checkpoints."""
    return {name: os.environ[name] for name in NAMES if os.environ.get(name)}
