"""Find the recordings below a folder: which layout it has, and what lies where."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainbrr import environment
from brainbrr.config.data import Data
from brainbrr.errors import ConfigError, DataError
from brainbrr.recordings.registry import CorpusReader, reader, reader_names
from brainbrr.recordings.types import Located

DEMO = "demo"


@dataclass(frozen=True)
class Corpus:
    """A folder of recordings and the reader of its layout."""

    directory: Path
    reader: CorpusReader
    located: tuple[Located, ...]
    """In the order of their keys."""
    strangers: tuple[str, ...] = ()
    """EDF files whose names do not fit the layout."""


def corpus_directory(data: Data) -> Path:
    """Return the folder to read: ``BGB_DATA_DIR``, else ``data.directory``; the embedded corpus is written once.

    Raises:
        ConfigError: neither is set.
    """
    directory = environment.data_dir() or data.directory
    if directory is None:
        raise ConfigError(
            "no folder of recordings", where="data.directory", hint=f"Set it, or {environment.DATA_DIR}, or use 'demo'"
        )
    if str(directory) == DEMO:
        from brainbrr.recordings.demo import embedded_corpus  # writes EDF files, rarely needed

        return embedded_corpus()
    return Path(directory).expanduser()


def open_corpus(data: Data) -> Corpus:
    """Find every EDF file of the configured corpus and what its place says about it.

    Raises:
        DataError: no such folder, no EDF file below it, or a layout that no reader knows.
    """
    return scan_corpus(corpus_directory(data), data.corpus)


def scan_corpus(directory: Path, name: str = "auto") -> Corpus:
    """Find every EDF file below ``directory``, read by the reader called ``name``.

    Raises:
        DataError: no such folder, no EDF file below it, or a layout that no reader knows.
    """
    if not directory.is_dir():
        raise DataError("no such folder", where=directory, hint="Check data.directory and BGB_DATA_DIR")
    keys = sorted(find_edf(directory))
    if not keys:
        raise DataError("no EDF file below the data directory", where=directory)
    chosen = _recognize(directory, keys) if name == "auto" else reader(name)
    fits = [chosen.matches(key) for key in keys]
    located = tuple(chosen.locate(directory, key) for key, fit in zip(keys, fits, strict=True) if fit)
    strangers = tuple(key for key, fit in zip(keys, fits, strict=True) if not fit)
    if not located:
        raise DataError(
            f"no recording in the layout of {chosen.name!r}", where=directory, got=f"for instance {keys[0]}"
        )
    return Corpus(directory, chosen, located, strangers)


def find_edf(directory: Path) -> Iterator[str]:
    """Yield the keys of all EDF files below a folder; links to folders are followed once.

    Raises:
        DataError: a folder cannot be read.
    """
    pending = [("", str(directory))]
    seen: set[tuple[int, int]] = set()
    while pending:
        prefix, folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        if entry.is_symlink():
                            stat = entry.stat()
                            if (stat.st_dev, stat.st_ino) in seen:
                                continue
                            seen.add((stat.st_dev, stat.st_ino))
                        pending.append((f"{prefix}{entry.name}/", entry.path))
                    elif entry.name[-4:].lower() == ".edf":
                        yield prefix + entry.name
        except OSError as error:
            raise DataError(f"the folder cannot be read: {error.strerror or error}", where=folder) from error


def _recognize(directory: Path, keys: list[str]) -> CorpusReader:
    """Choose the reader whose layout most files have."""
    readers = [reader(name) for name in reader_names()]
    # A hundred files evenly over the folder tell the layouts apart; a folder of a few strangers first does not mislead.
    sample = keys[:: max(1, len(keys) // 100)]
    votes = Counter({place: sum(map(one.matches, sample)) for place, one in enumerate(readers)})
    place, most = votes.most_common(1)[0]
    if not most:
        raise DataError(
            "no known layout of a corpus",
            where=directory,
            got=f"for instance {keys[0]}",
            expected=f"that of {', '.join(one.name for one in readers)}",
            hint="Set data.corpus to the name of a registered reader",
        )
    return readers[place]
