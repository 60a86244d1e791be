"""Write files so that a reader sees the old content or the new, never half of it, also after a power cut."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from brainbrr.errors import OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, synced and renamed to it when the block ends well.

    Raises:
        OutputError: the file cannot be written (no space, no permission, a file in the way); what was at ``path`` is
            untouched and the temporary file gone.
    """
    # Not mkstemp: its files are for their owner only, and stay so under their final name.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}",
            where=path,
            hint="What was there before is intact: make room or allow writing, then start again",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open such a temporary file for writing.

    Raises:
        OutputError: as :func:`atomic_path`.
    """
    with atomic_path(path) as temporary, temporary.open("xb") as stream:
        yield stream


def _sync_folder(folder: Path) -> None:
    """Make a renaming in ``folder`` durable, where the system can open a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
