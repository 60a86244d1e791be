"""Change a held-out recording before a run, so that it can be seen whether training depends on it. Imports no torch.

Which files are held out is told by their folders' names. A change keeps the format: numbers are scaled and mirrored.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_brainbrr.trace import Trace

HELD_OUT = re.compile(r"^(val|valid|validation|dev|devel|held[-_]?out|holdout)$", re.IGNORECASE)
FORMATS = frozenset({".npy", ".npz", ".edf"})
FACTOR = -1.7


def held_out(trace: Trace) -> list[str]:
    """Return the held-out files, relative to the workdir, that a run read and that can be changed."""
    left = {str(event["path"]) for event in trace.events("file_left", after=True, role=None)}
    found = []
    for event in trace.events("file_open", mode="read", role=None, after=True):
        path = PurePosixPath(str(event["path"]))
        if (
            str(path) in left
            and path.suffix.lower() in FORMATS
            and any(HELD_OUT.match(part) for part in path.parts[:-1])
        ):
            found.append(str(path))
    return sorted(set(found))


def touch(path: Path) -> bool:
    """Change the numbers in a file and keep its format; return whether anything changed."""
    before = path.read_bytes()
    if path.suffix.lower() == ".edf":
        _touch_edf(path, before)
    else:
        _touch_numpy(path)
    return path.read_bytes() != before


def _touch_numpy(path: Path) -> None:
    import numpy as np

    if path.suffix.lower() == ".npy":
        np.save(path, _changed(np.load(path)))
        return
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    largest = max(arrays, key=lambda name: arrays[name].size)
    np.savez(path, **{name: _changed(array) if name == largest else array for name, array in arrays.items()})


def _changed(array: Any) -> Any:
    """Scale and turn around along time, if these are floating numbers."""
    if array.dtype.kind != "f":
        return array
    return (array[..., ::-1] * FACTOR).astype(array.dtype)


def _touch_edf(path: Path, content: bytes) -> None:
    """Reverse the order of the data records, which leaves header, ranges and annotations' format as they are."""
    header = int(content[184:192])
    records = int(content[236:244])
    body = content[header:]
    size = len(body) // max(1, records)
    parts = [body[place * size : (place + 1) * size] for place in range(records)]
    path.write_bytes(content[:header] + b"".join(reversed(parts)) + body[records * size :])
