"""One recording by its path, with its labels where a known layout says where they are."""

from dataclasses import replace
from pathlib import Path

from brainbrr.errors import DataError
from brainbrr.recordings.corpus import Corpus
from brainbrr.recordings.edf import read_facts
from brainbrr.recordings.index import index_recording
from brainbrr.recordings.registry import reader, reader_names
from brainbrr.recordings.types import Recording


def find_recording(path: Path, montage: str = "referential") -> Recording:
    """Index a single EDF file; without a label file beside it, it has no seizures and ``annotation`` is None.

    Raises:
        DataError: the file, or its label file, is refused.
    """
    if not path.is_file():
        raise DataError("no such file", where=path)
    # The folders above tell readers the montage and session, so the key keeps some of them.
    root = path.resolve().parents[min(4, len(path.resolve().parents) - 1)]
    key = path.resolve().relative_to(root).as_posix()
    for one in map(reader, reader_names()):
        if one.matches(key):
            located = one.locate(root, key)
            if located.annotation is not None:
                found = index_recording(Corpus(root, one, (located,)), located, montage)
                return replace(found, path=path, key=path.name)
    return unlabeled(path, montage)


def unlabeled(path: Path, montage: str = "referential") -> Recording:
    """Index a single EDF file without looking for labels.

    Raises:
        DataError: the file is refused.
    """
    facts = read_facts(path, montage)
    return Recording(
        path=path,
        key=str(path),
        patient="",
        split=None,
        session="",
        montage="",
        annotation=None,
        n_samples=facts.n_samples,
        rate=facts.rate,
        interpolated=facts.interpolated,
        seizures=(),
    )
