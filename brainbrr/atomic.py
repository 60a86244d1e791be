"""Write files so that a reader sees the old content or the new, never half of it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from brainbrr.errors import OutputError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; on success flush it to disk and rename it, on any failure remove it.

    Raises:
        OutputError: the folder or the file cannot be written (no space, no permission, a file in the way).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp: its files are for their owner only, and stay so under their final name.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        handle = temporary.open("xb")
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=path) from error
    try:
        with handle as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot be written: {error.strerror or error}", where=path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
