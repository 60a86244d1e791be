"""Preprocessed recordings on disk: one continuous array per recording, memory-mapped, windows are views of it.

An entry is one plain ``.npy`` file (any program can load it) followed by a trailer: a JSON object with the settings
and the checksum of the samples, its length in eight digits and a mark. Its name is made of the EDF file's content and
of everything that changes the samples, so a changed file or setting names another entry, and folders can be moved.
Entries appear by renaming: two processes that make the same one at once write the same bytes, and readers see either.
"""

import hashlib
import io
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brainbrr.atomic import atomic_write
from brainbrr.config.data import Cache, Data, Preprocessing
from brainbrr.errors import BrainbrrError, OutputError

# Raise when the code gives other samples for the same file and settings.
CACHE_VERSION = 1

_MARK = b"BBRCACHE"
_END = 8 + len(_MARK)
_CHUNK = 1 << 20
_DTYPES = {"float16": "<f2", "float32": "<f4"}


class DamagedEntryError(BrainbrrError):
    """A cached array is cut, altered or of another form than its name says: make it again."""


@dataclass(frozen=True)
class CacheKey:
    """Everything that changes the samples of an entry, other than the EDF file."""

    settings: str
    """JSON, keys sorted."""

    @property
    def digest(self) -> str:
        """Short hash, part of the entry's name."""
        return hashlib.blake2b(self.settings.encode(), digest_size=8).hexdigest()


def cache_key(data: Data, preprocessing: Preprocessing, cache: Cache) -> CacheKey:
    """Collect what changes the samples."""
    settings = preprocessing.model_dump(mode="json") | {
        "montage": data.montage, "dtype": cache.dtype, "version": CACHE_VERSION,
    }  # fmt: skip
    return CacheKey(json.dumps(settings, sort_keys=True))


def content_digest(path: Path) -> str:
    """Hash a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def entry_path(directory: Path, content: str, key: CacheKey) -> Path:
    """Return where the entry for a content and settings lies."""
    return directory / content[:2] / f"{content}-{key.digest}.npy"


def write_entry(path: Path, signal_CN: npt.NDArray[np.float32], key: CacheKey, source: str) -> None:
    """Write an entry.

    Args:
        path: from :func:`entry_path`.
        signal_CN: preprocessed samples.
        key: the settings that made them; their dtype is the one stored.
        source: name of the recording, to be read by people.

    Raises:
        OutputError: it cannot be written (the disk is full), or a sample does not fit the type.
    """
    dtype = json.loads(key.settings)["dtype"]
    with np.errstate(over="ignore"):  # judged below
        stored_CN = np.ascontiguousarray(signal_CN, dtype=_DTYPES[dtype])
    if not np.isfinite(stored_CN).all():
        raise OutputError(
            f"samples too large for {dtype}",
            where=source,
            got=f"{np.abs(signal_CN).max():g}",
            hint="Set cache.dtype: float32, or preprocessing.clip",
        )
    trailer = json.dumps({
        "settings": json.loads(key.settings), "source": source, "shape": stored_CN.shape,
        "crc32": zlib.crc32(stored_CN.data),
    }).encode()  # fmt: skip
    with atomic_write(path) as stream:
        stream.write(_npy_header(stored_CN.shape, stored_CN.dtype))
        stream.write(stored_CN.data)
        stream.write(trailer + f"{len(trailer):08d}".encode() + _MARK)


def read_trailer(path: Path) -> dict[str, Any]:
    """Read what an entry says about itself.

    Raises:
        FileNotFoundError: there is no entry.
        DamagedEntryError: the trailer is cut or altered.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _END))
        end = stream.read(_END)
        if len(end) < _END or end[8:] != _MARK or not end[:8].isdigit() or int(end[:8]) > size - _END:
            raise DamagedEntryError("a damaged cache entry: no trailer", where=path)
        stream.seek(size - _END - int(end[:8]))
        try:
            trailer = json.loads(stream.read(int(end[:8])))
        except ValueError:
            raise DamagedEntryError("a damaged cache entry: unreadable trailer", where=path) from None
    try:
        known = trailer["settings"]["dtype"] in _DTYPES and all(0 < n < 2**48 for n in trailer["shape"])
        sound = known and isinstance(trailer["crc32"], int) and isinstance(trailer["source"], str)
    except (TypeError, KeyError):
        sound = False
    if not sound:
        raise DamagedEntryError("a damaged cache entry: incomplete trailer", where=path)
    assert isinstance(trailer, dict)
    return trailer


def open_entry(path: Path, key: CacheKey, shape: tuple[int, int], *, verify: bool) -> npt.NDArray[np.floating[Any]]:
    """Map an entry into memory.

    Args:
        path: from :func:`entry_path`.
        key: the settings it must have been made with.
        shape: the shape it must have.
        verify: compare every sample with the checksum, which reads the file once.

    Raises:
        FileNotFoundError: there is no entry.
        DamagedEntryError: it is cut, altered, or something else than expected.
    """
    trailer = read_trailer(path)
    expected = json.loads(key.settings)
    if trailer["settings"] != expected or trailer["shape"] != list(shape):
        raise DamagedEntryError("a cache entry of other settings or shape", where=path)
    return map_entry(path, trailer, verify=verify)


def map_entry(path: Path, trailer: dict[str, Any], *, verify: bool) -> npt.NDArray[np.floating[Any]]:
    """Map an entry that is what its own trailer says.

    Raises:
        DamagedEntryError: it is not.
    """
    dtype = np.dtype(_DTYPES[trailer["settings"]["dtype"]])
    shape = tuple(trailer["shape"])
    header = _npy_header(shape, dtype)
    with path.open("rb") as stream:
        # The header is known, so it is compared instead of parsed: a damaged one could say anything.
        sound = stream.read(len(header)) == header
    if not sound or path.stat().st_size < len(header) + math.prod(shape) * dtype.itemsize + _END:
        raise DamagedEntryError("a damaged cache entry: cut, or another header", where=path)
    array = np.memmap(path, dtype, "r", len(header), shape)
    if verify and zlib.crc32(array.data) != trailer["crc32"]:
        raise DamagedEntryError("a damaged cache entry: wrong checksum", where=path)
    return array


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()
