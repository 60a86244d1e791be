"""Look after the folder of cached arrays: what is there, what is damaged, what nobody needs."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainbrr.errors import OutputError
from brainbrr.windows.cache import DamagedEntryError, map_entry, read_trailer

# A temporary file younger than this may still be written.
_LEFTOVER_S = 3600.0


@dataclass(frozen=True)
class Entry:
    """One cached array."""

    path: Path
    n_bytes: int
    source: str
    settings: str
    """JSON; empty where the entry is damaged."""


def entries(directory: Path) -> list[Entry]:
    """Return every entry below a folder, in the order of names, damaged ones too."""
    found = []
    for path in _arrays(directory):
        try:
            trailer = read_trailer(path)
        except FileNotFoundError:
            continue  # pruned meanwhile
        except DamagedEntryError:
            trailer = {"source": "", "settings": None}
        settings = json.dumps(trailer["settings"], sort_keys=True) if trailer["settings"] else ""
        found.append(Entry(path, path.stat().st_size, str(trailer["source"]), settings))
    return found


def damage(path: Path) -> str | None:
    """Read an entry whole; return what is wrong with it, or None."""
    try:
        map_entry(path, read_trailer(path), verify=True)
    except DamagedEntryError as error:
        return error.what
    return None


def leftovers(directory: Path) -> list[Path]:
    """Return temporary files that a killed process left behind."""
    old = time.time() - _LEFTOVER_S
    return [path for path in sorted(directory.glob("**/.*.partial")) if path.stat().st_mtime < old]


def remove(paths: list[Path]) -> int:
    """Remove files; return how many bytes that freed.

    Raises:
        OutputError: one cannot be removed.
    """
    freed = 0
    for path in paths:
        try:
            size = path.stat().st_size
            path.unlink()
            freed += size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"cannot be removed: {error.strerror or error}", where=path) from error
    return freed


def _arrays(directory: Path) -> Iterator[Path]:
    yield from sorted(path for path in directory.glob("??/*.npy") if not path.name.startswith("."))
