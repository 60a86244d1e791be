"""The preprocessed recordings of one configuration: made where they are missing, opened where they are there."""

import json
import logging
import os
import time
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brainbrr import environment
from brainbrr.atomic import atomic_write
from brainbrr.config.data import Cache, Data, Preprocessing
from brainbrr.errors import DataError, OutputError
from brainbrr.montage import N_CHANNELS
from brainbrr.recordings.edf import read_recording
from brainbrr.recordings.types import Recording
from brainbrr.windows import cache
from brainbrr.windows.preprocess import preprocess, resampled_length, resampling_ratio

log = logging.getLogger(__name__)

Array = npt.NDArray[np.floating[Any]]

# A file changed within this time of being looked at may change again without its time stamp telling.
_SETTLED_NS = 2_000_000_000
# Each open array holds a file descriptor.
_MOST_OPEN = 256


class Store:
    """Cached arrays of recordings under one set of settings."""

    def __init__(self, data: Data, preprocessing: Preprocessing, settings: Cache) -> None:
        self.data = data
        self.preprocessing = preprocessing
        self.settings = settings
        self.key = cache.cache_key(data, preprocessing, settings)
        folder = settings.directory
        self.directory = Path(folder).expanduser() if folder else environment.cache_dir() / "windows"
        self._contents = _Contents(self.directory / "contents.json")
        self._open: OrderedDict[str, Array] = OrderedDict()
        self._verified: set[str] = set()
        self._ratios: dict[Fraction, Fraction] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "preprocessing": self.preprocessing,
            "settings": self.settings,
            "directory": self.directory,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["data"], state["preprocessing"], state["settings"])  # type: ignore[misc]  # same class
        self.directory = state["directory"]
        self._contents = _Contents(self.directory / "contents.json")

    def n_samples(self, recording: Recording) -> int:
        """Return the length of a recording at the model's rate, without reading it."""
        if recording.rate not in self._ratios:
            self._ratios[recording.rate] = resampling_ratio(recording.rate, self.preprocessing)
        return resampled_length(recording.n_samples, self._ratios[recording.rate])

    def entry(self, recording: Recording) -> Path:
        """Return where the array of a recording lies or would lie.

        Raises:
            DataError: the EDF file cannot be read.
        """
        return cache.entry_path(self.directory, self._contents.digest(recording.path), self.key)

    def holds(self, recording: Recording) -> bool:
        """Say whether the array of a recording is there (not whether it is sound)."""
        return self.entry(recording).is_file()

    def array(self, recording: Recording) -> Array:
        """Map the array (19, N') of a recording, making it where it is missing or damaged.

        Raises:
            DataError: the recording cannot be read.
            OutputError: the array cannot be written.
        """
        if (array := self._open.get(recording.key)) is not None:
            self._open.move_to_end(recording.key)
            return array
        array = self._map(recording)
        self._verified.add(recording.key)
        self._open[recording.key] = array
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return array

    def _map(self, recording: Recording) -> Array:
        path = self.entry(recording)
        shape = (N_CHANNELS, self.n_samples(recording))
        verify = self.settings.verify and recording.key not in self._verified
        try:
            return cache.open_entry(path, self.key, shape, verify=verify)
        except FileNotFoundError:
            pass
        except cache.DamagedEntryError as damage:
            log.warning("%s: made again", damage)
        self.make(recording, path)
        return cache.open_entry(path, self.key, shape, verify=False)

    def make(self, recording: Recording, path: Path | None = None) -> Path:
        """Read and preprocess a recording and write its array.

        Raises:
            DataError: the recording cannot be read, or changed since it was indexed.
            OutputError: the array cannot be written.
        """
        path = path or self.entry(recording)
        signal_CN, rate = read_recording(recording, self.data.montage)
        same_form = (signal_CN.shape[1], rate) == (recording.n_samples, recording.rate)
        # The entry's name was made from the content before it was read.
        if not same_form or self.entry(recording) != path:
            raise DataError("the recording changed while it was in use", where=recording.path)
        try:
            ready_CN = preprocess(signal_CN, rate, self.preprocessing)
        except DataError as error:
            error.where = error.where or str(recording.path)
            raise
        cache.write_entry(path, ready_CN, self.key, recording.key)
        return path

    def remember(self) -> None:
        """Keep the digests of the EDF files, so that the next run need not read them to know them."""
        self._contents.save()


class _Contents:
    """Digests of files, by path, valid while size and time stamp stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] | None = None
        self._new: dict[str, list[Any]] = {}

    def digest(self, path: Path) -> str:
        """Return the digest of a file, reading it only if it is not the file known by this path."""
        if self._known is None:
            self._known = self._load()
        name = os.path.abspath(path)  # noqa: PTH100 - a link and its target may change apart
        try:
            stat = path.stat()
            stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            known = self._new.get(name) or self._known.get(name)
            if known is not None and known[:3] == stamp:
                return str(known[3])
            digest = cache.content_digest(path)
        except OSError as error:
            raise DataError(f"cannot be opened: {error.strerror or error}", where=path) from error
        if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
            self._new[name] = [*stamp, digest]
        return digest

    def save(self) -> None:
        """Add what was learnt to the table. Of two processes at once the last wins; the other learns again."""
        if not self._new:
            return
        self._known = self._load() | self._new
        self._new = {}
        try:
            with atomic_write(self._path) as stream:
                stream.write(json.dumps(self._known).encode())
        except OutputError as error:
            log.warning("%s: digests are not remembered", error)

    def _load(self) -> dict[str, list[Any]]:
        try:
            table = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}  # made again from the files themselves
        if not isinstance(table, dict):
            return {}
        return {str(k): v for k, v in table.items() if isinstance(v, list) and len(v) == 4}
