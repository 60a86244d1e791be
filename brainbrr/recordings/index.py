"""Know every recording exactly before any signal is read: EDF headers and label files only, remembered between runs.

What was read is kept in one file per corpus below ``BGB_CACHE_DIR``, valid while size and time stamp of both files
and the time stamp of their folder stay; it can be deleted at any time. A file that changed less than two seconds
before it was read is read again next time, because a second change might leave the same time stamp.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from brainbrr import environment
from brainbrr.atomic import atomic_write
from brainbrr.errors import DataError, OutputError
from brainbrr.recordings.corpus import Corpus
from brainbrr.recordings.edf import read_facts
from brainbrr.recordings.labels import check_end
from brainbrr.recordings.types import Located, Recording, Seizure

log = logging.getLogger(__name__)

# Raise when headers or labels are read differently.
INDEX_VERSION = 1

_SETTLED_NS = 2_000_000_000
# Label files tell whole seconds, records may be longer than one: only a difference beyond both means another recording.
_LARGEST_DIFFERENCE_S = 2.0


class MissingLabelsError(DataError):
    """A recording has no label file: refused under every policy, or it would train as background."""


def index_recordings(corpus: Corpus, located: Sequence[Located], montage: str) -> list[Recording | DataError]:
    """Index many recordings; an item that is an error says why its recording cannot be used."""
    memory = _Memory(corpus, montage)
    indexed: list[Recording | DataError] = []
    for one in located:
        try:
            indexed.append(memory.recall(one) or memory.keep(index_recording(corpus, one, montage)))
        except DataError as error:
            indexed.append(error)
    memory.save()
    return indexed


def index_recording(corpus: Corpus, located: Located, montage: str) -> Recording:
    """Read one recording's header and labels and check that they belong together.

    Raises:
        MissingLabelsError: there is no label file.
        DataError: header or labels are wrong, or do not fit each other.
    """
    if located.annotation is None:
        raise MissingLabelsError(
            "missing label file", where=located.path, hint="Every recording needs one, also those without a seizure"
        )
    facts = read_facts(located.path, montage)
    annotation = corpus.reader.annotate(located)
    duration_s = float(facts.n_samples / facts.rate)
    if annotation.duration_s is not None and abs(annotation.duration_s - duration_s) > _LARGEST_DIFFERENCE_S:
        raise DataError(
            "labels and recording differ in duration",
            where=located.annotation,
            got=f"{annotation.duration_s:g} s",
            expected=f"{duration_s:g} s of {located.path.name}",
        )
    for seizure in annotation.seizures:
        check_end(seizure, duration_s, located.annotation)
    seizures = tuple(
        Seizure(seizure.onset_s, min(seizure.offset_s, duration_s), seizure.label)
        for seizure in annotation.seizures
        if seizure.onset_s < duration_s
    )
    return _complete(located, facts.n_samples, facts.rate, facts.interpolated, seizures)


def _complete(
    located: Located, n_samples: int, rate: Fraction, interpolated: tuple[str, ...], seizures: tuple[Seizure, ...]
) -> Recording:
    return Recording(
        path=located.path,
        key=located.key,
        patient=located.patient,
        split=located.split,
        session=located.session,
        montage=located.montage,
        annotation=located.annotation,
        n_samples=n_samples,
        rate=rate,
        interpolated=interpolated,
        seizures=seizures,
    )


class _Memory:
    """What earlier runs read of a corpus."""

    def __init__(self, corpus: Corpus, montage: str) -> None:
        place = f"{os.path.abspath(corpus.directory)}|{corpus.reader.name}|{montage}|{INDEX_VERSION}"  # noqa: PTH100
        name = hashlib.blake2b(place.encode(), digest_size=12).hexdigest()
        self._path = environment.cache_dir() / "index" / f"{name}.json"
        self._known = self._load()
        self._new: dict[str, list[Any]] = {}
        self._stamps: dict[Path, list[int]] = {}

    def recall(self, located: Located) -> Recording | None:
        """Return a recording whose files did not change since they were read, or None."""
        entry = self._known.get(located.key)
        if entry is None or located.annotation is None:
            return None
        try:
            if entry[0] != self._stamp(located):
                return None
            _, n_samples, numerator, denominator, interpolated, seizures = entry
            return _complete(
                located,
                int(n_samples),
                Fraction(int(numerator), int(denominator)),
                tuple(interpolated),
                tuple(Seizure(float(onset_s), float(offset_s), str(label)) for onset_s, offset_s, label in seizures),
            )
        except (OSError, ValueError, TypeError, ZeroDivisionError):
            return None  # read again, and refused there if it must be

    def keep(self, recording: Recording) -> Recording:
        """Note a recording that was read just now."""
        stamp = self._stamp(recording)
        if time.time_ns() - max(stamp[1], *stamp[3:]) > _SETTLED_NS:
            seizures = [[one.onset_s, one.offset_s, one.label] for one in recording.seizures]
            self._new[recording.key] = [
                stamp, recording.n_samples, recording.rate.numerator, recording.rate.denominator,
                list(recording.interpolated), seizures,
            ]  # fmt: skip
        return recording

    def save(self) -> None:
        """Write what is new; of two processes at once the last wins, and the other only reads again."""
        if not self._new:
            return
        try:
            with atomic_write(self._path) as stream:
                stream.write(json.dumps(self._known | self._new, separators=(",", ":")).encode())
        except OutputError as error:
            log.warning("%s: the index is not remembered", error)

    def _stamp(self, located: Located) -> list[int]:
        assert located.annotation is not None
        signal = located.path.stat()
        if located.annotation not in self._stamps:
            labels, folder = located.annotation.stat(), located.annotation.parent.stat()
            # A list of seizures may be read otherwise when recordings appear or vanish beside it.
            self._stamps[located.annotation] = [labels.st_size, labels.st_mtime_ns, folder.st_mtime_ns]
        return [signal.st_size, signal.st_mtime_ns, *self._stamps[located.annotation]]

    def _load(self) -> dict[str, list[Any]]:
        try:
            table = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(table, dict):
            return {}
        return {key: entry for key, entry in table.items() if isinstance(entry, list) and len(entry) == 6}
